//! Which entities an event has, in which order.

use super::gate::Gate;
use super::job::Job;
use super::pipeline::Pipeline;
use super::project::{Organization, Project};
use super::workflow::Workflow;
use serde::Serialize;
use uuid::Uuid;

/// A run is over.
#[derive(Debug, Clone, Serialize)]
pub struct WorkflowCompleted {
    /// The pipeline.
    pub project: Project,
    /// The installation.
    pub organization: Organization,
    /// The run's end.
    pub workflow: Workflow,
    /// The run's beginning.
    pub pipeline: Pipeline,
}

/// A job is over.
#[derive(Debug, Clone, Serialize)]
pub struct JobCompleted {
    /// The pipeline.
    pub project: Project,
    /// The installation.
    pub organization: Organization,
    /// The run's beginning.
    pub pipeline: Pipeline,
    /// The run, without its status.
    pub workflow: Workflow,
    /// The job's end.
    pub job: Job,
}

/// The first job of a run was accepted; ours, in the form of [`WorkflowCompleted`].
#[derive(Debug, Clone, Serialize)]
pub struct RunStarted {
    /// The pipeline.
    pub project: Project,
    /// The installation.
    pub organization: Organization,
    /// The run.
    pub workflow: Workflow,
    /// The run's beginning.
    pub pipeline: Pipeline,
}

/// A run waits for an approval; ours.
#[derive(Debug, Clone, Serialize)]
pub struct GateWaiting {
    /// The pipeline.
    pub project: Project,
    /// The installation.
    pub organization: Organization,
    /// The run.
    pub workflow: Workflow,
    /// The run's beginning.
    pub pipeline: Pipeline,
    /// What it waits for.
    pub gate: Gate,
}

/// The server disabled a subscription; ours.
#[derive(Debug, Clone, Serialize)]
pub struct SubscriptionDisabled {
    /// The installation.
    pub organization: Organization,
    /// Which one, and why.
    pub subscription: Disabled,
}

/// A subscription that gets nothing any more.
#[derive(Debug, Clone, Serialize)]
pub struct Disabled {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its URL without query, which may be secret.
    pub url: String,
    /// `gone`, `asked` or `failing`.
    pub reason: String,
    /// Tries that failed since the last success.
    pub failures: i64,
    /// When the first of those failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<String>,
}

/// Somebody tries a subscription out.
#[derive(Debug, Clone, Serialize)]
pub struct Ping {
    /// The installation.
    pub organization: Organization,
    /// Who.
    pub ping: By,
}

/// Who pings.
#[derive(Debug, Clone, Serialize)]
pub struct By {
    /// As they call themselves.
    pub by: String,
}
