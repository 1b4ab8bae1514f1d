//! Stripe: `Stripe-Signature: t=<seconds>,v1=<hex>` over `<t>.<body>`; the key is the whole text `whsec_…`.
//!
//! Source: Stripe, "Verify webhook signatures". While a secret is rolled there are several `v1`. Stripe's libraries
//! look for old messages only; here one from the future is refused too.

use super::dated::Dated;
use super::message::Message;
use super::{Facts, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let header = request
        .single("stripe-signature")?
        .ok_or(Rejected("Stripe-Signature is missing"))?;
    parse(header)?.verify(request, secrets, now)
}

/// Reads the header.
pub fn parse(header: &[u8]) -> Result<Dated<'_>, Rejected> {
    Dated::parse(header, b"t=", b"v1=")
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    let body = Message::of(request, &["type", "id"]);
    Facts {
        event_type: body.word("type").unwrap_or_default(),
        delivery_id: body.id("id"),
        attempt: None,
    }
}
