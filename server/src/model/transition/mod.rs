//! How a run may change: the state machine, pure, the same for every storage.
//!
//! A storage locks and loads a run with its jobs, lets [`apply`] decide, and writes back what changed in the same
//! transaction. Invariants kept here: a message counts only if its attempt and session hold the job (fencing);
//! reports and log chunks have no holes and a repeated one changes nothing; a run has at most one reply; a finished
//! job or run never changes again; events are numbered without holes.

mod step;

use super::delivery::OutgoingFact;
use super::run::{Cancelled, End, Event, Job, Lease, LogPiece, Reply, ReplyBy, Run};
use super::{AgentId, JobId, PipelineId, RunId, SessionId};
use bytes::Bytes;
use pocketci_proto::api::RunEventKind;
use std::time::Duration;
use step::Step;
use time::OffsetDateTime;

/// A run with all its jobs, locked by the caller.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// The run.
    pub run: Run,
    /// Its jobs.
    pub jobs: Vec<Job>,
}

/// Who says to hold a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The attempt it was given.
    pub attempt: i32,
    /// The session that speaks.
    pub session_id: SessionId,
}

/// What an attempt tells; see `Report` in agent.proto.
#[derive(Clone)]
pub enum Report {
    /// The agent took the job.
    Accepted {
        /// For the event.
        agent_name: String,
        /// The lease from now on.
        lease: Duration,
    },
    /// The agent cannot take it; it goes back to the queue without penalty.
    Rejected {
        /// For the log.
        reason: String,
    },
    /// `http.respond`.
    Respond(Reply),
    /// A step began or ended.
    Step(RunEventKind),
    /// The attempt is over.
    Finished {
        /// How.
        end: End,
        /// Every chunk up to this one must be stored.
        final_log_seq: i64,
    },
}

/// A change that somebody wants.
#[derive(Clone)]
pub enum Change {
    /// An attempt's report.
    Report {
        /// The job.
        job_id: JobId,
        /// Who speaks.
        holder: Holder,
        /// Its number in the attempt, from 1.
        seq: i32,
        /// What it says.
        report: Report,
    },
    /// An attempt's output.
    Logs {
        /// The job.
        job_id: JobId,
        /// Who speaks.
        holder: Holder,
        /// Numbered chunks in order.
        pieces: Vec<(i64, LogPiece)>,
    },
    /// A reconnected agent still works on the job.
    Adopt {
        /// The job.
        job_id: JobId,
        /// The attempt it holds.
        attempt: i32,
        /// The agent, which must be the one that had it.
        agent_id: AgentId,
        /// Its new session.
        session_id: SessionId,
        /// The lease from now on.
        lease: Duration,
    },
    /// An assignment that could not be delivered; back to the queue without penalty.
    Release {
        /// The job.
        job_id: JobId,
        /// Who had it.
        holder: Holder,
    },
    /// The attempt broke the protocol in a way that sending again cannot cure; it is lost.
    Condemn {
        /// The job.
        job_id: JobId,
        /// Who spoke.
        holder: Holder,
    },
    /// The lease is believed to have run out.
    Expire {
        /// The job.
        job_id: JobId,
    },
    /// The run is to stop: somebody asks, or a newer one takes its place.
    Cancel(Cancelled),
    /// The run finds its concurrency group full and shall not wait.
    Skip {
        /// The run in its way.
        for_run: RunId,
    },
    /// A job that still waits for its inputs ends without any agent's work.
    Settle {
        /// The job.
        job_id: JobId,
        /// How.
        end: End,
    },
    /// The job is believed to have waited longer than it may.
    Overdue {
        /// The job.
        job_id: JobId,
        /// What it waited for, for people.
        waited_for: String,
    },
    /// The caller's time is up: the server answers 202.
    CloseReply,
}

/// What became of a [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Stored.
    Done,
    /// Known already (repeated message, second cancel, reply given before); nothing changed.
    Duplicate,
    /// The sender does not hold the job (any more); nothing changed.
    Stale,
    /// Something before it is missing; nothing changed.
    Gap,
    /// [`Change::Adopt`] only: the job is the new session's.
    Adopted {
        /// Highest stored report.
        report_seq: i32,
        /// Highest stored log chunk.
        log_seq: i64,
        /// Whether it must stop.
        cancel: bool,
    },
}

/// An attempt that ended without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostAttempt {
    /// The job.
    pub job_id: JobId,
    /// Which.
    pub attempt: i32,
    /// On which agent.
    pub agent_id: AgentId,
    /// Why.
    pub reason: String,
    /// When it had been accepted.
    pub started_at: Option<OffsetDateTime>,
}

/// What follows from a change; commit it together with the changed rows, then publish the hints.
#[derive(Default)]
pub struct Effects {
    /// To insert.
    pub events: Vec<Event>,
    /// To insert.
    pub reply: Option<Reply>,
    /// To insert.
    pub lost: Vec<LostAttempt>,
    /// To tell whoever subscribed to it.
    pub outgoing: Vec<OutgoingFact>,
    /// A job became claimable.
    pub job_queued: bool,
    /// The concurrency group in which a place became free.
    pub freed: Option<(PipelineId, String)>,
    /// The pipeline of which a build or check has ended, so that other builds may begin.
    pub schedule: Option<PipelineId>,
    /// Sessions that must be told to cancel something.
    pub cancel: Vec<SessionId>,
    /// Whether run or jobs must be written back.
    pub changed: bool,
}

/// The server's own answer: 202 with the run's id (seed 000).
pub fn accepted_reply(run_id: RunId) -> Reply {
    Reply {
        by: ReplyBy::Server,
        status: 202,
        headers: vec![
            ("content-type".into(), "application/json".into()),
            ("location".into(), format!("/api/runs/{run_id}")),
        ],
        body: Bytes::from(format!("{{\"run_id\":\"{run_id}\"}}")),
    }
}

/// Decides `change` at instant `now` (store's clock), altering `aggregate` and adding to `effects`.
pub fn apply(
    aggregate: &mut Aggregate,
    change: Change,
    now: OffsetDateTime,
    effects: &mut Effects,
) -> Applied {
    let mut step = Step {
        aggregate,
        now,
        effects,
    };
    match change {
        Change::Report {
            job_id,
            holder,
            seq,
            report,
        } => step.report(job_id, holder, seq, report),
        Change::Logs {
            job_id,
            holder,
            pieces,
        } => step.logs(job_id, holder, pieces),
        Change::Adopt {
            job_id,
            attempt,
            agent_id,
            session_id,
            lease,
        } => step.adopt(
            job_id,
            attempt,
            Lease {
                agent_id,
                session_id,
                until: now + lease,
            },
        ),
        Change::Release { job_id, holder } => step.release(job_id, holder),
        Change::Condemn { job_id, holder } => step.condemn(job_id, holder),
        Change::Expire { job_id } => step.expire(job_id),
        Change::Cancel(wish) => step.cancel(wish),
        Change::Skip { for_run } => step.skip(for_run),
        Change::Settle { job_id, end } => step.settle(job_id, end),
        Change::Overdue { job_id, waited_for } => step.overdue(job_id, &waited_for),
        Change::CloseReply => step.close_reply(),
    }
}
