//! Buildkite: `X-Buildkite-Signature: timestamp=<seconds>,signature=<hex>` over `<timestamp>.<body>`, or
//! `X-Buildkite-Token: <secret>`.
//!
//! Source: Buildkite, "Webhooks: HTTP headers". A service sends the one or the other.

use super::entries::{decoded, one, with_prefix};
use super::message;
use super::signature::{Part, check_sha256, check_tokens, digest_from_hex, raw_keys};
use super::stripe::Signature;
use super::timestamp::{TOLERANCE_SECONDS, fresh, seconds};
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
    let signature = parse(header)?;
    fresh(signature.sent, now, TOLERANCE_SECONDS)?;
    let parts = [
        Part::Text(signature.timestamp),
        Part::Text(b"."),
        Part::Body,
    ];
    check_sha256(&raw_keys(secrets), request, &parts, &signature.digests)
}

/// Reads the header.
pub fn parse(header: &[u8]) -> Result<Signature<'_>, Rejected> {
    let timestamp = one(header, b',', b"timestamp=")?;
    Ok(Signature {
        timestamp,
        sent: seconds(timestamp)?,
        digests: decoded(&with_prefix(header, b',', b"signature=")?, digest_from_hex)?,
    })
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
