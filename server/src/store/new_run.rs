//! A run to store, and what became of it.

use crate::model::dedup::{self, Again, DedupKey, First};
use crate::model::pipeline::Labels;
use crate::model::receipt::Receipt;
use crate::model::run::{Hold, QueueTerms, Trigger};
use crate::model::{AgentId, JobId, PipelineId, RevisionId, RunId, SessionId};
use pocketci_proto::api::Driver;
use std::time::Duration;

/// A session that gets a new job in the same transaction that stores it.
#[derive(Debug, Clone)]
pub struct HandOff {
    /// The agent.
    pub agent_id: AgentId,
    /// Its session.
    pub session_id: SessionId,
    /// The lease until it must have accepted.
    pub accept_within: Duration,
}

/// A job that is a build: see [`crate::model::run::BuildNumber`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewBuild {
    /// The build, or rerun of a build, that it repeats. One that is no build of the same pipeline and job counts as
    /// none.
    pub rerun_of: Option<JobId>,
}

/// A job of a [`NewRun`].
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id, chosen by the caller.
    pub id: JobId,
    /// `pipeline` for a JavaScript pipeline.
    pub name: String,
    /// Labels that an agent must have.
    pub labels: Labels,
    /// Driver that the agent must offer.
    pub driver: Option<Driver>,
    /// It is a build and gets the next number of its pipeline's jobs of this name.
    pub build: Option<NewBuild>,
    /// How it waits.
    pub terms: QueueTerms,
    /// Hand it out at once as attempt 1 (state assigned); otherwise it is queued.
    pub hand_to: Option<HandOff>,
}

/// A run to store, with the receipt that started it.
#[derive(Clone)]
pub struct NewRun {
    /// Its id, chosen by the caller (repeating the call with the same id stores nothing twice).
    pub id: RunId,
    /// Of which pipeline.
    pub pipeline_id: PipelineId,
    /// The version the caller decided on; another one stored now means [`Enqueued::Stale`].
    pub pipeline_version: i64,
    /// Which program.
    pub revision_id: RevisionId,
    /// What started it.
    pub trigger: Trigger,
    /// The request that started it; its `run_id` is this run's.
    pub receipt: Option<Receipt>,
    /// Whether somebody waits for the reply.
    pub wants_reply: bool,
    /// Whether its caller is answered already: whatever it replies is too late.
    pub replied: bool,
    /// Its concurrency group: its jobs (without `hand_to`) are held until [`QueueStore::admit`] lets them go.
    pub group: Option<String>,
    /// At least one.
    pub jobs: Vec<NewJob>,
    /// Most queued jobs in the whole store; counts only for jobs without `hand_to`.
    pub max_queue: i64,
    /// What must not have been claimed before; it needs a receipt.
    pub dedup: Option<DedupKey>,
    /// Whether its pipeline is paused, as far as the caller knows: its jobs wait until it goes on.
    pub while_paused: bool,
}

impl NewRun {
    /// Whether its jobs go to the queue ready to be handed out.
    pub(super) fn is_ready(&self) -> bool {
        let ready = |job: &NewJob| job.hand_to.is_none() && self.hold_of(job).is_none();
        self.jobs.iter().any(ready)
    }

    /// How many of its jobs go to the queue; builds that wait for their inputs do later.
    pub(super) fn queued(&self) -> usize {
        let queued =
            |job: &&NewJob| job.hand_to.is_none() && self.hold_of(job) != Some(Hold::Inputs);
        self.jobs.iter().filter(queued).count()
    }

    /// Why a job of it may not be handed out yet.
    pub(super) fn hold_of(&self, job: &NewJob) -> Option<Hold> {
        match (&job.hand_to, &self.group, &job.build) {
            (Some(_), ..) => None,
            (None, Some(_), _) => Some(Hold::Group),
            (None, None, Some(_)) => Some(Hold::Inputs),
            (None, None, None) => self.while_paused.then_some(Hold::Paused),
        }
    }

    /// The pipeline that has a build to schedule.
    pub(super) fn to_schedule(&self) -> Option<PipelineId> {
        let waits = |job: &NewJob| self.hold_of(job) == Some(Hold::Inputs);
        self.jobs.iter().any(waits).then_some(self.pipeline_id)
    }
}

/// What became of a [`NewRun`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// Stored and durable.
    Stored,
    /// The pipeline was changed, paused, unpaused or deleted meanwhile: load it and decide again. Nothing was stored.
    Stale,
    /// Too many queued jobs. Nothing was stored.
    QueueFull,
    /// Its key was claimed by a request that still stands. Nothing was stored.
    Duplicate(First),
    /// Its key was claimed with another body. Nothing was stored.
    Conflict(First),
    /// The body that its receipt names was forgotten. Nothing was stored.
    BodyGone,
}

impl Enqueued {
    /// What becomes of a request whose key was claimed before; `None` if it is done again.
    pub(super) fn of_again(claimed: &dedup::Claimed, key: &DedupKey) -> Option<Self> {
        match claimed.again(key) {
            Again::Duplicate => Some(Self::Duplicate(claimed.first)),
            Again::Conflict => Some(Self::Conflict(claimed.first)),
            Again::Redelivery => None,
        }
    }
}
