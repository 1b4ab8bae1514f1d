//! Starting a run: interest in the reply, then one transaction that stores it and, where an idle session of this
//! server suits, hands its job out.

use super::reply::ReplyWait;
use super::{RunSettings, Runs, dispatch::Reservation};
use crate::model::dedup::{DedupKey, First};
use crate::model::pipeline::Pipeline;
use crate::model::receipt::Receipt;
use crate::model::run::{Job, JobState, Lease, QueueTerms, Run, RunState, Trigger};
use crate::model::settings::{DEFAULT_ATTEMPTS, queue_timeout};
use crate::model::{JobId, RunId};
use crate::store::wake::Wake;
use crate::store::{Claimed, Enqueued, NewRun, Result};
use pocketci_proto::api::PipelineSettings;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// A run to start.
pub struct StartRun {
    /// As the caller knows it; [`Started::Stale`] if it has changed since.
    pub pipeline: Arc<Pipeline>,
    /// What starts it.
    pub trigger: Trigger,
    /// The request that starts it; its `run_id` is set here, unless it is a message of an event.
    pub receipt: Option<Receipt>,
    /// How long the caller waits for `http.respond`; `None` if nobody waits.
    pub reply_within: Option<Duration>,
    /// The run's id, where a repeated call must not start a second one.
    pub id: Option<RunId>,
    /// The build to repeat, of the one job that the trigger names.
    pub rerun_of: Option<JobId>,
    /// What the request claims: a second one with it starts nothing.
    pub dedup: Option<DedupKey>,
    /// Whether it is stored although the pipeline is paused, and begins when that goes on.
    pub may_wait: bool,
    /// Whether the caller is answered as soon as it is stored: whatever the run replies is too late.
    pub is_answered: bool,
}

impl StartRun {
    /// For nobody who waits, without a request, an id, an earlier build or a key.
    pub fn new(pipeline: Arc<Pipeline>, trigger: Trigger) -> Self {
        Self {
            pipeline,
            trigger,
            receipt: None,
            reply_within: None,
            id: None,
            rerun_of: None,
            dedup: None,
            may_wait: false,
            is_answered: false,
        }
    }
}

/// The part of the queue that is left to others by what waits until its pipeline goes on.
const LEFT_BY_PAUSED: i64 = 2;

/// Tries to start a run of a pipeline that keeps changing meanwhile.
pub const MAX_TRIES: usize = 5;

/// What became of a [`StartRun`].
pub enum Started {
    /// Stored and durable.
    Stored {
        /// The run.
        run_id: RunId,
        /// Resolves with the reply; present if `reply_within` was.
        wait: Option<ReplyWait>,
    },
    /// Load the pipeline and decide again; nothing was stored.
    Stale,
    /// Too many queued jobs; nothing was stored.
    QueueFull,
    /// A job that was asked for cannot be run so; nothing was stored.
    Refused(Refused),
    /// The request came before, and what it started stands; nothing was stored.
    Duplicate(First),
    /// It came before with another body; nothing was stored.
    Conflict(First),
}

impl Started {
    /// What it means to those who decide again while the pipeline changes: `None` means so. For those who claim no key.
    pub fn settled(self) -> Option<std::result::Result<(RunId, Option<ReplyWait>), NotStarted>> {
        match self {
            Self::Stored { run_id, wait } => Some(Ok((run_id, wait))),
            Self::QueueFull => Some(Err(NotStarted::QueueFull)),
            Self::Refused(refused) => Some(Err(NotStarted::Refused(refused))),
            // The last two come to those who claim a key.
            Self::Stale | Self::Duplicate(_) | Self::Conflict(_) => None,
        }
    }
}

/// Why nothing was stored, whatever the pipeline becomes.
pub enum NotStarted {
    /// Too many queued jobs.
    QueueFull,
    /// A job that was asked for cannot be run so.
    Refused(Refused),
}

/// Why a job cannot be run as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none of that name.
    #[error("the pipeline has no job {0:?}")]
    UnknownJob(String),
    /// Only versions may start it.
    #[error("job {0:?} may not be triggered by hand (disable_manual_trigger)")]
    NoManualTrigger(String),
    /// Its builds may not be repeated.
    #[error("builds of job {0:?} may not be run again (disable_reruns)")]
    NoReruns(String),
    /// The stored program cannot be read.
    #[error("the pipeline's stored program has faults; set it again")]
    Unreadable,
    /// The body of the request was forgotten while it was to be done again.
    #[error("the server does not have the body of this request any more")]
    BodyGone,
}

