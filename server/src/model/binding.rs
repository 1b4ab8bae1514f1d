//! To which sender a receiving point is bound: the provider's name and what of its scheme can be chosen.

use super::custom_scheme::{CustomScheme, SchemeError};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Who sends a webhook; the word is `http.request().provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each variant is a name")]
pub enum ProviderKind {
    Forgejo,
    Gitea,
    Gogs,
    #[serde(rename = "github")]
    GitHub,
    #[serde(rename = "gitlab")]
    GitLab,
    Bitbucket,
    Slack,
    Stripe,
    #[serde(rename = "circleci")]
    CircleCi,
    Discord,
    Linear,
    #[serde(rename = "pagerduty")]
    PagerDuty,
    Sentry,
    Honeybadger,
    Shopify,
    Buildkite,
    Standard,
    Generic,
    /// The secret is in the URL: `?secret=` (CircleCI's custom webhook) or `?webhook_token=` (Concourse).
    UrlSecret,
    /// The secret is a `uuid` or `token` in query, form body or header (PIPEFORCE).
    Token,
    /// As [`Binding::custom`] says.
    Custom,
}

impl ProviderKind {
    /// All, in the order in which they are detected; the last three never are.
    pub const ALL: [Self; 21] = [
        Self::Forgejo,
        Self::Gitea,
        Self::Gogs,
        Self::GitHub,
        Self::GitLab,
        Self::Bitbucket,
        Self::Slack,
        Self::Stripe,
        Self::CircleCi,
        Self::Discord,
        Self::Linear,
        Self::PagerDuty,
        Self::Sentry,
        Self::Honeybadger,
        Self::Shopify,
        Self::Buildkite,
        Self::Standard,
        Self::Generic,
        Self::UrlSecret,
        Self::Token,
        Self::Custom,
    ];

    /// The word in the API, the database and `http.request().provider`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forgejo => "forgejo",
            Self::Gitea => "gitea",
            Self::Gogs => "gogs",
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Bitbucket => "bitbucket",
            Self::Slack => "slack",
            Self::Stripe => "stripe",
            Self::CircleCi => "circleci",
            Self::Discord => "discord",
            Self::Linear => "linear",
            Self::PagerDuty => "pagerduty",
            Self::Sentry => "sentry",
            Self::Honeybadger => "honeybadger",
            Self::Shopify => "shopify",
            Self::Buildkite => "buildkite",
            Self::Standard => "standard",
            Self::Generic => "generic",
            Self::UrlSecret => "url-secret",
            Self::Token => "token",
            Self::Custom => "custom",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// How long the sender may be kept waiting: its own deadline less a margin for the way back. `None` if it has
    /// none that is known. (Reference A.2.)
    pub fn reply_within(self) -> Option<Duration> {
        let millis = match self {
            Self::Sentry => 500,
            Self::Slack | Self::Discord => 2_500,
            Self::Linear | Self::Shopify | Self::Forgejo | Self::Gitea | Self::Gogs => 4_500,
            Self::GitHub | Self::GitLab | Self::Bitbucket | Self::CircleCi => 9_500,
            Self::Standard => 14_500,
            Self::PagerDuty => 15_500,
            Self::Stripe
            | Self::Honeybadger
            | Self::Buildkite
            | Self::Generic
            | Self::UrlSecret
            | Self::Token
            | Self::Custom => return None,
        };
        Some(Duration::from_millis(millis))
    }

    /// The methods that the sender uses, empty for any.
    pub fn methods(self) -> &'static [http::Method] {
        static POST: [http::Method; 1] = [http::Method::POST];
        static FORM: [http::Method; 2] = [http::Method::POST, http::Method::GET];
        match self {
            // A hook there may be set to send the payload as a query.
            Self::Forgejo | Self::Gitea | Self::Gogs => &FORM,
            Self::Generic | Self::UrlSecret | Self::Token | Self::Custom => &[],
            Self::GitHub
            | Self::GitLab
            | Self::Bitbucket
            | Self::Slack
            | Self::Stripe
            | Self::CircleCi
            | Self::Discord
            | Self::Linear
            | Self::PagerDuty
            | Self::Sentry
            | Self::Honeybadger
            | Self::Shopify
            | Self::Buildkite
            | Self::Standard => &POST,
        }
    }
}

/// What `X-Webhook-Timestamp` means to the provider `generic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GenericTimestamp {
    /// If it is there it is signed, as `{timestamp}.{body}`, and must be fresh.
    #[default]
    IfPresent,
    /// It must be there, signed and fresh.
    Required,
    /// Only the body is signed, whatever headers there are.
    Ignored,
}

/// To whom a receiving point listens. The default detects the sender by the headers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Binding {
    /// The one sender; `None` detects it from the headers.
    #[serde(rename = "provider", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ProviderKind>,
    /// The scheme of [`ProviderKind::Custom`], and of no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomScheme>,
    /// For [`ProviderKind::Generic`].
    pub generic_timestamp: GenericTimestamp,
    /// For [`ProviderKind::Discord`], whose timestamps need not be fresh unless this says how fresh, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discord_tolerance_seconds: Option<u32>,
}

/// Why a binding cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BindingError {
    /// `custom` without a scheme.
    #[error(
        "the provider custom needs a scheme: say it in `custom`, e.g. {{\"header\": \"X-Signature\"}}"
    )]
    NoScheme,
    /// A scheme without `custom`.
    #[error(
        "a scheme in `custom` is for the provider custom: set `provider` to \"custom\" or leave the scheme out"
    )]
    SchemeOfAnother,
    /// The scheme itself.
    #[error("the custom scheme is wrong")]
    Scheme(#[source] SchemeError),
}

impl Binding {
    /// Bound to one provider, nothing chosen.
    pub fn to(kind: ProviderKind) -> Self {
        Self {
            kind: Some(kind),
            ..Self::default()
        }
    }

    /// Whether it can be saved.
    pub fn check(&self) -> Result<(), BindingError> {
        match (&self.custom, self.kind) {
            (None, Some(ProviderKind::Custom)) => Err(BindingError::NoScheme),
            (Some(scheme), Some(ProviderKind::Custom)) => {
                scheme.check().map_err(BindingError::Scheme)
            }
            (Some(_), _) => Err(BindingError::SchemeOfAnother),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_is_written_as_it_is_read() {
        for kind in ProviderKind::ALL {
            assert_eq!(ProviderKind::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(ProviderKind::parse("GitHub"), None);
    }

    #[test]
    fn a_scheme_belongs_to_the_provider_custom_and_to_no_other() {
        let read = |text: &str| serde_json::from_str::<Binding>(text).unwrap();
        assert_eq!(read("{}").check(), Ok(()));
        assert_eq!(
            read(r#"{"provider":"github"}"#),
            Binding::to(ProviderKind::GitHub)
        );
        assert_eq!(
            read(r#"{"provider":"custom"}"#).check(),
            Err(BindingError::NoScheme)
        );
        let scheme = r#"{"provider":"slack","custom":{"header":"X-Signature"}}"#;
        assert_eq!(read(scheme).check(), Err(BindingError::SchemeOfAnother));
        let good = read(&scheme.replace("slack", "custom"));
        assert_eq!(good.check(), Ok(()));
        let again = serde_json::to_string(&good).unwrap();
        assert_eq!(read(&again), good);
        assert!(serde_json::from_str::<Binding>(r#"{"providr":"github"}"#).is_err());
    }
}
