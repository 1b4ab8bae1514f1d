//! One-off tasks, as the API speaks of them.

use super::Driver;
use crate::ids::RunId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// `POST /api/execute`: one task without a job. Its params may be secret: no Debug.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecuteRequest {
    /// A new UUID of version 7, under which the inputs were sent; the same request again starts nothing twice.
    pub run_id: RunId,
    /// The task's configuration: `platform`, `run`, `inputs`, …
    #[schema(value_type = Object)]
    pub config: Value,
    /// The task's name; `one-off` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Inputs that were sent with `PUT /api/runs/:id/inputs/:name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uploads: Vec<String>,
    /// Outputs to keep for `GET /api/runs/:id/outputs/:name`, for a day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// Run it in a privileged container, which the agent must allow.
    #[serde(default)]
    pub privileged: bool,
    /// Where it runs, as a step's `tags`: `os=linux`, or `gpu` for `gpu=true`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Where its containers are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// Name or id of the pipeline of `job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Take the inputs that were not sent from this job, in the newest versions that it would use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Longest time of one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}
