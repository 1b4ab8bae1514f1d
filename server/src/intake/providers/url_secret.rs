//! The secret in the URL: `?secret=` of CircleCI's custom webhooks (seed 001), `?webhook_token=` of Concourse.
//!
//! Nothing is signed, and whoever sees the URL may send: it is left out of what is stored.

use super::message::pair;
use super::signature::check_tokens;
use super::{Facts, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

/// The names it may have.
const NAMES: &[&str] = &["secret", "webhook_token"];

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
) -> Result<usize, Rejected> {
    check_tokens(secrets, &parse(request.query())?)
}

/// The decoded secrets in a query, at least one.
pub fn parse(query: &str) -> Result<Vec<String>, Rejected> {
    let mut found = Vec::new();
    for name in NAMES {
        found.extend(pair(query.as_bytes(), name)?);
    }
    if found.is_empty() {
        return Err(Rejected("neither ?secret= nor ?webhook_token= is there"));
    }
    Ok(found)
}

pub(super) fn facts() -> Facts {
    Facts {
        event_type: "custom_webhook".to_owned(),
        ..Facts::default()
    }
}
