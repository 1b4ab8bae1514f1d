//! Who sends a webhook, and whether it is really them: one file a provider.
//!
//! Signatures are HMAC-SHA256 over the raw bytes received, compared in constant time after decoding; every active
//! secret is tried. Sources: GitHub "Validating webhook deliveries", Slack "Verifying requests from Slack", seed 000.

mod generic;
mod github;
mod signature;
mod slack;

#[cfg(test)]
mod tests;

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

/// A detected provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// `X-GitHub-Event` is there.
    GitHub,
    /// `X-Slack-Signature` is there.
    Slack,
    /// Everything else.
    Generic,
}

/// Detects by the headers; the first that fits.
pub fn detect(request: &IncomingRequest) -> Provider {
    if request.headers.contains_key("x-github-event") {
        Provider::GitHub
    } else if request.headers.contains_key("x-slack-signature") {
        Provider::Slack
    } else {
        Provider::Generic
    }
}

impl Provider {
    /// `http.request().provider`.
    pub fn name(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::Slack => "slack",
            Self::Generic => "generic",
        }
    }

    /// `http.request().eventType`.
    pub fn event_type(self, request: &IncomingRequest) -> String {
        match self {
            Self::GitHub => github::event_type(request),
            Self::Slack => slack::event_type(request),
            Self::Generic => String::new(),
        }
    }

    /// Whether one of the secrets signed the request; without secrets everything passes (seed 000). `now` is in
    /// seconds since 1970.
    pub fn verify(
        self,
        request: &IncomingRequest,
        secrets: &[WebhookSecret],
        now: i64,
    ) -> Result<(), Rejected> {
        if secrets.is_empty() {
            return Ok(());
        }
        match self {
            Self::GitHub => github::verify(request, secrets),
            Self::Slack => slack::verify(request, secrets, now),
            Self::Generic => generic::verify(request, secrets),
        }
    }
}
