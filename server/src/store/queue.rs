//! Verbs of what waits: the queue and its concurrency groups.

use super::Result;
use crate::model::concurrency::{Member, Ruling};
use crate::model::pipeline::Labels;
use crate::model::run::Job;
use crate::model::{AgentId, JobId, PipelineId, RunId};
use async_trait::async_trait;
use pocketci_proto::api::Driver;

/// What queued jobs ask of an agent, and how many of them there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Labels that an agent must have.
    pub labels: Labels,
    /// Driver that it must offer.
    pub driver: Option<Driver>,
    /// Jobs, counted up to [`MAX_DEMAND`].
    pub jobs: i64,
}

/// See [`Demand::jobs`].
pub const MAX_DEMAND: i64 = 256;

/// Waiting runs of a group that one decision looks at, from either end; what it leaves is for the next one.
pub const MAX_WAITING: i64 = 100;

/// A queued job as people look at it.
#[derive(Debug, Clone)]
pub struct QueuedView {
    /// The job.
    pub job: Job,
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// That pipeline's name.
    pub pipeline_name: String,
    /// Who paused that pipeline; empty if it is not.
    pub paused_by: String,
    /// Its run's concurrency group.
    pub group: Option<String>,
}

/// Jobs that wait.
#[async_trait]
pub trait QueueStore: Send + Sync {
    /// What the jobs that could be handed out ask for, each distinct requirement once.
    async fn demand(&self) -> Result<Vec<Demand>>;
    /// Queued jobs, held ones last, otherwise about in the order in which they will be handed out.
    async fn queue(&self, limit: i64) -> Result<Vec<QueuedView>>;
    /// Jobs in each agent's hands.
    async fn load(&self) -> Result<Vec<(AgentId, i64)>>;
    /// Jobs that have waited longer than they may, at most `limit`; feed them to [`Change::Overdue`].
    async fn overdue(&self, limit: i64) -> Result<Vec<(RunId, JobId)>>;
    /// Concurrency groups in which a run is held, in the order of (pipeline, group), those after `after`, at most `limit`.
    async fn held_groups(
        &self,
        after: Option<(PipelineId, String)>,
        limit: i64,
    ) -> Result<Vec<(PipelineId, String)>>;
    /// The runs of a group that are not over: all that are admitted, of those that wait the oldest and the newest
    /// [`MAX_WAITING`].
    async fn group(&self, pipeline_id: PipelineId, group: &str) -> Result<Vec<Member>>;
    /// Decides on a group by its pipeline's rule as it is now ([`crate::model::concurrency::decide`]) and lets go the
    /// jobs of those admitted, in one transaction that no other decision on the group crosses. Who is superseded or
    /// skipped is returned, for [`Change::Cancel`] and [`Change::Skip`]; deciding again tells it again.
    async fn admit(&self, pipeline_id: PipelineId, group: &str) -> Result<Ruling>;
    /// Wakes whoever looks for work, on every server.
    fn nudge(&self);
}
