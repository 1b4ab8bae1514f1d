//! The rules themselves: one method for each change, and what follows from it.

use super::{Aggregate, Applied, Effects, Holder, LostAttempt, Report, accepted_reply};
use crate::model::delivery::OutgoingFact;
use crate::model::derived::event_id;
use crate::model::run::{
    BY_AGENT, BY_SERVER, CancelReason, Cancelled, End, Event, EventBody, Hold, JobState, Lease,
    LogPiece, Outcome, Reply, RunState, TriggerKind,
};
use crate::model::subscription::EventName;
use crate::model::{JobId, RunId, retry};
use pocketci_proto::api::RunEventKind;
use std::time::Duration;
use time::OffsetDateTime;

/// One change being applied.
pub(super) struct Step<'a> {
    pub(super) aggregate: &'a mut Aggregate,
    pub(super) now: OffsetDateTime,
    pub(super) effects: &'a mut Effects,
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

    /// Leaves something for subscribers. Looking for versions is nothing that happens in a pipeline.
    fn tell(&mut self, name: EventName, job: Option<usize>, outcome: Option<Outcome>) {
        let run = &self.aggregate.run;
        if run.trigger.kind == TriggerKind::Check {
            return;
        }
        let job = job.map(|at| &self.aggregate.jobs[at]);
        let attempt = job.map_or(0, |job| job.attempt);
        let entity = job.map_or(run.id.0, |job| job.id.0);
        self.effects.outgoing.push(OutgoingFact {
            id: event_id(name.as_str(), entity, attempt),
            name,
            pipeline_id: run.pipeline_id,
            run_id: run.id,
            job_id: job.map(|job| job.id),
            attempt,
            at: self.now,
            status: outcome.map(Outcome::as_str),
        });
    }

    pub(super) fn report(
        &mut self,
        job_id: JobId,
        holder: Holder,
        seq: i32,
        report: Report,
    ) -> Applied {
        let Some(at) = self.held(job_id, holder) else {
            return self.report_after_the_end(job_id, holder, seq);
        };
        let job = &mut self.aggregate.jobs[at];
        if seq <= job.report_seq {
            return Applied::Duplicate;
        }
        // Accepted or Rejected comes first and only first; anything else means that something before it is missing.
        let opening = matches!(report, Report::Accepted { .. } | Report::Rejected { .. });
        if seq != job.report_seq + 1 || opening != (job.state == JobState::Assigned) {
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
        job.queue_until = None;
        if let Some(held) = &mut job.lease {
            held.until = now + lease;
        }
        let run = &mut self.aggregate.run;
        run.state = RunState::Running;
        if run.started_at.is_none() {
            run.started_at = Some(now);
            self.tell(EventName::RunStarted, None, None);
        }
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

    /// An attempt ended by its agent's word. Who wanted it stopped is the store's to say, not the agent's.
    fn finished(&mut self, at: usize, mut end: End) {
        let retried = end.outcome == Outcome::Errored && retry::is_infrastructure(&end.reason);
        if self.aggregate.run.cancel.is_some() && (retried || end.outcome == Outcome::Aborted) {
            return self.finish_job(at, self.cancelled_end());
        }
        if retried {
            return self.lose(at, end.reason, &end.message);
        }
        if end.outcome == Outcome::Errored {
            end.actor = BY_AGENT.into();
        }
        self.finish_job(at, end);
    }

    pub(super) fn logs(
        &mut self,
        job_id: JobId,
        holder: Holder,
        pieces: Vec<(i64, LogPiece)>,
    ) -> Applied {
        let Some(at) = self.held(job_id, holder) else {
            return Applied::Stale;
        };
        let stored = self.aggregate.jobs[at].log_seq;
        let mut expected = stored;
        for (seq, _) in pieces.iter().filter(|(seq, _)| *seq > stored) {
            expected += 1;
            if *seq != expected {
                return Applied::Gap;
            }
        }
        if expected == stored {
            return Applied::Duplicate;
        }
        self.aggregate.jobs[at].log_seq = expected;
        for (_, piece) in pieces.into_iter().filter(|(seq, _)| *seq > stored) {
            self.event(Some(at), EventBody::Log(piece));
        }
        Applied::Done
    }

    pub(super) fn adopt(&mut self, job_id: JobId, attempt: i32, lease: Lease) -> Applied {
        let cancel = self.aggregate.run.cancel.is_some();
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

    pub(super) fn release(&mut self, job_id: JobId, holder: Holder) -> Applied {
        match self.held(job_id, holder) {
            Some(at) if self.aggregate.jobs[at].state == JobState::Assigned => {
                self.requeue(at, "not delivered".into());
                Applied::Done
            }
            _ => Applied::Stale,
        }
    }

    pub(super) fn condemn(&mut self, job_id: JobId, holder: Holder) -> Applied {
        let Some(at) = self.held(job_id, holder) else {
            return Applied::Stale;
        };
        self.lose(at, "protocol_error".into(), "its agent sent what cannot be");
        Applied::Done
    }

    pub(super) fn expire(&mut self, job_id: JobId) -> Applied {
        let now = self.now;
        let Some(at) = self.aggregate.jobs.iter().position(|job| {
            job.id == job_id && job.lease.as_ref().is_some_and(|lease| lease.until < now)
        }) else {
            return Applied::Stale;
        };
        match self.aggregate.jobs[at].state {
            JobState::Assigned => self.requeue(at, "not accepted in time".into()),
            JobState::Running => {
                self.lose(at, "agent_lost".into(), "the agent did not renew its lease")
            }
            JobState::Queued | JobState::Finished => return Applied::Stale,
        }
        Applied::Done
    }

    pub(super) fn cancel(&mut self, wish: Cancelled) -> Applied {
        let run = &mut self.aggregate.run;
        if run.state == RunState::Finished || run.cancel.is_some() {
            return Applied::Duplicate;
        }
        let told = RunEventKind::CancelRequested {
            actor: wish.actor.clone(),
            reason: wish.reason.as_str().into(),
        };
        run.cancel = Some(wish);
        self.fact(None, told);
        for at in 0..self.aggregate.jobs.len() {
            let job = &self.aggregate.jobs[at];
            match (job.state, &job.lease) {
                (JobState::Queued, _) => self.finish_job(at, self.cancelled_end()),
                (_, Some(lease)) => self.effects.cancel.push(lease.session_id),
                (_, None) => {}
            }
        }
        Applied::Done
    }

    /// A run of which nothing was handed out ends without having done anything.
    pub(super) fn skip(&mut self, for_run: RunId) -> Applied {
        let jobs = &self.aggregate.jobs;
        if self.aggregate.run.state == RunState::Finished {
            return Applied::Duplicate;
        }
        if jobs.iter().any(|job| job.state != JobState::Queued) {
            return Applied::Stale;
        }
        for at in 0..self.aggregate.jobs.len() {
            let end = End {
                outcome: Outcome::Skipped,
                reason: "already_running".into(),
                actor: format!("run {for_run}"),
                message: format!("run {for_run} of the same concurrency group is not over"),
            };
            self.finish_job(at, end);
        }
        Applied::Done
    }

    /// A job that was let go meanwhile, or never had to wait, is for agents to end.
    pub(super) fn settle(&mut self, job_id: JobId, end: End) -> Applied {
        let found = self.aggregate.jobs.iter().position(|job| job.id == job_id);
        let Some(at) = found else {
            return Applied::Stale;
        };
        let job = &self.aggregate.jobs[at];
        match (job.state, job.hold) {
            (JobState::Finished, _) => Applied::Duplicate,
            (JobState::Queued, Some(Hold::Inputs)) => {
                self.finish_job(at, end);
                Applied::Done
            }
            _ => Applied::Stale,
        }
    }

    pub(super) fn overdue(&mut self, job_id: JobId, waited_for: &str) -> Applied {
        let now = self.now;
        let found = self.aggregate.jobs.iter().position(|job| {
            job.id == job_id
                && job.state == JobState::Queued
                && job.queue_until.is_some_and(|until| until <= now)
        });
        let Some(at) = found else {
            return Applied::Stale;
        };
        let waited = (now - self.aggregate.jobs[at].queued_at).whole_seconds();
        let end = End {
            outcome: Outcome::Errored,
            reason: "queue_timeout".into(),
            actor: BY_SERVER.into(),
            message: format!(
                "waited {waited} s in the queue, which is as long as it may (queue_timeout_seconds): {waited_for}"
            ),
        };
        self.finish_job(at, end);
        Applied::Done
    }

    pub(super) fn close_reply(&mut self) -> Applied {
        let run = &mut self.aggregate.run;
        if run.replied {
            return Applied::Duplicate;
        }
        run.replied = true;
        self.effects.changed = true;
        self.effects.reply = Some(accepted_reply(run.id));
        Applied::Done
    }

    /// The end of a job that was asked to stop.
    fn cancelled_end(&self) -> End {
        let wish = self.aggregate.run.cancel.as_ref();
        let actor = wish.map_or_else(String::new, |wish| wish.actor.clone());
        let reason = wish.map_or(CancelReason::User, |wish| wish.reason);
        let message = match reason {
            CancelReason::User => format!("stopped by {actor}"),
            CancelReason::Superseded => {
                format!("superseded by {actor} of the same concurrency group")
            }
        };
        End {
            outcome: Outcome::Aborted,
            reason: reason.as_str().into(),
            actor,
            message,
        }
    }

    /// The attempt is gone without a result: another one, or the end if there were too many.
    fn lose(&mut self, at: usize, reason: String, why: &str) {
        let job = &mut self.aggregate.jobs[at];
        job.lost += 1;
        let lost = job.lost;
        if let Some(lease) = &job.lease {
            self.effects.lost.push(LostAttempt {
                job_id: job.id,
                attempt: job.attempt,
                agent_id: lease.agent_id,
                reason: reason.clone(),
                started_at: job.started_at,
            });
        }
        let attempts = self.aggregate.jobs[at].terms.attempts;
        if self.aggregate.run.cancel.is_some() {
            self.finish_job(at, self.cancelled_end());
        } else if lost >= attempts {
            let times = if lost == 1 { "attempt" } else { "attempts" };
            let end = End {
                outcome: Outcome::Errored,
                reason,
                actor: BY_SERVER.into(),
                message: format!(
                    "{lost} {times} failed without the pipeline's fault, the last one because {why}; giving up"
                ),
            };
            self.finish_job(at, end);
        } else {
            self.requeue(at, reason);
        }
    }

    fn requeue(&mut self, at: usize, reason: String) {
        if self.aggregate.run.cancel.is_some() {
            return self.finish_job(at, self.cancelled_end());
        }
        self.fact(Some(at), RunEventKind::Requeued { reason });
        let job = &mut self.aggregate.jobs[at];
        // What nobody has accepted goes on waiting; what was accepted begins to wait.
        if job.state == JobState::Running {
            job.queued_at = self.now;
            job.queue_until = job.terms.timeout.map(|within| self.now + within);
        }
        job.state = JobState::Queued;
        job.lease = None;
        job.started_at = None;
        job.report_seq = 0;
        job.log_seq = 0;
        self.effects.job_queued = true;
    }

    fn finish_job(&mut self, at: usize, end: End) {
        let job = &mut self.aggregate.jobs[at];
        job.state = JobState::Finished;
        job.lease = None;
        job.hold = None;
        job.queue_until = None;
        job.finished_at = Some(self.now);
        job.end = Some(end.clone());
        let is_check = self.aggregate.run.trigger.kind == TriggerKind::Check;
        if job.build.is_some() || is_check {
            self.effects.schedule = Some(self.aggregate.run.pipeline_id);
        }
        self.tell(EventName::JobCompleted, Some(at), Some(end.outcome));
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
            Outcome::Errored => 3,
            Outcome::Aborted => 4,
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
        if let Some(group) = &run.group {
            self.effects.freed = Some((run.pipeline_id, group.clone()));
        }
        run.state = RunState::Finished;
        run.finished_at = Some(self.now);
        run.end = Some(end.clone());
        if run.wants_reply && !run.replied {
            run.replied = true;
            self.effects.reply = Some(accepted_reply(run.id));
        }
        self.tell(EventName::WorkflowCompleted, None, Some(end.outcome));
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
