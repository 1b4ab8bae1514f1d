//! What can be said about a request before anything is stored: may it come, is it signed, is it wanted.

use super::hook::Hook;
use super::providers::{self, Facts, ProviderKind};
use super::request::IncomingRequest;
use crate::model::pipeline::Pipeline;
use crate::model::receipt::{Receipt, Verdict};
use crate::runs::Runs;
use crate::store;
use serde_json::Value;
use time::OffsetDateTime;

/// Why a request starts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) verdict: Verdict,
    /// For the operator; the caller is not told which check failed.
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            verdict,
            reason: reason.into(),
        }
    }
}

/// Who sent a request, as far as that is known.
pub(super) struct Sender {
    pub(super) provider: ProviderKind,
    pub(super) facts: Facts,
    /// Whether it proved to know a secret, and which.
    pub(super) verified: bool,
    pub(super) secret_id: Option<String>,
}

/// Checks the signature with the secrets that are taken now.
pub(super) fn verify(hook: &Hook, request: &IncomingRequest) -> Result<Sender, Refusal> {
    let unauthorized = |reason: &str| Refusal::new(Verdict::Unauthorized, reason);
    if hook.lacks_secrets() {
        return Err(unauthorized(
            "all secrets of the endpoint have come to their end",
        ));
    }
    if let Some(token) = &hook.token {
        // The secret id in the URL is the credential; it was found by it.
        let provider = ProviderKind::Token;
        return Ok(Sender {
            provider,
            facts: providers::facts(&hook.binding, provider, request),
            verified: true,
            secret_id: Some(token.clone()),
        });
    }
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let verified =
        providers::verify(&hook.binding, request, &hook.secrets, now).map_err(|rejected| {
            match rejected.is_ambiguous() {
                true => Refusal::new(Verdict::Malformed, rejected.0),
                false => unauthorized(rejected.0),
            }
        })?;
    Ok(Sender {
        provider: verified.provider,
        facts: providers::facts(&hook.binding, verified.provider, request),
        verified: verified.secret.is_some(),
        secret_id: verified.secret.and_then(|secret| hook.secret_id(secret)),
    })
}

/// Whether a run that the request starts has no rights: only its pipeline can lend it some.
pub(super) fn is_anonymous(receipt: &Receipt, pipeline: &Pipeline) -> bool {
    !receipt.verified && !pipeline.lends_rights()
}

/// Whether a filter lets a request through; otherwise why not.
pub(super) async fn passes(
    runs: &Runs,
    filter: &str,
    receipt: &Receipt,
) -> store::Result<Result<(), String>> {
    Ok(match runs.value_of(filter, receipt).await? {
        Ok(Value::Bool(true)) => Ok(()),
        Ok(Value::Bool(false)) => Err("the filter does not match".to_owned()),
        Ok(other) => Err(format!("the filter gives {other} instead of true or false")),
        Err(error) => Err(format!("the filter cannot be evaluated: {error}")),
    })
}
