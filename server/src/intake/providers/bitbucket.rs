//! Bitbucket Cloud and Data Center: `X-Hub-Signature: sha256=<hex>` over the body.
//!
//! Source: Atlassian, "Manage webhooks" (the prefix names the algorithm; no other than SHA-256 is taken).

use super::message;
use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::{Facts, Handshake, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
) -> Result<usize, Rejected> {
    let header = request
        .single("x-hub-signature")?
        .ok_or(Rejected("X-Hub-Signature is missing"))?;
    let digest = parse(header)?;
    check_sha256(&raw_keys(secrets), request, &[Part::Body], &[digest])
}

/// The digest in the header.
pub fn parse(header: &[u8]) -> Result<Vec<u8>, Rejected> {
    let hex = header
        .strip_prefix(b"sha256=")
        .ok_or(Rejected("X-Hub-Signature does not begin with sha256="))?;
    digest_from_hex(hex)
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    let ids = ["x-request-uuid", "x-request-id"];
    Facts {
        event_type: message::header(request, "x-event-key").unwrap_or_default(),
        delivery_id: ids
            .iter()
            .find_map(|name| message::id_header(request, name)),
        attempt: message::header(request, "x-attempt-number")
            .and_then(|number| number.parse().ok()),
    }
}

/// Data Center's "test connection".
pub(super) fn handshake(request: &IncomingRequest) -> Option<Handshake> {
    let event = message::header(request, "x-event-key")?;
    (event == "diagnostics:ping").then(|| Handshake::text("pong"))
}
