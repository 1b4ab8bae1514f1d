//! Requests to the world outside: HTTP, outgoing webhooks, messages to people.

use super::Time;
use bytes::Bytes;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `fetch`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fetch {
    /// Absolute, `http` or `https`.
    pub url: String,
    /// Upper case.
    pub method: String,
    /// In order.
    pub headers: Vec<(String, String)>,
    /// Milliseconds for the whole exchange.
    #[serde(default)]
    pub timeout: Option<Time>,
    /// What to do with a redirect.
    #[serde(default)]
    pub redirect: Redirect,
    /// The body; `None` is none.
    #[serde(skip)]
    pub body: Option<Bytes>,
}

/// What `fetch` does with a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redirect {
    /// Goes there.
    #[default]
    Follow,
    /// Rejects.
    Error,
    /// Resolves with the redirect itself.
    Manual,
}

/// `webhook.send`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendWebhook {
    /// `webhook-id` of every try.
    pub id: String,
    /// Absolute, `http` or `https`.
    pub url: String,
    /// `POST` if empty.
    #[serde(default)]
    pub method: String,
    /// Beside the signatures.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Signs the body.
    #[serde(default)]
    pub secret: Option<String>,
    /// Tries after the first one.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// For each try.
    #[serde(default)]
    pub timeout: Option<Time>,
    /// `application/json` for an object, `text/plain` for a text.
    #[serde(default)]
    pub content_type: String,
    /// The body.
    #[serde(skip)]
    pub body: Bytes,
}

fn default_retries() -> u32 {
    3
}

/// `notify.send` to one backend.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notify {
    /// Where.
    pub backend: Backend,
    /// A template.
    pub message: String,
    /// What the template may name.
    #[serde(default)]
    pub context: NotifyContext,
}

/// A way to tell people; texts may be `secret:NAME`.
#[derive(Deserialize)]
#[serde(
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
pub enum Backend {
    /// Slack's `chat.postMessage`.
    Slack {
        /// Bot token.
        #[serde(default)]
        token: String,
        /// Channels.
        #[serde(default)]
        channels: Vec<String>,
        /// Further channels or users.
        #[serde(default)]
        recipients: Vec<String>,
        /// Base of the API, for gateways.
        #[serde(default)]
        url: String,
    },
    /// A Teams workflow or connector.
    Teams {
        /// Its URL.
        #[serde(default)]
        webhook: String,
    },
    /// Discord's channel messages.
    Discord {
        /// Bot token.
        #[serde(default)]
        token: String,
        /// Channel ids.
        #[serde(default)]
        channels: Vec<String>,
        /// Base of the API, for gateways.
        #[serde(default)]
        url: String,
    },
    /// JSON to any URL.
    Http {
        /// Where.
        #[serde(default)]
        url: String,
        /// `POST` if empty.
        #[serde(default)]
        method: String,
        /// Further headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// Mail.
    Smtp {
        /// `host:port`.
        #[serde(default)]
        smtp_host: String,
        /// Sender.
        #[serde(default)]
        from: String,
        /// To whom.
        #[serde(default)]
        recipients: Vec<String>,
        /// For authentication.
        #[serde(default)]
        username: String,
        /// Its password.
        #[serde(default)]
        token: String,
        /// `starttls`, `tls`, `none`; by the port if empty.
        #[serde(default)]
        tls: String,
        /// Of the mail.
        #[serde(default)]
        subject: String,
    },
}

/// What message templates may name.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NotifyContext {
    /// `PipelineName`.
    pub pipeline_name: String,
    /// `JobName`.
    pub job_name: String,
    /// `BuildID`.
    #[serde(rename = "buildID")]
    pub build_id: String,
    /// `Status`.
    pub status: String,
    /// `StartTime`.
    pub start_time: String,
    /// `EndTime`.
    pub end_time: String,
    /// `Duration`.
    pub duration: String,
    /// `Environment`.
    pub environment: BTreeMap<String, String>,
    /// `TaskResults`.
    pub task_results: serde_json::Map<String, serde_json::Value>,
}
