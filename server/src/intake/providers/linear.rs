//! Linear: `Linear-Signature: <hex>` over the body, in which the time is.
//!
//! Source: Linear, "Webhooks". The body's `webhookTimestamp` is signed; `Linear-Timestamp` is not and counts only where
//! the body has none.

use super::message::{self, Message};
use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::timestamp::{fresh, seconds};
use super::{Facts, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

/// How far the timestamp may be from now, in milliseconds, either way (Linear's advice).
const TOLERANCE_MS: u64 = 60_000;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let header = request
        .single("linear-signature")?
        .ok_or(Rejected("Linear-Signature is missing"))?;
    let digest = parse(header)?;
    let secret = check_sha256(&raw_keys(secrets), request, &[Part::Body], &[digest])?;
    // Only now: what nobody signed is not parsed.
    let body = Message::signed(request, &["webhookTimestamp"])?;
    let sent_ms = match (
        body.get("webhookTimestamp"),
        request.single("linear-timestamp")?,
    ) {
        (Some(sent), _) => sent
            .as_i64()
            .ok_or(Rejected("webhookTimestamp is no number of milliseconds"))?,
        (None, Some(header)) => seconds(header)?,
        (None, None) => {
            return Err(Rejected(
                "neither webhookTimestamp nor Linear-Timestamp is there",
            ));
        }
    };
    fresh(sent_ms, now.saturating_mul(1000), TOLERANCE_MS)?;
    Ok(secret)
}

/// The digest in the header.
pub fn parse(header: &[u8]) -> Result<Vec<u8>, Rejected> {
    digest_from_hex(header)
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    Facts {
        event_type: message::header(request, "linear-event")
            .or_else(|| Message::of(request, &["type"]).word("type"))
            .unwrap_or_default(),
        delivery_id: message::id_header(request, "linear-delivery"),
        attempt: None,
    }
}
