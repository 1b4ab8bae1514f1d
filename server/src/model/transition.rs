//! How a run may change: the state machine, pure, the same for every storage.
//!
//! A storage locks and loads a run with its jobs, lets [`apply`] decide, and writes back what changed in the same
//! transaction. Invariants kept here: a message counts only if its attempt and session hold the job (fencing);
//! reports and log chunks have no holes and a repeated one changes nothing; a run has at most one reply; a finished
//! job or run never changes again; events are numbered without holes.

use super::run::{
    End, Event, EventBody, Job, JobState, Lease, LogPiece, MAX_ATTEMPTS, Outcome, Reply, ReplyBy,
    Run, RunState, TriggerKind,
};
use super::{AgentId, JobId, RunId, SessionId};
use bytes::Bytes;
use pocketci_proto::api::RunEventKind;
use std::time::Duration;
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
    /// The lease is believed to have run out.
    Expire {
        /// The job.
        job_id: JobId,
    },
    /// A user wants the run to stop.
    Cancel {
        /// Who.
        actor: String,
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
    pub reason: &'static str,
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
    /// A job became claimable.
    pub job_queued: bool,
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
        Change::Expire { job_id } => step.expire(job_id),
        Change::Cancel { actor } => step.cancel(actor),
        Change::CloseReply => step.close_reply(),
    }
}

struct Step<'a> {
    aggregate: &'a mut Aggregate,
    now: OffsetDateTime,
    effects: &'a mut Effects,
}

