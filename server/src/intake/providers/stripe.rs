//! Stripe: `Stripe-Signature: t=<seconds>,v1=<hex>` over `<t>.<body>`; the key is the whole text `whsec_…`.
//!
//! Source: Stripe, "Verify webhook signatures". While a secret is rolled there are several `v1`. Stripe's libraries
//! look for old messages only; here one from the future is refused too.

use super::entries::{decoded, one, with_prefix};
use super::message::Message;
use super::signature::{Part, check_sha256, digest_from_hex, raw_keys};
use super::timestamp::{TOLERANCE_SECONDS, fresh, seconds};
use super::{Facts, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// `t` as it stands, which is what is signed.
    pub timestamp: &'a [u8],
    /// The same as a number, in seconds since 1970.
    pub sent: i64,
    /// Digests of the version `v1`.
    pub digests: Vec<Vec<u8>>,
}

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let header = request
        .single("stripe-signature")?
        .ok_or(Rejected("Stripe-Signature is missing"))?;
    let signature = parse(header)?;
    fresh(signature.sent, now, TOLERANCE_SECONDS)?;
    let parts = [
        Part::Text(signature.timestamp),
        Part::Text(b"."),
        Part::Body,
    ];
    check_sha256(&raw_keys(secrets), request, &parts, &signature.digests)
}

/// Reads the header.
pub fn parse(header: &[u8]) -> Result<Signature<'_>, Rejected> {
    let timestamp = one(header, b',', b"t=")?;
    Ok(Signature {
        timestamp,
        sent: seconds(timestamp)?,
        digests: decoded(&with_prefix(header, b',', b"v1=")?, digest_from_hex)?,
    })
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    let body = Message::of(request, &["type", "id"]);
    Facts {
        event_type: body.word("type").unwrap_or_default(),
        delivery_id: body.id("id"),
        attempt: None,
    }
}
