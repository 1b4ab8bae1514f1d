//! Starting a run: interest in the reply, then one transaction that stores it and, where an idle session of this
//! server suits, hands its job out.

use super::reply::ReplyWait;
use super::{Runs, dispatch::Reservation};
use crate::model::pipeline::Pipeline;
use crate::model::receipt::Receipt;
use crate::model::run::{Job, JobState, Lease, Run, RunState, Trigger};
use crate::model::{JobId, RunId};
use crate::store::{Claimed, Enqueued, NewJob, NewRun, Result};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// The name of the one job of a JavaScript pipeline.
const PROGRAM_JOB: &str = "pipeline";

/// A run to start.
pub struct StartRun {
    /// As the caller knows it; [`Started::Stale`] if it has changed since.
    pub pipeline: Arc<Pipeline>,
    /// What starts it.
    pub trigger: Trigger,
    /// The request that starts it; its `run_id` is set here.
    pub receipt: Option<Receipt>,
    /// How long the caller waits for `http.respond`; `None` if nobody waits.
    pub reply_within: Option<Duration>,
    /// The run's id, where a repeated call must not start a second one.
    pub id: Option<RunId>,
}

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
        } = start;
        let run_id = id.unwrap_or_else(RunId::new);
        if let Some(receipt) = &mut receipt {
            receipt.run_id = Some(run_id);
        }
        let wait = reply_within.map(|within| ReplyWait::register(self.store(), run_id, within));
        let settings = self.settings();
        let reservation = self.dispatch().reserve(&pipeline.labels, pipeline.driver);
        let job = NewJob {
            id: JobId::new(),
            name: PROGRAM_JOB.into(),
            labels: pipeline.labels.clone(),
            driver: pipeline.driver,
            hand_to: reservation
                .as_ref()
                .map(|slot| slot.hand_off(settings.accept_within)),
        };
        let new = NewRun {
            id: run_id,
            pipeline_id: pipeline.id,
            pipeline_version: pipeline.version,
            revision_id: pipeline.revision_id,
            trigger,
            receipt,
            wants_reply: wait.is_some(),
            jobs: vec![job],
            max_queue: settings.max_queue,
        };
        match self.store().enqueue(new.clone()).await? {
            Enqueued::Stored => {
                if let Some(slot) = reservation {
                    deliver(slot, new, &pipeline);
                }
                Ok(Started::Stored { run_id, wait })
            }
            Enqueued::Stale => Ok(Started::Stale),
            Enqueued::QueueFull => Ok(Started::QueueFull),
        }
    }
}

/// Tells the session of the job that it was given in the transaction.
fn deliver(mut slot: Reservation, new: NewRun, pipeline: &Pipeline) {
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
        replied: false,
        event_seq: 0,
        cancel_actor: None,
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
            report_seq: 0,
            log_seq: 0,
            queued_at: now,
            started_at: None,
            finished_at: None,
        };
        slot.deliver(Claimed {
            run: run.clone(),
            job,
            pipeline_name: pipeline.name.clone(),
            receipt: new.receipt.clone(),
        });
    }
}
