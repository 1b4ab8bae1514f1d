//! Who sends a webhook, and whether it is really them: one file a provider.
//!
//! Signatures are over the exact bytes received, compared in constant time after decoding; every active secret is
//! tried. None of the senders signs its headers, so a receiving point that is bound to one of them refuses the others'.
//! Each file names the source of its scheme.

pub mod bitbucket;
pub mod buildkite;
pub mod circleci;
pub mod credentials;
pub mod custom;
pub mod dated;
pub mod discord;
mod entries;
mod facts;
mod family;
pub mod generic;
pub mod gitea;
pub mod github;
pub mod gitlab;
mod honeybadger;
pub mod linear;
mod message;
pub mod pagerduty;
pub mod sentry;
pub mod shopify;
mod signature;
pub mod slack;
pub mod standard;
pub mod stripe;
pub mod timestamp;
mod token;
pub mod url_secret;

#[cfg(test)]
mod tests;

pub use crate::model::binding::{Binding, BindingError, GenericTimestamp, ProviderKind};
pub use crate::model::custom_scheme::{CustomScheme, SchemeError};
pub use facts::{Facts, Handshake, facts, handshake};
pub use family::{detect, guess};

use super::IncomingRequest;
use super::request::{SeveralLines, TooLarge};
use crate::model::pipeline::WebhookSecret;
use ProviderKind as Kind;

/// Which check failed, for the operator's eyes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected(pub &'static str);

impl Rejected {
    const SEVERAL_LINES: Self = Self("a signature header came more than once");
    const SEVERAL_IN_QUERY: Self = Self("?signature= came more than once");
    const SEVERAL_FIELDS: Self = Self("a field that decides about trust came more than once");

    /// Whether the request says twice what decides about trust: no sender does, whoever holds the secret.
    pub fn is_ambiguous(&self) -> bool {
        matches!(
            *self,
            Self::SEVERAL_LINES | Self::SEVERAL_IN_QUERY | Self::SEVERAL_FIELDS
        )
    }
}

impl From<TooLarge> for Rejected {
    fn from(_: TooLarge) -> Self {
        Self(
            "the body has more than 1 MiB, the most that is looked into before or for its verification",
        )
    }
}

impl From<SeveralLines> for Rejected {
    fn from(_: SeveralLines) -> Self {
        Self::SEVERAL_LINES
    }
}

/// A message that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Who sent it.
    pub provider: ProviderKind,
    /// Which of the secrets it was verified with; `None` if there are none, so that anybody may have sent it.
    pub secret: Option<usize>,
}

/// Whether one of the secrets (newest first) signed the request; without secrets everything passes (seed 000), except
/// other senders' headers at a bound receiving point, and everything where the secret is all there is. `now` is in
/// seconds since 1970.
pub fn verify(
    binding: &Binding,
    request: &IncomingRequest,
    secrets: &[WebhookSecret],
    now: i64,
) -> Result<Verified, Rejected> {
    let kind = match binding.kind {
        Some(kind) => family::bound(kind, binding, request)?,
        None if secrets.is_empty() => guess(request),
        None => detect(request)?,
    };
    if secrets.is_empty() {
        if let Some(Kind::UrlSecret | Kind::Token | Kind::Honeybadger) = binding.kind {
            return Err(Rejected("there is no secret: here it is all that protects"));
        }
        return Ok(Verified {
            provider: kind,
            secret: None,
        });
    }
    let secret = match kind {
        Kind::Forgejo | Kind::Gitea | Kind::Gogs => gitea::verify(kind, request, secrets),
        Kind::GitHub => github::verify(request, secrets),
        Kind::GitLab => gitlab::verify(request, secrets, now),
        Kind::Bitbucket => bitbucket::verify(request, secrets),
        Kind::Slack => slack::verify(request, secrets, now),
        Kind::Stripe => stripe::verify(request, secrets, now),
        Kind::CircleCi => circleci::verify(request, secrets),
        Kind::Discord => discord::verify(binding.discord_tolerance_seconds, request, secrets, now),
        Kind::Linear => linear::verify(request, secrets, now),
        Kind::PagerDuty => pagerduty::verify(request, secrets),
        Kind::Sentry => sentry::verify(request, secrets),
        Kind::Honeybadger => honeybadger::verify(request, secrets),
        Kind::Shopify => shopify::verify(request, secrets),
        Kind::Buildkite => buildkite::verify(request, secrets, now),
        Kind::Standard => standard::verify(request, secrets, now),
        Kind::Generic => generic::verify(binding.generic_timestamp, request, secrets, now),
        Kind::UrlSecret => url_secret::verify(request, secrets),
        Kind::Token => token::verify(request, secrets),
        Kind::Custom => match &binding.custom {
            Some(scheme) => custom::verify(scheme, request, secrets, now),
            None => Err(Rejected("the binding has no custom scheme")),
        },
    }?;
    Ok(Verified {
        provider: kind,
        secret: Some(secret),
    })
}
