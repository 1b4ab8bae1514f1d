//! Everybody else: `X-Webhook-Signature: <hex>`, or `?signature=<hex>` where headers cannot be set.
//!
//! With `X-Webhook-Timestamp: <seconds>` the signature is over `<seconds>.<body>`, and must be fresh.

use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::timestamp::{TOLERANCE_SECONDS, fresh, seconds};
use super::{Facts, IncomingRequest, Rejected, message};
use crate::model::binding::GenericTimestamp;
use crate::model::pipeline::WebhookSecret;
use std::borrow::Cow;

pub(super) fn verify(
    mode: GenericTimestamp,
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let signature = match request.single("x-webhook-signature")? {
        Some(header) => Cow::Borrowed(header),
        None => Cow::Owned(signature_in_query(request.query())?.into_bytes()),
    };
    let digest = [parse(&signature)?];
    let timestamp = match mode {
        GenericTimestamp::Ignored => None,
        GenericTimestamp::IfPresent | GenericTimestamp::Required => {
            request.single("x-webhook-timestamp")?
        }
    };
    let keys = raw_keys(secrets);
    let Some(timestamp) = timestamp else {
        if mode == GenericTimestamp::Required {
            return Err(Rejected("X-Webhook-Timestamp is missing"));
        }
        return check_sha256(&keys, request, &[Part::Body], &digest);
    };
    fresh(seconds(timestamp)?, now, TOLERANCE_SECONDS)?;
    let parts = [Part::Text(timestamp), Part::Text(b"."), Part::Body];
    check_sha256(&keys, request, &parts, &digest)
}

/// The digest in the header or the query; some senders name the algorithm.
pub fn parse(signature: &[u8]) -> Result<Vec<u8>, Rejected> {
    digest_from_hex(signature.strip_prefix(b"sha256=").unwrap_or(signature))
}

fn signature_in_query(query: &str) -> Result<String, Rejected> {
    let mut found =
        url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "signature");
    let (_, signature) = found.next().ok_or(Rejected(
        "neither X-Webhook-Signature nor ?signature= is there",
    ))?;
    if found.next().is_some() {
        return Err(Rejected::SEVERAL_IN_QUERY);
    }
    Ok(signature.into_owned())
}

/// The type of the event is what seed 000 says, nothing, unless the point was bound to such senders.
pub(super) fn facts(bound: bool, request: &IncomingRequest) -> Facts {
    let event = bound
        .then(|| message::header(request, "x-event-type"))
        .flatten();
    let ids = ["idempotency-key", "x-delivery-id"];
    Facts {
        event_type: event.unwrap_or_default(),
        delivery_id: ids
            .iter()
            .find_map(|name| message::id_header(request, name)),
        attempt: None,
    }
}
