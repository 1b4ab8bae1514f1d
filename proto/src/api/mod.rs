//! The JSON API: request and response bodies as clients see them.
//!
//! Times are RFC 3339 in UTC. Unknown fields in requests are refused, so that a typing error is not silence.

mod agent;
mod dag;
mod event;
mod execute;
mod hook;
mod receipt;
mod settings;
mod terminal;

pub use agent::{Agent, AgentToken, CreateAgentToken};
pub use dag::{
    Build, BuildVersion, CheckRequest, Metadata, Pin, PipelineJob, Resource, ResourceVersion,
    Version, VersionRequest,
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
pub use settings::{By, ConcurrencySettings, OnConflict, PipelineSettings, Queue, QueuedJob, Wait};
pub use terminal::{TerminalMessage, TerminalSize, TerminalStep};

use crate::ids::{GateId, PipelineId, ReceiptId, RevisionId, RunId};
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

/// A run's state in the words of the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Stored, waiting for an agent.
    Queued,
    /// An agent works on it.
    Running,
    /// Ended well.
    Success,
    /// The pipeline failed (threw, rejected, asserted).
    Failed,
    /// PocketCI could not carry it out (`reason` says why).
    Errored,
    /// Stopped by a user.
    Aborted,
    /// Nothing had to be done.
    Skipped,
}

impl RunStatus {
    /// Whether it will not change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The word used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Errored => "errored",
            Self::Aborted => "aborted",
            Self::Skipped => "skipped",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Queued,
            Self::Running,
            Self::Success,
            Self::Failed,
            Self::Errored,
            Self::Aborted,
            Self::Skipped,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
    }
}

/// One execution of a pipeline.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Of which pipeline.
    pub pipeline_id: PipelineId,
    /// That pipeline's name.
    pub pipeline_name: String,
    /// Which revision runs.
    pub revision_id: RevisionId,
    /// Where it stands.
    pub status: RunStatus,
    /// Why it ended so, for example `agent_lost`, `user`, `timed_out`; absent if there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who caused that end: who stopped it, `run <id>` that superseded it, `server`, `agent`; absent for its own end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// For people: the error's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its concurrency group, if its pipeline has a rule; empty is the pipeline as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `webhook`, `manual` or `pipeline`.
    pub triggered_by: String,
    /// The stored request that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<ReceiptId>,
    /// What the pipeline answered to the webhook's caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Its jobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Job>,
    /// When it was stored.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    /// When an agent first accepted it.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<OffsetDateTime>,
}

/// One job of a run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its name; `pipeline` for a JavaScript pipeline.
    pub name: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Its number among the builds of this job: `3`, or `3.1` for a rerun of it; YAML pipelines only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// Number of the current or last hand-out to an agent; 0 before the first.
    pub attempt: i32,
    /// The agent that has or had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Why it ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who caused that end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why it is not running yet; in answers about one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
}

/// What the caller of a webhook was answered.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Whether `http.respond` said it; otherwise it is the server's own 202.
    pub by_pipeline: bool,
    /// Length of the body in bytes.
    pub body_bytes: u64,
}

/// `POST /api/pipelines/:id/trigger`; every field may be absent, the body too.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerRequest {
    /// `pipelineContext.args`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Only these jobs (YAML pipelines).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
    /// Pretend that this webhook came; it is not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<SimulatedWebhook>,
}

/// See [`TriggerRequest::webhook`].
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatedWebhook {
    /// `POST` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Header names and values.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// Query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
}

/// Answer of a trigger: the run is stored.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Triggered {
    /// The new run.
    pub run_id: RunId,
}

/// One step inside a job (a container or process).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Job it belongs to.
    pub job: String,
    /// Attempt in which it ran.
    pub attempt: i32,
    /// Number in its attempt, from 1.
    pub step: i32,
    /// The author's name for it.
    pub name: String,
    /// `run`.
    pub kind: String,
    /// Container image, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// `running`, `complete`, `abort` or `error`.
    pub status: String,
    /// Of the process, once it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// When it started.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub started_at: OffsetDateTime,
    /// When it ended.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<OffsetDateTime>,
}
