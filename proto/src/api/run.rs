//! Runs, their jobs, steps and replies, and how one is triggered.

use super::Wait;
use crate::ids::{PipelineId, ReceiptId, RevisionId, RunId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use utoipa::ToSchema;

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
