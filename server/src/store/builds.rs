//! Verbs of builds: jobs of YAML pipelines, which wait for each other, for versions and for their place.

use super::Result;
use crate::model::run::{Job, Run};
use crate::model::selection::ChosenInput;
use crate::model::{JobId, PipelineId, RevisionId, RunId};
use async_trait::async_trait;
use std::time::Duration;
use uuid::Uuid;

/// A run with all its jobs, some of which wait for their inputs.
#[derive(Debug, Clone)]
pub struct OpenRun {
    /// The run.
    pub run: Run,
    /// Its jobs, in the order in which they were stored.
    pub jobs: Vec<Job>,
}

/// A limit on builds at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildLimit {
    /// What sets it, for people: `serial`, `serial_groups: deploy`, `max_in_flight: 2`.
    pub rule: String,
    /// The jobs whose builds count together.
    pub jobs: Vec<String>,
    /// Most builds that have begun and are not over.
    pub max: i64,
}

/// The versions that a build is to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildInputs {
    /// These.
    Chosen(Vec<ChosenInput>),
    /// Those of the build it repeats.
    Of(JobId),
}

/// A build that may begin.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// Its run.
    pub run_id: RunId,
    /// Which job.
    pub job_id: JobId,
    /// What it uses.
    pub inputs: BuildInputs,
    /// What bounds it.
    pub limits: Vec<BuildLimit>,
}

/// What became of an [`Admission`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Its inputs are stored and it waits for an agent.
    Done,
    /// As many builds as this limit (its place in [`Admission::limits`]) allows have begun; nothing was changed.
    Full(usize),
    /// It does not wait for its inputs (any more), or its pipeline is paused; nothing was changed.
    Stale,
}

/// Builds.
#[async_trait]
pub trait BuildStore: Send + Sync {
    /// Runs of a pipeline in which a build waits for its inputs, oldest first, those after `after`, at most `limit`.
    async fn open_runs(
        &self,
        pipeline_id: PipelineId,
        after: Option<RunId>,
        limit: i64,
    ) -> Result<Vec<OpenRun>>;
    /// The names of the jobs of which a build has not been let go, whatever holds it, each once.
    async fn waiting_jobs(&self, pipeline_id: PipelineId) -> Result<Vec<String>>;
    /// Lets a build go if its place is free: inputs, place and hand-over to the queue in one transaction that no other
    /// admission of the pipeline crosses. Wakes whoever looks for work.
    async fn admit_build(&self, admission: Admission) -> Result<Admitted>;
    /// Builds of these jobs that have begun and are not over.
    async fn begun_builds(&self, pipeline_id: PipelineId, jobs: &[String]) -> Result<i64>;
    /// Builds of a job (of all jobs of the pipeline, if `None`), newest first, those older than `before`, at most `limit`.
    async fn builds(
        &self,
        pipeline_id: PipelineId,
        job: Option<&str>,
        before: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<(Run, Job)>>;
    /// The build with this number (`rerun` 0 for the original).
    async fn build(
        &self,
        pipeline_id: PipelineId,
        job: &str,
        number: i32,
        rerun: i32,
    ) -> Result<Option<(Run, Job)>>;
    /// YAML pipelines that are not paused, in the order of ids, those after `after`, with their newest revisions.
    async fn yaml_pipelines(
        &self,
        after: Option<PipelineId>,
        limit: i64,
    ) -> Result<Vec<(PipelineId, RevisionId)>>;
    /// Pipelines that are not paused and in which a build waits for its inputs.
    async fn waiting_pipelines(&self, limit: i64) -> Result<Vec<PipelineId>>;
    /// Removes runs that looked for versions and ended so long ago; how many, at most `limit`.
    async fn forget_checks(&self, ended_before: Duration, limit: i64) -> Result<u64>;
    /// Takes or keeps a duty that one server has at a time, from now on for `hold`; `false` if another one has it.
    async fn take_duty(&self, name: &str, holder: Uuid, hold: Duration) -> Result<bool>;
}
