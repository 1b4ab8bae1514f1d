//! Everybody else: `X-Webhook-Signature: <hex>`, or `?signature=<hex>` where headers cannot be set.

use super::signature::{check, digest_from_hex};
use super::{IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

pub(super) fn verify(request: &IncomingRequest, secrets: &[WebhookSecret]) -> Result<(), Rejected> {
    let header = request.single("x-webhook-signature")?;
    let from_query;
    let signature = match header {
        Some(header) => header,
        None => {
            from_query = signature_in_query(request.query())?;
            from_query.as_bytes()
        }
    };
    // Some senders name the algorithm.
    let hex = signature.strip_prefix(b"sha256=").unwrap_or(signature);
    check(secrets, &[&request.body], &digest_from_hex(hex)?)
}

fn signature_in_query(query: &str) -> Result<String, Rejected> {
    let mut found =
        url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "signature");
    let (_, signature) = found.next().ok_or(Rejected(
        "neither X-Webhook-Signature nor ?signature= is there",
    ))?;
    if found.next().is_some() {
        return Err(Rejected("?signature= came more than once"));
    }
    Ok(signature.into_owned())
}
