//! Who sends a webhook, and whether it is really them: one file a provider.
//!
//! Signatures are over the exact bytes received, compared in constant time after decoding; every active secret is
//! tried. None of the senders signs its headers, so a receiving point that is bound to one of them refuses the others'.
//! Each file names the source of its scheme.

mod facts;
mod family;
mod generic;
mod github;
mod signature;
mod slack;
mod timestamp;

#[cfg(test)]
mod tests;

pub use crate::model::binding::{Binding, BindingError, GenericTimestamp, ProviderKind};
pub use crate::model::custom_scheme::{CustomScheme, SchemeError};
pub use facts::{Facts, Handshake, facts, handshake};
pub use family::{detect, guess};

use super::IncomingRequest;
use super::request::SeveralLines;
use crate::model::pipeline::WebhookSecret;

/// Which check failed, for the operator's eyes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected(pub &'static str);

impl From<SeveralLines> for Rejected {
    fn from(_: SeveralLines) -> Self {
        Self("a signature header came more than once")
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
    let provider = match binding.kind {
        Some(kind) => family::bound(kind, binding, request)?,
        None if secrets.is_empty() => guess(request),
        None => detect(request)?,
    };
    if secrets.is_empty() {
        return Ok(Verified {
            provider,
            secret: None,
        });
    }
    let secret = match provider {
        ProviderKind::GitHub => github::verify(request, secrets)?,
        ProviderKind::Slack => slack::verify(request, secrets, now)?,
        ProviderKind::Generic => generic::verify(binding.generic_timestamp, request, secrets, now)?,
        _ => return Err(Rejected("this provider cannot be verified yet")),
    };
    Ok(Verified {
        provider,
        secret: Some(secret),
    })
}
