//! Sentry: `Sentry-Hook-Signature: <hex>` over the body.
//!
//! Source: Sentry, "Integration platform: webhooks". `Sentry-Hook-Timestamp` is not signed and decides nothing.

use super::message;
use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::{Facts, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
) -> Result<usize, Rejected> {
    let header = request
        .single("sentry-hook-signature")?
        .ok_or(Rejected("Sentry-Hook-Signature is missing"))?;
    let digest = parse(header)?;
    check_sha256(&raw_keys(secrets), request, &[Part::Body], &[digest])
}

/// The digest in the header.
pub fn parse(header: &[u8]) -> Result<Vec<u8>, Rejected> {
    digest_from_hex(header)
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    Facts {
        event_type: message::header(request, "sentry-hook-resource").unwrap_or_default(),
        delivery_id: message::id_header(request, "request-id"),
        attempt: None,
    }
}