impl Step<'_> {
    /// The index of the job, if `holder` really holds it.
    fn held(&self, job_id: JobId, holder: Holder) -> Option<usize> {
        self.aggregate.jobs.iter().position(|job| {
            job.id == job_id
                && job.attempt == holder.attempt
                && job
                    .lease
                    .as_ref()
                    .is_some_and(|lease| lease.session_id == holder.session_id)
        })
    }

    fn event(&mut self, job: Option<usize>, body: EventBody) {
        let run = &mut self.aggregate.run;
        run.event_seq += 1;
        self.effects.changed = true;
        let job = job.map(|at| &self.aggregate.jobs[at]);
        self.effects.events.push(Event {
            seq: run.event_seq,
            at: self.now,
            job_id: job.map(|job| job.id),
            attempt: job.map(|job| job.attempt),
            body,
        });
    }

    fn fact(&mut self, job: Option<usize>, kind: RunEventKind) {
        self.event(job, EventBody::Fact(kind));
    }

    fn report(&mut self, job_id: JobId, holder: Holder, seq: i32, report: Report) -> Applied {
        let Some(at) = self.held(job_id, holder) else {
            return self.report_after_the_end(job_id, holder, seq);
        };
        let job = &mut self.aggregate.jobs[at];
        if seq <= job.report_seq {
            return Applied::Duplicate;
        }
        if seq != job.report_seq + 1 {
            return Applied::Gap;
        }
        if let Report::Finished { final_log_seq, .. } = &report
            && job.log_seq < *final_log_seq
        {
            return Applied::Gap;
        }
        job.report_seq = seq;
        self.effects.changed = true;
        match report {
            Report::Accepted { agent_name, lease } => self.accepted(at, agent_name, lease),
            Report::Rejected { reason } => self.requeue(at, format!("rejected: {reason}")),
            Report::Respond(reply) => self.respond(at, reply),
            Report::Step(kind) => self.fact(Some(at), kind),
            Report::Finished { end, .. } => self.finished(at, end),
        }
        Applied::Done
    }

    /// A resent last report of an attempt that has already ended the job is no error of the agent's.
    fn report_after_the_end(&self, job_id: JobId, holder: Holder, seq: i32) -> Applied {
        let known = self.aggregate.jobs.iter().any(|job| {
            job.id == job_id
                && job.state == JobState::Finished
                && job.attempt == holder.attempt
                && seq <= job.report_seq
        });
        if known {
            Applied::Duplicate
        } else {
            Applied::Stale
        }
    }

    fn accepted(&mut self, at: usize, agent_name: String, lease: Duration) {
        let now = self.now;
        let job = &mut self.aggregate.jobs[at];
        job.state = JobState::Running;
        job.started_at = Some(now);
        if let Some(held) = &mut job.lease {
            held.until = now + lease;
        }
        let run = &mut self.aggregate.run;
        run.state = RunState::Running;
        run.started_at.get_or_insert(now);
        self.fact(Some(at), RunEventKind::Started { agent: agent_name });
    }

    fn respond(&mut self, at: usize, reply: Reply) {
        let run = &mut self.aggregate.run;
        let status = reply.status;
        if run.trigger.kind != TriggerKind::Webhook {
            return;
        }
        if run.replied {
            self.fact(Some(at), RunEventKind::ReplyIgnored { status });
            return;
        }
        run.replied = true;
        self.effects.reply = Some(reply);
        self.fact(Some(at), RunEventKind::Replied { status });
    }

    fn finished(&mut self, at: usize, end: End) {
        let stopped_agent = end.outcome == Outcome::Errored && end.reason == "agent_stopped";
        if stopped_agent && self.aggregate.run.cancel_actor.is_none() {
            self.lose(at, "agent_stopped");
        } else {
            self.finish_job(at, end);
        }
    }

    fn logs(&mut self, job_id: JobId, holder: Holder, pieces: Vec<(i64, LogPiece)>) -> Applied {
        let Some(at) = self.held(job_id, holder) else {
            return Applied::Stale;
        };
        let mut stored = self.aggregate.jobs[at].log_seq;
        let mut result = Applied::Duplicate;
        for (seq, piece) in pieces {
            if seq <= stored {
                continue;
            }
            if seq != stored + 1 {
                return Applied::Gap;
            }
            stored = seq;
            self.aggregate.jobs[at].log_seq = stored;
            self.event(Some(at), EventBody::Log(piece));
            result = Applied::Done;
        }
        result
    }

    fn adopt(&mut self, job_id: JobId, attempt: i32, lease: Lease) -> Applied {
        let cancel = self.aggregate.run.cancel_actor.is_some();
        let Some(job) = self.aggregate.jobs.iter_mut().find(|job| {
            job.id == job_id
                && job.attempt == attempt
                && job
                    .lease
                    .as_ref()
                    .is_some_and(|held| held.agent_id == lease.agent_id)
        }) else {
            return Applied::Stale;
        };
        job.lease = Some(lease);
        self.effects.changed = true;
        Applied::Adopted {
            report_seq: job.report_seq,
            log_seq: job.log_seq,
            cancel,
        }
    }

    fn release(&mut self, job_id: JobId, holder: Holder) -> Applied {
        match self.held(job_id, holder) {
            Some(at) if self.aggregate.jobs[at].state == JobState::Assigned => {
                self.requeue(at, "not delivered".into());
                Applied::Done
            }
            _ => Applied::Stale,
        }
    }

    fn expire(&mut self, job_id: JobId) -> Applied {
        let now = self.now;
        let Some(at) = self.aggregate.jobs.iter().position(|job| {
            job.id == job_id && job.lease.as_ref().is_some_and(|lease| lease.until < now)
        }) else {
            return Applied::Stale;
        };
        match self.aggregate.jobs[at].state {
            JobState::Assigned => self.requeue(at, "not accepted in time".into()),
            JobState::Running => self.lose(at, "agent_lost"),
            JobState::Queued | JobState::Finished => return Applied::Stale,
        }
        Applied::Done
    }

    fn cancel(&mut self, actor: String) -> Applied {
        let run = &mut self.aggregate.run;
        if run.state == RunState::Finished || run.cancel_actor.is_some() {
            return Applied::Duplicate;
        }
        run.cancel_actor = Some(actor.clone());
        self.fact(
            None,
            RunEventKind::CancelRequested {
                actor: actor.clone(),
            },
        );
        for at in 0..self.aggregate.jobs.len() {
            let job = &self.aggregate.jobs[at];
            match (job.state, &job.lease) {
                (JobState::Queued, _) => self.finish_job(at, self.user_end()),
                (_, Some(lease)) => self.effects.cancel.push(lease.session_id),
                (_, None) => {}
            }
        }
        Applied::Done
    }

    fn close_reply(&mut self) -> Applied {
        let run = &mut self.aggregate.run;
        if run.replied {
            return Applied::Duplicate;
        }
        run.replied = true;
        self.effects.changed = true;
        self.effects.reply = Some(accepted_reply(run.id));
        Applied::Done
    }

    fn user_end(&self) -> End {
        let actor = self.aggregate.run.cancel_actor.as_deref().unwrap_or("user");
        End {
            outcome: Outcome::Aborted,
            reason: "user".into(),
            message: format!("stopped by {actor}"),
        }
    }

    /// The attempt is gone without a result: another one, or the end if there were too many.
    fn lose(&mut self, at: usize, reason: &'static str) {
        let job = &mut self.aggregate.jobs[at];
        job.lost += 1;
        let lost = job.lost;
        if let Some(lease) = &job.lease {
            self.effects.lost.push(LostAttempt {
                job_id: job.id,
                attempt: job.attempt,
                agent_id: lease.agent_id,
                reason,
                started_at: job.started_at,
            });
        }
        if self.aggregate.run.cancel_actor.is_some() {
            self.finish_job(at, self.user_end());
        } else if lost >= MAX_ATTEMPTS {
            let message = format!("{lost} attempts were lost with their agents; giving up");
            self.finish_job(
                at,
                End {
                    outcome: Outcome::Errored,
                    reason: reason.into(),
                    message,
                },
            );
        } else {
            self.requeue(at, reason.into());
        }
    }

    fn requeue(&mut self, at: usize, reason: String) {
        if self.aggregate.run.cancel_actor.is_some() {
            return self.finish_job(at, self.user_end());
        }
        self.fact(Some(at), RunEventKind::Requeued { reason });
        let job = &mut self.aggregate.jobs[at];
        job.state = JobState::Queued;
        job.lease = None;
        job.queued_at = self.now;
        job.started_at = None;
        job.report_seq = 0;
        job.log_seq = 0;
        self.effects.job_queued = true;
    }

    fn finish_job(&mut self, at: usize, end: End) {
        let job = &mut self.aggregate.jobs[at];
        job.state = JobState::Finished;
        job.lease = None;
        job.finished_at = Some(self.now);
        job.end = Some(end.clone());
        self.fact(
            Some(at),
            RunEventKind::JobFinished {
                status: end.outcome.status(),
                reason: end.reason,
                message: end.message,
            },
        );
        if self
            .aggregate
            .jobs
            .iter()
            .all(|job| job.state == JobState::Finished)
        {
            self.finish_run();
        }
    }

    /// The run ends as its worst job did.
    fn finish_run(&mut self) {
        let rank = |outcome: Outcome| match outcome {
            Outcome::Skipped => 0,
            Outcome::Succeeded => 1,
            Outcome::Failed => 2,
            Outcome::Aborted => 3,
            Outcome::Errored => 4,
        };
        let Some(end) = self
            .aggregate
            .jobs
            .iter()
            .filter_map(|job| job.end.clone())
            .max_by_key(|end| rank(end.outcome))
        else {
            return;
        };
        let run = &mut self.aggregate.run;
        run.state = RunState::Finished;
        run.finished_at = Some(self.now);
        run.end = Some(end.clone());
        if run.wants_reply && !run.replied {
            run.replied = true;
            self.effects.reply = Some(accepted_reply(run.id));
        }
        self.fact(
            None,
            RunEventKind::RunFinished {
                status: end.outcome.status(),
                reason: end.reason,
                message: end.message,
            },
        );
    }
}
