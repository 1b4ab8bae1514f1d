//! GitHub: `X-Hub-Signature-256: sha256=<hex>` over the body, also if that is a form.

use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::{IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
) -> Result<usize, Rejected> {
    let header = request
        .single("x-hub-signature-256")?
        .ok_or(Rejected("X-Hub-Signature-256 is missing"))?;
    let digest = parse(header)?;
    check_sha256(&raw_keys(secrets), request, &[Part::Body], &[digest])
}

/// The digest in the header.
pub fn parse(header: &[u8]) -> Result<Vec<u8>, Rejected> {
    let hex = header
        .strip_prefix(b"sha256=")
        .ok_or(Rejected("X-Hub-Signature-256 does not begin with sha256="))?;
    digest_from_hex(hex)
}
