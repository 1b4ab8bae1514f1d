//! The JSON API: request and response bodies as clients see them.
//!
//! Times are RFC 3339 in UTC. Unknown fields in requests are refused, so that a typing error is not silence.

mod agent;
pub mod circleci;
mod dag;
mod delivery;
mod event;
mod execute;
mod hook;
mod receipt;
mod run;
mod settings;
mod subscription;
mod terminal;

pub use agent::{Agent, AgentToken, CreateAgentToken};
pub use dag::{
    Build, BuildVersion, CheckRequest, Metadata, Pin, PipelineJob, Resource, ResourceVersion,
    Version, VersionRequest,
};
pub use delivery::{
    Delivery, DeliveryDetail, DeliveryTry, Replay, ReplayDeliveries, TryRequest, TryResponse,
};
pub use event::{LogGap, RunEvent, RunEventKind};
pub use execute::ExecuteRequest;
pub use hook::{
    Auth, Endpoint, EndpointKey, Handshakes, Listen, PutEndpoint, RotateEndpoint, RunAs,
    SavedEndpoint, WebhookSettings,
};
pub use receipt::{
    Receipt, ReceiptDetails, ReceiptFile, ReceiptQuery, ReceiptReply, ReceiptRun, ReplayDecision,
    ReplayMany, ReplayRequest, Replayed, ReplayedMany,
};
pub use run::{Job, Reply, Run, RunStatus, SimulatedWebhook, Step, TriggerRequest, Triggered};
pub use settings::{By, ConcurrencySettings, OnConflict, PipelineSettings, Queue, QueuedJob, Wait};
pub use subscription::{
    PutSubscription, PutSubscriptionResult, RotateSubscription, RotatedSubscription, SecretInfo,
    Sending, Subscription,
};
pub use terminal::{TerminalMessage, TerminalSize, TerminalStep};

use crate::ids::{GateId, PipelineId, RevisionId, RunId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// The body of every error answer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// See [`ErrorBody`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable word for programs, for example `pipeline_not_found`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// Also in the `X-Request-Id` header and in the server's log.
    pub request_id: String,
    /// Every fault found, where there can be several (invalid pipeline content).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// Which container driver runs a pipeline's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Containers on the agent's Docker engine.
    Docker,
    /// Processes on the agent's own machine; no isolation.
    Native,
}

impl Driver {
    /// The word used in the API, the database and the agent protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Native => "native",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "docker" => Some(Self::Docker),
            "native" => Some(Self::Native),
            _ => None,
        }
    }
}

/// `PUT /api/pipelines/:name`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutPipeline {
    /// The program's text.
    pub content: String,
    /// `ts`, `js` or `yaml`; `ts` when absent (JavaScript is TypeScript too).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The author's file name, for messages and stack traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// The files it imports, directly or not: texts by paths relative to its folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
    /// Container driver; absent leaves the choice to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// Absent keeps the stored secrets, `""` removes them, anything else replaces them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// Several secrets that are valid at the same time (rotation), newest first; at most 8, none empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secrets: Option<Vec<String>>,
    /// Labels that an agent must have to run this pipeline; absent keeps the stored ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// A merge patch of the stored [`PipelineSettings`]: what is absent stays, null goes back to the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<PipelineSettings>)]
    pub settings: Option<serde_json::Value>,
}

/// A stored pipeline; secrets are never shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pipeline {
    /// Its id; stable over updates.
    pub id: PipelineId,
    /// Unique name.
    pub name: String,
    /// The newest revision.
    pub revision_id: RevisionId,
    /// Number of that revision, from 1.
    pub revision: i32,
    /// `ts`, `js` or `yaml`.
    pub content_type: String,
    /// The program's text; only in answers about one pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Container driver, if the pipeline names one.
    pub driver: Option<Driver>,
    /// Labels that an agent must have.
    pub labels: BTreeMap<String, String>,
    /// How its runs wait and are tried again.
    #[serde(default)]
    pub settings: PipelineSettings,
    /// How many webhook secrets are active; 0 means that webhooks are not verified.
    pub webhook_secrets: u32,
    /// Whether triggers are refused.
    pub paused: bool,
    /// Who paused it; empty if it is not paused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub paused_by: String,
    /// `/api/webhooks/<id>`.
    pub webhook_path: String,
    /// When it was first set.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: OffsetDateTime,
}

/// Answer of `PUT /api/pipelines/:name`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PutPipelineResult {
    /// As stored now.
    pub pipeline: Pipeline,
    /// Whether it did not exist before.
    pub created: bool,
    /// What this request changed: `content`, `driver`, `labels`, `webhook_secrets`, `settings`; empty if nothing.
    pub changed: Vec<String>,
    /// What is odd about the content, but accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `PUT /api/secrets/:name`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// The secret; it can never be read back.
    pub value: String,
    /// Name or id of the pipeline whose secret it is; absent for all pipelines'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
}

/// A secret as it is listed: without its value.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// The pipeline whose secret it is; absent for all pipelines'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// When it was last set.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: OffsetDateTime,
}

/// Answer of `POST /api/secrets/rotate`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RotatedSecrets {
    /// How many were encrypted anew.
    pub rotated: u64,
}

/// An approval that a run waits, or waited, for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Gate {
    /// Its id.
    pub id: GateId,
    /// Of which run.
    pub run_id: RunId,
    /// Of which pipeline.
    pub pipeline: String,
    /// The author's name for it.
    pub name: String,
    /// For those who decide.
    pub message: String,
    /// `pending`, `approved`, `rejected` or `timed_out`.
    pub status: String,
    /// Who decided.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub decided_by: String,
    /// What they said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Since when it waits.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: OffsetDateTime,
    /// Until when it can be decided.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: OffsetDateTime,
    /// When it was decided.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub decided_at: Option<OffsetDateTime>,
}

/// `POST /api/gates/:id/approve` and `…/reject`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideGate {
    /// Who decides, as they call themselves; `api` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A page of a listing, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Give it as `after` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
