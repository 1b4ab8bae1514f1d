//! Subscriptions in the shape of CircleCI's API v2 (`/webhook`): hyphens in names, masked secrets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What a webhook is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookScope {
    /// The pipeline's id.
    pub id: Uuid,
    /// `project`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `POST /api/v2/webhook`, and `PUT /api/v2/webhook/:id` where everything may be absent. It may hold a secret: no Debug.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PutWebhook {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where requests go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `workflow-completed`, `job-completed`; PocketCI's own are taken as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Whether the receiver's certificate must be valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_tls: Option<bool>,
    /// What requests are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret: Option<String>,
    /// What it is about; cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<WebhookScope>,
}

/// A subscription of a pipeline.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Webhook {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Where requests go.
    pub url: String,
    /// What is told.
    pub events: Vec<String>,
    /// Whether the receiver's certificate must be valid.
    pub verify_tls: bool,
    /// `****`; empty if nothing is signed.
    pub signing_secret: String,
    /// What it is about.
    pub scope: WebhookScope,
    /// ISO 8601.
    pub created_at: String,
    /// ISO 8601.
    pub updated_at: String,
}

/// `GET /api/v2/webhook`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct WebhookPage {
    /// In the order of names.
    pub items: Vec<Webhook>,
    /// Give it as `page-token` to get the next page; null on the last one.
    pub next_page_token: Option<String>,
}

/// Answer of `DELETE /api/v2/webhook/:id`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WebhookMessage {
    /// For people.
    pub message: String,
}
