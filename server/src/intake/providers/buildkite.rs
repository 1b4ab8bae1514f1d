//! Buildkite: `X-Buildkite-Signature: timestamp=<seconds>,signature=<hex>` over `<timestamp>.<body>`, or
//! `X-Buildkite-Token: <secret>`.
//!
//! Source: Buildkite, "Webhooks: HTTP headers". A service sends the one or the other.

use super::dated::Dated;
use super::message;
use super::signature::check_tokens;
use super::{Facts, Handshake, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let token = request.single("x-buildkite-token")?;
    let Some(header) = request.single("x-buildkite-signature")? else {
        let token = token.ok_or(Rejected(
            "neither X-Buildkite-Signature nor X-Buildkite-Token is there",
        ))?;
        return check_tokens(secrets, &[token]);
    };
    parse(header)?.verify(request, secrets, now)
}

/// Reads the header.
pub fn parse(header: &[u8]) -> Result<Dated<'_>, Rejected> {
    Dated::parse(header, b"timestamp=", b"signature=")
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    Facts {
        event_type: message::header(request, "x-buildkite-event").unwrap_or_default(),
        // None is documented.
        delivery_id: None,
        attempt: None,
    }
}

/// Sent when a notification service is made.
pub(super) fn handshake(request: &IncomingRequest) -> Option<Handshake> {
    let event = message::header(request, "x-buildkite-event")?;
    (event == "ping").then(|| Handshake::text("pong"))
}
