//! `pipeline.trigger_parameters`: the webhook of a provider that CircleCI's `vcs` does not describe.

use super::facts::Facts;
use super::facts::gitlab::GitLab;
use super::instant::iso_ms;
use super::vcs::{Reference, Vcs};
use crate::model::receipt::Receipt;
use serde::Serialize;
use uuid::Uuid;

/// Providers whose commit is told by `vcs` alone.
const TOLD_BY_VCS: &[&str] = &["github", "bitbucket"];
/// Providers of nobody in particular: CircleCI's custom webhooks.
const CUSTOM: &[&str] = &["generic", "url-secret", "token", "custom"];
/// Of them those whose secret may stand in a form.
const SECRET_IN_FORM: &[&str] = &["url-secret", "token"];
/// What the content type of a form begins with.
const FORMS: &[&str] = &["application/x-www-form-urlencoded", "multipart/form-data"];
/// Longest body of a custom webhook that is passed on, in bytes; a longer one is left out.
pub const MAX_PASSED_BODY_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Clone, Serialize)]
pub struct TriggerParameters {
    /// GitLab's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<GitLab>,
    /// What was pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// A custom webhook's content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// About the trigger itself.
    pub circleci: CircleCi,
}

/// What was pushed; empty where it does not apply, as in CircleCI's sample.
#[derive(Debug, Clone, Serialize)]
pub struct Git {
    /// The tag.
    pub tag: String,
    /// The commit's id.
    pub checkout_sha: String,
    /// `refs/heads/…` or `refs/tags/…`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The branch.
    pub branch: String,
    /// Where to fetch it from.
    pub checkout_url: String,
}

/// A custom webhook.
#[derive(Debug, Clone, Serialize)]
pub struct Webhook {
    /// Its body as text.
    pub body: String,
}

/// About the trigger.
#[derive(Debug, Clone, Serialize)]
pub struct CircleCi {
    /// When the webhook came.
    pub event_time: String,
    /// See [`super::pipeline::Actor`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<Uuid>,
    /// The provider's word for what happened.
    pub event_type: String,
    /// The provider; `webhook` for a custom one.
    pub trigger_type: String,
}

impl TriggerParameters {
    /// Of a stored webhook; `None` for the providers that `vcs` is enough for.
    pub fn of(receipt: &Receipt, facts: Option<&Facts>) -> Option<Self> {
        let provider = receipt.provider.as_str();
        if TOLD_BY_VCS.contains(&provider) {
            return None;
        }
        let custom = CUSTOM.contains(&provider);
        let event_type = match facts.and_then(|facts| facts.event_type.as_deref()) {
            Some(event) => event,
            None if receipt.event_type.is_empty() => "custom_webhook",
            None => &receipt.event_type,
        };
        Some(Self {
            gitlab: facts.and_then(|facts| facts.gitlab.clone()),
            git: facts.and_then(|facts| Git::of(facts.vcs.as_ref()?, facts)),
            webhook: custom.then(|| passed_on(receipt)).flatten(),
            circleci: CircleCi {
                event_time: iso_ms(receipt.received_at),
                actor_id: facts.and_then(|facts| Some(facts.actor.as_ref()?.id)),
                event_type: event_type.to_owned(),
                trigger_type: if custom { "webhook" } else { provider }.to_owned(),
            },
        })
    }
}

fn passed_on(receipt: &Receipt) -> Option<Webhook> {
    // Of a long one the receipt may hold the length only.
    let is_here = receipt.body_bytes <= 0 || !receipt.body.is_empty();
    if !is_here || receipt.body.len() > MAX_PASSED_BODY_BYTES {
        return None;
    }
    // What lets its sender in is not for subscribers.
    if SECRET_IN_FORM.contains(&receipt.provider.as_str()) && is_form(receipt) {
        return None;
    }
    let body = std::str::from_utf8(&receipt.body).ok()?;
    Some(Webhook {
        body: body.to_owned(),
    })
}

fn is_form(receipt: &Receipt) -> bool {
    let mut headers = receipt.headers.iter();
    headers.any(|(name, value)| {
        let kind = String::from_utf8_lossy(value).trim().to_ascii_lowercase();
        name.eq_ignore_ascii_case("content-type") && FORMS.iter().any(|form| kind.starts_with(form))
    })
}

impl Git {
    fn of(vcs: &Vcs, facts: &Facts) -> Option<Self> {
        let (branch, tag, reference) = match vcs.reference.as_ref()? {
            Reference::Branch(name) => (name.clone(), String::new(), format!("refs/heads/{name}")),
            Reference::Tag(name) => (String::new(), name.clone(), format!("refs/tags/{name}")),
        };
        Some(Self {
            tag,
            checkout_sha: vcs.revision.clone().unwrap_or_default(),
            reference,
            branch,
            checkout_url: facts
                .checkout_url
                .clone()
                .or_else(|| vcs.target_repository_url.clone())
                .unwrap_or_default(),
        })
    }
}
