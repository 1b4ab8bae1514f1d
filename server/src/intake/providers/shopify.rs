//! Shopify: `X-Shopify-Hmac-SHA256: <base64>` over the body.
//!
//! Source: Shopify, "Verify the origin of webhooks".

use super::message;
use super::signature::{Part, check_sha256, raw_keys};
use super::standard::from_base64;
use super::{Facts, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
) -> Result<usize, Rejected> {
    let header = request
        .single("x-shopify-hmac-sha256")?
        .ok_or(Rejected("X-Shopify-Hmac-SHA256 is missing"))?;
    let digest = parse(header)?;
    check_sha256(&raw_keys(secrets), request, &[Part::Body], &[digest])
}

/// The digest in the header.
pub fn parse(header: &[u8]) -> Result<Vec<u8>, Rejected> {
    from_base64(header, 32)
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    Facts {
        event_type: message::header(request, "x-shopify-topic").unwrap_or_default(),
        delivery_id: message::id_header(request, "x-shopify-webhook-id"),
        attempt: None,
    }
}
