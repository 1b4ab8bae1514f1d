//! GitLab: `X-Gitlab-Token: <secret>`, or its signing token, which is Standard Webhooks' scheme; either suffices.
//!
//! Sources: GitLab, "Webhooks"; merge request 230944. Whether a signing token's key is always base64 is not documented,
//! so a secret is tried both decoded and as it stands.

use super::message;
use super::signature::{Key, check_sha256, check_tokens, raw_keys};
use super::standard::{self, Signed};
use super::{Facts, IncomingRequest, Rejected};
use crate::model::pipeline::WebhookSecret;
use std::borrow::Cow;

pub(super) fn verify(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let token = request.single("x-gitlab-token")?;
    let signed = match request.single("webhook-signature")? {
        Some(_) => signing_token(request, secrets, now),
        None => Err(Rejected(
            "neither X-Gitlab-Token nor webhook-signature is there",
        )),
    };
    match (signed, token) {
        (Ok(secret), _) => Ok(secret),
        // While a point moves from the token to the signing token, only one of the two may be known here. That is no
        // weaker than the token alone: whoever sees it may leave the signature out.
        (Err(_), Some(token)) => check_tokens(secrets, &[token]),
        (Err(rejected), None) => Err(rejected),
    }
}

fn signing_token(
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<usize, Rejected> {
    let signed = Signed::read(request, "webhook-", now)?;
    let mut keys = raw_keys(secrets);
    for (secret, text) in secrets.iter().enumerate() {
        if let Some(key) = standard::symmetric_key(text.expose()) {
            keys.push(Key {
                secret,
                bytes: Cow::Owned(key),
            });
        }
    }
    check_sha256(&keys, request, &signed.parts(), &signed.signatures.v1)
}

pub(super) fn facts(request: &IncomingRequest) -> Facts {
    let ids = ["webhook-id", "idempotency-key", "x-gitlab-event-uuid"];
    Facts {
        event_type: message::header(request, "x-gitlab-event").unwrap_or_default(),
        delivery_id: ids
            .iter()
            .find_map(|name| message::id_header(request, name)),
        attempt: None,
    }
}
