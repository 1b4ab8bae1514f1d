//! GitHub: `X-Hub-Signature-256: sha256=<hex>` over the body, also if that is a form.
//!
//! Source: GitHub, "Validating webhook deliveries". The older `X-Hub-Signature` with SHA-1 is not looked at.

use super::message;
use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::{Facts, Handshake, IncomingRequest, Rejected};
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

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    Facts {
        event_type: message::header(request, "x-github-event").unwrap_or_default(),
        // The same when somebody asks GitHub to deliver again.
        delivery_id: message::id_header(request, "x-github-delivery"),
        attempt: None,
    }
}

pub(super) fn handshake(request: &IncomingRequest) -> Option<Handshake> {
    let event = message::header(request, "x-github-event")?;
    (event == "ping").then(|| Handshake::text("pong"))
}
