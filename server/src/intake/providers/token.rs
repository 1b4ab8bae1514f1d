//! PIPEFORCE's way: the secret is a `uuid` or `token` (the same thing) in the query, a form, or a header (seed 004).
//!
//! Nothing is signed, and whoever sees the URL may send: it is left out of what is stored.

use super::message::{is_form, pair};
use super::signature::check_tokens;
use super::{IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;

/// The names it may have, in every place.
pub(super) const NAMES: &[&str] = &["uuid", "token"];

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
) -> Result<usize, Rejected> {
    let mut found = Vec::new();
    for name in NAMES {
        found.extend(request.single(name)?.map(<[u8]>::to_vec));
        found.extend(pair(request.query().as_bytes(), name)?.map(String::into_bytes));
        if is_form(request) {
            found.extend(pair(&request.whole_body()?, name)?.map(String::into_bytes));
        }
    }
    if found.is_empty() {
        return Err(Rejected(
            "there is no uuid or token in query, form or header",
        ));
    }
    check_tokens(secrets, &found)
}
