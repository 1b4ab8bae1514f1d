//! CircleCI's outbound webhooks: `circleci-signature: v1=<hex>` over the body; `circleci-event-type` must agree with it.
//!
//! Source: seed 001.

use super::entries::{decoded, with_prefix};
use super::message::{self, Message};
use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::{Facts, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;
use serde_json::Value;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
) -> Result<usize, Rejected> {
    let header = request
        .single("circleci-signature")?
        .ok_or(Rejected("circleci-signature is missing"))?;
    let digests = parse(header)?;
    let secret = check_sha256(&raw_keys(secrets), request, &[Part::Body], &digests)?;
    // The one header that can be checked: the signed body repeats it.
    let body = Message::signed(request, &["type"])?;
    if let (Some(said), Some(event)) = (body.get("type"), request.single("circleci-event-type")?)
        && said.as_str().map(str::as_bytes) != Some(event)
    {
        return Err(Rejected("circleci-event-type is not the body's type"));
    }
    Ok(secret)
}

/// The digests of the version `v1`.
pub fn parse(header: &[u8]) -> Result<Vec<Vec<u8>>, Rejected> {
    decoded(&with_prefix(header, b',', b"v1=")?, digest_from_hex)
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    let body = Message::of(request, &["type", "id"]);
    let said = body.get("type").and_then(Value::as_str);
    Facts {
        event_type: said
            .and_then(message::word)
            .or_else(|| message::header(request, "circleci-event-type"))
            .unwrap_or_default(),
        delivery_id: body.id("id"),
        attempt: None,
    }
}