impl Runs {
    /// Stores a run; durable when this returns [`Started::Stored`].
    pub async fn start(&self, start: StartRun) -> Result<Started> {
        let StartRun {
            pipeline,
            trigger,
            mut receipt,
            reply_within,
            id,
            rerun_of,
            dedup,
            may_wait,
            is_answered,
        } = start;
        let while_paused = may_wait && pipeline.paused;
        let run_id = id.unwrap_or_else(RunId::new);
        // A message of an event has many runs; its receipt names none.
        if let Some(receipt) = &mut receipt
            && receipt.pipeline_id.is_some()
        {
            receipt.run_id = Some(run_id);
        }
        let wait = reply_within.map(|within| ReplyWait::register(self.store(), run_id, within));
        let settings = self.settings();
        let is_check = trigger.check.is_some();
        // Looks at versions and one-off tasks are no part of the pipeline's own work, and what is for nobody waits for nobody.
        let rule = pipeline.settings.concurrency.as_ref();
        let group = match rule.filter(|_| !is_check && trigger.one_off.is_none()) {
            Some(rule)
                if !self
                    .is_for_nobody(&pipeline, &trigger, receipt.as_ref())
                    .await? =>
            {
                Some(self.group_of(rule, receipt.as_ref()).await?)
            }
            _ => None,
        };
        let mut jobs = match self.jobs_of(&pipeline, &trigger, rerun_of).await? {
            Ok(jobs) => jobs,
            Err(refused) => return Ok(Started::Refused(refused)),
        };
        // Whoever must wait for others goes through the queue.
        let direct = group.is_none() && settings.max_running.is_none() && !while_paused;
        let reservation = match jobs.as_mut_slice() {
            [job] if direct && job.build.is_none() => {
                let reservation = self.dispatch().reserve(&job.labels, job.driver);
                job.hand_to = reservation
                    .as_ref()
                    .map(|slot| slot.hand_off(settings.accept_within));
                reservation
            }
            _ => None,
        };
        let new = NewRun {
            id: run_id,
            pipeline_id: pipeline.id,
            pipeline_version: pipeline.version,
            revision_id: pipeline.revision_id,
            trigger,
            receipt,
            wants_reply: wait.is_some(),
            replied: is_answered,
            group,
            jobs,
            // Whatever waits for a check waits on as long as there is no room for it.
            max_queue: match is_check {
                true => i64::MAX,
                false if while_paused => settings.max_queue / LEFT_BY_PAUSED,
                false => settings.max_queue,
            },
            dedup,
            while_paused,
        };
        match self.store().enqueue(new.clone()).await? {
            Enqueued::Stored => {
                match (reservation, &new.group) {
                    (Some(slot), _) => self.deliver(slot, new, &pipeline).await,
                    // Settled by the one task that does so: many callers at once are one decision.
                    (None, Some(group)) => {
                        let wake = Wake::Group(pipeline.id, group.clone());
                        self.store().wakes().publish(wake);
                    }
                    (None, None) => {}
                }
                Ok(Started::Stored { run_id, wait })
            }
            Enqueued::Stale => Ok(Started::Stale),
            Enqueued::QueueFull => Ok(Started::QueueFull),
            Enqueued::Duplicate(first) => Ok(Started::Duplicate(first)),
            Enqueued::Conflict(first) => Ok(Started::Conflict(first)),
            Enqueued::BodyGone => Ok(Started::Refused(Refused::BodyGone)),
        }
    }
}

pub(super) fn terms(settings: &PipelineSettings, server: &RunSettings) -> QueueTerms {
    QueueTerms {
        priority: settings.priority.unwrap_or(0),
        timeout: queue_timeout(settings, server.queue_timeout),
        attempts: settings.attempts.unwrap_or(DEFAULT_ATTEMPTS),
    }
}

impl Runs {
    /// Tells the session of the job that it was given in the transaction. What cannot be told is not accepted in time,
    /// and handed out again.
    async fn deliver(&self, mut slot: Reservation, new: NewRun, pipeline: &Pipeline) {
        let claimed = claimed(new, pipeline);
        for mut claimed in claimed {
            match self.complete(&mut claimed).await {
                Ok(()) => slot.deliver(claimed),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot hand out a job; it is tried again"
                ),
            }
        }
    }
}

/// The jobs of a new run that were handed out in the transaction.
fn claimed(new: NewRun, pipeline: &Pipeline) -> Vec<Claimed> {
    let mut claimed = Vec::new();
    let now = OffsetDateTime::now_utc();
    let run = Run {
        id: new.id,
        pipeline_id: new.pipeline_id,
        revision_id: new.revision_id,
        state: RunState::Queued,
        end: None,
        trigger: new.trigger,
        receipt_id: new.receipt.as_ref().map(|receipt| receipt.id),
        wants_reply: new.wants_reply,
        replied: new.replied,
        event_seq: 0,
        cancel: None,
        group: new.group,
        created_at: now,
        started_at: None,
        finished_at: None,
    };
    for job in new.jobs {
        let Some(hand_to) = job.hand_to else { continue };
        let job = Job {
            id: job.id,
            run_id: new.id,
            name: job.name,
            build: None,
            state: JobState::Assigned,
            end: None,
            attempt: 1,
            lost: 0,
            agent_id: Some(hand_to.agent_id),
            lease: Some(Lease {
                agent_id: hand_to.agent_id,
                session_id: hand_to.session_id,
                until: now + hand_to.accept_within,
            }),
            labels: job.labels,
            driver: job.driver,
            terms: job.terms,
            hold: None,
            queue_until: None,
            report_seq: 0,
            log_seq: 0,
            queued_at: now,
            started_at: None,
            finished_at: None,
        };
        claimed.push(Claimed {
            run: run.clone(),
            job,
            pipeline_name: pipeline.name.clone(),
            settings: pipeline.settings.clone(),
            receipt: new.receipt.clone(),
            build: None,
        });
    }
    claimed
}
