//! GitHub: `X-Hub-Signature-256: sha256=<hex>` over the body.

use super::signature::{check, digest_from_hex};
use super::{IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

pub(super) fn event_type(request: &IncomingRequest) -> String {
    let value = request.headers.get("x-github-event");
    value
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default()
}

pub(super) fn verify(request: &IncomingRequest, secrets: &[WebhookSecret]) -> Result<(), Rejected> {
    let header = request
        .single("x-hub-signature-256")?
        .ok_or(Rejected("X-Hub-Signature-256 is missing"))?;
    let hex = header
        .strip_prefix(b"sha256=")
        .ok_or(Rejected("X-Hub-Signature-256 does not begin with sha256="))?;
    check(secrets, &[&request.body], &digest_from_hex(hex)?)
}
