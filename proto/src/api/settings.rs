//! A pipeline's settings and the queue, as the API speaks of them.

use super::hook::{Listen, WebhookSettings};
use crate::ids::RunId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// How a pipeline's runs wait, share agents with others, and are tried again. Absent is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineSettings {
    /// -10..=10, 0 by default: jobs of a higher one are handed out first; each minute of waiting counts as one level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How many runs at a time; unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencySettings>,
    /// A job that has waited so many seconds without being accepted by an agent ends as errored (`queue_timeout`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout_seconds: Option<u64>,
    /// An attempt that has run so many seconds is stopped and ends as errored (`timed_out`); the agent's --job-timeout
    /// counts too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// 1..=20, 3 by default: how often a job is tried when its agent or the infrastructure fails. A pipeline's own
    /// failure is never tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// Whether effects are recorded and replayed when a job is tried again; true by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    /// How requests to the pipeline's own URL are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSettings>,
    /// Events that start it, one or a list; those that its program names come on top.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::hook::one_or_many"
    )]
    pub on: Vec<Listen>,
}

/// See [`PipelineSettings::concurrency`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencySettings {
    /// Runs of one group at a time, at least 1; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// An expression over the trigger (as in `webhookTrigger`): runs with the same value are one group. By default all
    /// runs of the pipeline are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What a new run does when its group is full; `queue` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<OnConflict>,
}

/// See [`ConcurrencySettings::on_conflict`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    /// Waits its turn, oldest first.
    #[default]
    Queue,
    /// Takes the place of those that wait: they end as aborted (`superseded`).
    CancelQueued,
    /// The same, and stops those that run.
    CancelRunning,
    /// Ends as skipped (`already_running`).
    Skip,
}

/// Body of requests that somebody is responsible for (`stop`, `pause`); may be absent.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// Who, as they call themselves; `api` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Why a job is not running yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wait {
    /// `no_agent`, `no_match`, `busy`, `limit`, `concurrency`, `paused`, `retry`, `starting` or `approval`.
    pub reason: String,
    /// For people: what it waits for, by name.
    pub message: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub since: OffsetDateTime,
    /// When the wait becomes a failure, if it may not last for ever.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<OffsetDateTime>,
}

/// A job that waits.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct QueuedJob {
    /// Its run.
    pub run_id: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// Its name.
    pub job: String,
    /// See [`PipelineSettings::priority`].
    pub priority: i32,
    /// Why it waits.
    pub wait: Wait,
}

/// `GET /api/queue`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Jobs that wait.
    pub queued: i64,
    /// Jobs in agents' hands.
    pub running: i64,
    /// Slots of all connected agents.
    pub slots: i64,
    /// Those that wait, next ones first; at most 200.
    pub items: Vec<QueuedJob>,
}
