//! PagerDuty (v3): `X-PagerDuty-Signature: v1=<hex>,v1=<hex>` over the body.
//!
//! Source: PagerDuty, "Verifying webhook signatures".

use super::entries::{decoded, with_prefix};
use super::message::{Message, id, word};
use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::{Facts, Handshake, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
) -> Result<usize, Rejected> {
    let header = request
        .single("x-pagerduty-signature")?
        .ok_or(Rejected("X-PagerDuty-Signature is missing"))?;
    let digests = parse(header)?;
    check_sha256(&raw_keys(secrets), request, &[Part::Body], &digests)
}

/// The digests of the version `v1`.
pub fn parse(header: &[u8]) -> Result<Vec<Vec<u8>>, Rejected> {
    decoded(&with_prefix(header, b',', b"v1=")?, digest_from_hex)
}

/// `event` of v3, or the first of `messages` of v2.
pub(super) fn facts(request: &IncomingRequest) -> Facts {
    let body = Message::of(request, &["event", "messages"]);
    let event_type = body.inner_word("event", "event_type");
    let field = |name: &str| body.get("messages")?.get(0)?.get(name)?.as_str();
    let event_id = || body.get("event")?.get("id")?.as_str();
    Facts {
        event_type: event_type
            .or_else(|| field("event").and_then(word))
            .unwrap_or_default(),
        delivery_id: event_id().and_then(id).or_else(|| field("id").and_then(id)),
        attempt: None,
    }
}

/// "Send test event".
pub(super) fn handshake(request: &IncomingRequest) -> Option<Handshake> {
    (facts(request).event_type == "pagey.ping").then(|| Handshake::text("pong"))
}
