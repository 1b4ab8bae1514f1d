//! Honeybadger: `Honeybadger-Token: <secret>`; nothing is signed.
//!
//! Source: Honeybadger, "Webhook integration".

use super::message::Message;
use super::signature::check_tokens;
use super::{Facts, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
) -> Result<usize, Rejected> {
    let token = request
        .single("honeybadger-token")?
        .ok_or(Rejected("Honeybadger-Token is missing"))?;
    check_tokens(secrets, &[token])
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    Facts {
        event_type: Message::of(request, &["event"])
            .word("event")
            .unwrap_or_default(),
        ..Facts::default()
    }
}
