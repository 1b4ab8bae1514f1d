//! Slack: `X-Slack-Signature: v0=<hex>` over `v0:<timestamp>:<body>`, the timestamp being fresh.
//!
//! Source: Slack, "Verifying requests from Slack". Commands and interactions come as forms, events as JSON.

use super::message::{self, Message, form_field, id, is_form, word};
use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::timestamp::{TOLERANCE_SECONDS, fresh, seconds};
use super::{Facts, Handshake, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;
use serde_json::{Value, json};

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let signature = request
        .single("x-slack-signature")?
        .ok_or(Rejected("X-Slack-Signature is missing"))?;
    let timestamp = request
        .single("x-slack-request-timestamp")?
        .ok_or(Rejected("X-Slack-Request-Timestamp is missing"))?;
    fresh(seconds(timestamp)?, now, TOLERANCE_SECONDS)?;
    let digest = parse(signature)?;
    let parts = [
        Part::Text(b"v0:"),
        Part::Text(timestamp),
        Part::Text(b":"),
        Part::Body,
    ];
    check_sha256(&raw_keys(secrets), request, &parts, &[digest])
}

/// The digest in the header.
pub fn parse(header: &[u8]) -> Result<Vec<u8>, Rejected> {
    let hex = header
        .strip_prefix(b"v0=")
        .ok_or(Rejected("X-Slack-Signature does not begin with v0="))?;
    digest_from_hex(hex)
}

/// Of a form: the command, or what the JSON in `payload` says; else what the body says.
pub(super) fn facts(request: &IncomingRequest) -> Facts {
    let attempt = message::header(request, "x-slack-retry-num")
        .and_then(|number| number.parse::<u32>().ok()?.checked_add(1));
    if !is_form(request) {
        let body = Message::of(request, &["type", "event_id"]);
        return Facts {
            event_type: body.word("type").unwrap_or_default(),
            delivery_id: body.id("event_id"),
            attempt,
        };
    }
    let (event_type, delivery_id) = match form_field(request, "payload") {
        Some(payload) => {
            let payload = Message::parse(payload.as_bytes(), &["type", "trigger_id"]);
            (payload.word("type"), payload.id("trigger_id"))
        }
        None => {
            let field = |name| form_field(request, name);
            (
                field("command").as_deref().and_then(word),
                field("trigger_id").as_deref().and_then(id),
            )
        }
    };
    Facts {
        event_type: event_type.unwrap_or_default(),
        delivery_id,
        attempt,
    }
}

/// `url_verification` gets its challenge back, `ssl_check` an empty answer.
pub(super) fn handshake(request: &IncomingRequest) -> Option<Handshake> {
    if is_form(request) {
        let check = form_field(request, "ssl_check")?;
        return (check == "1").then(|| Handshake::text(""));
    }
    let body = Message::of(request, &["type", "challenge"]);
    if body.get("type")?.as_str()? != "url_verification" {
        return None;
    }
    let challenge = body.get("challenge").and_then(Value::as_str)?;
    Some(Handshake::json(200, &json!({ "challenge": challenge })))
}
