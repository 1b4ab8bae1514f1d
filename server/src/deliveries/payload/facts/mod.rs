//! What a provider's webhook tells of a commit: pure functions over its JSON, one provider a file.

mod bitbucket;
mod github;
pub mod gitlab;

use super::pipeline::Actor;
use super::vcs::Vcs;
use crate::model::receipt::Receipt;
use gitlab::GitLab;
use serde_json::Value;

/// What is known; everything may be missing.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The commit.
    pub vcs: Option<Vcs>,
    /// Who caused it.
    pub actor: Option<Actor>,
    /// What happened, if the payload has a word for it.
    pub event_type: Option<String>,
    /// Where git fetches from.
    pub checkout_url: Option<String>,
    /// GitLab's own words.
    pub gitlab: Option<GitLab>,
}

impl Facts {
    /// Of a stored webhook; `None` if its provider or its content tells nothing of commits.
    pub fn of(receipt: &Receipt) -> Option<Self> {
        let read: fn(&str, &Value) -> Option<Self> = match receipt.provider.as_str() {
            "github" | "gitea" | "forgejo" | "gogs" => github::facts,
            "gitlab" => gitlab::facts,
            "bitbucket" => bitbucket::facts,
            _ => return None,
        };
        read(&receipt.provider, &payload(receipt)?)
    }
}

/// The body as JSON; of a form the field `payload`, as GitHub and Gitea can be told to send it.
fn payload(receipt: &Receipt) -> Option<Value> {
    let form = receipt.headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("content-type")
            && value.starts_with(b"application/x-www-form-urlencoded")
    });
    if !form {
        return serde_json::from_slice(&receipt.body).ok();
    }
    let (_, text) =
        url::form_urlencoded::parse(&receipt.body).find(|(name, _)| name == "payload")?;
    serde_json::from_str(&text).ok()
}

/// The text at a JSON pointer.
fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// The text or number at a JSON pointer, as text.
fn word(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
