//! What a message is about: its event, its delivery and what its sender wants answered at once.

use super::{
    Binding, IncomingRequest, ProviderKind, bitbucket, buildkite, circleci, custom, discord,
    generic, gitea, github, gitlab, honeybadger, linear, pagerduty, sentry, shopify, slack,
    standard, stripe, url_secret,
};
use ProviderKind as Kind;

/// What a verified message says of itself. Senders sign no headers: what was read there is as good as the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `http.request().eventType`; empty if there is none.
    pub event_type: String,
    /// The same for every try of one delivery.
    pub delivery_id: Option<String>,
    /// Number of this try, from 1.
    pub attempt: Option<u32>,
}

/// An answer that needs no run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// HTTP status.
    pub status: u16,
    /// Header lines.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: String,
}

impl Handshake {
    /// 200 with a text.
    pub(super) fn text(body: &str) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "text/plain; charset=utf-8")],
            body: body.to_owned(),
        }
    }

    /// A status with JSON.
    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json")],
            body: body.to_string(),
        }
    }
}

/// The facts of a message, which the caller has verified. The body is parsed only for senders that say them there.
pub fn facts(binding: &Binding, kind: Kind, request: &IncomingRequest) -> Facts {
    match kind {
        Kind::Forgejo | Kind::Gitea | Kind::Gogs => gitea::facts(kind, request),
        Kind::GitHub => github::facts(request),
        Kind::GitLab => gitlab::facts(request),
        Kind::Bitbucket => bitbucket::facts(request),
        Kind::Slack => slack::facts(request),
        Kind::Stripe => stripe::facts(request),
        Kind::CircleCi => circleci::facts(request),
        Kind::Discord => discord::facts(request),
        Kind::Linear => linear::facts(request),
        Kind::PagerDuty => pagerduty::facts(request),
        Kind::Sentry => sentry::facts(request),
        Kind::Honeybadger => honeybadger::facts(request),
        Kind::Shopify => shopify::facts(request),
        Kind::Buildkite => buildkite::facts(request),
        Kind::Standard => standard::facts(request),
        Kind::Generic | Kind::Token => generic::facts(binding.kind == Some(kind), request),
        Kind::UrlSecret => url_secret::facts(),
        Kind::Custom => match &binding.custom {
            Some(scheme) => custom::facts(scheme, request),
            None => Facts::default(),
        },
    }
}

/// What the sender wants answered at once, if the message is of that kind; the caller has verified it.
pub fn handshake(kind: Kind, request: &IncomingRequest) -> Option<Handshake> {
    match kind {
        Kind::GitHub => github::handshake(request),
        Kind::Bitbucket => bitbucket::handshake(request),
        Kind::Slack => slack::handshake(request),
        Kind::Discord => discord::handshake(request),
        Kind::PagerDuty => pagerduty::handshake(request),
        Kind::Buildkite => buildkite::handshake(request),
        Kind::Forgejo
        | Kind::Gitea
        | Kind::Gogs
        | Kind::GitLab
        | Kind::Stripe
        | Kind::CircleCi
        | Kind::Linear
        | Kind::Sentry
        | Kind::Honeybadger
        | Kind::Shopify
        | Kind::Standard
        | Kind::Generic
        | Kind::UrlSecret
        | Kind::Token
        | Kind::Custom => None,
    }
}
