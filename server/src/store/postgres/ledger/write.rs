//! What a group of changes writes: an array for each column, all statements and the commit in one round trip.

use super::super::super::codec;
use super::super::outbox::Outbox;
use super::Failable;
use crate::model::RunId;
use crate::model::run::{End, Event, EventBody, Hold, Job, Reply, Run};
use crate::model::transition::{Aggregate, Effects, LostAttempt};
use deadpool_postgres::Object;
use futures_util::future::{BoxFuture, FutureExt, join_all, try_join_all};
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

type Params<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// Declares a set of columns: a struct of arrays, its statement and its parameters.
macro_rules! columns {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? } $sql:expr) => {
        $(#[$doc])*
        #[derive(Default)]
        struct $name { $($field: Vec<$type>),* }

        impl $name {
            const SQL: &'static str = $sql;

            fn params(&self) -> Params<'_> {
                vec![$(&self.$field as &(dyn ToSql + Sync)),*]
            }
        }
    };
}

columns! {
    /// Changed runs.
    Runs {
        id: Uuid, state: &'static str, outcome: Option<&'static str>, reason: String, message: String, replied: bool,
        event_seq: i64, cancel_actor: Option<String>, started_at: Option<OffsetDateTime>,
        finished_at: Option<OffsetDateTime>, actor: String, cancel_reason: Option<&'static str>,
    }
    "UPDATE runs r SET state = t.state, outcome = t.outcome, reason = t.reason, message = t.message,
        replied = t.replied, event_seq = t.event_seq, cancel_actor = t.cancel_actor, started_at = t.started_at,
        finished_at = t.finished_at, actor = t.actor, cancel_reason = t.cancel_reason
     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::bigint[], $8::text[],
        $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[])
        AS t (id, state, outcome, reason, message, replied, event_seq, cancel_actor, started_at, finished_at, actor,
            cancel_reason)
     WHERE r.id = t.id"
}

columns! {
    /// Changed jobs.
    Jobs {
        id: Uuid, state: &'static str, outcome: Option<&'static str>, reason: String, message: String, attempt: i32,
        lost: i32, agent_id: Option<Uuid>, session_id: Option<Uuid>, lease_until: Option<OffsetDateTime>,
        report_seq: i32, log_seq: i64, queued_at: OffsetDateTime, started_at: Option<OffsetDateTime>,
        finished_at: Option<OffsetDateTime>, actor: String, hold: Option<&'static str>,
        queue_until: Option<OffsetDateTime>,
    }
    "UPDATE jobs j SET state = t.state, outcome = t.outcome, reason = t.reason, message = t.message,
        attempt = t.attempt, lost = t.lost, agent_id = t.agent_id, session_id = t.session_id,
        lease_until = t.lease_until, report_seq = t.report_seq, log_seq = t.log_seq, queued_at = t.queued_at,
        started_at = t.started_at, finished_at = t.finished_at, actor = t.actor, hold = t.hold,
        queue_until = t.queue_until
     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::int[], $8::uuid[],
        $9::uuid[], $10::timestamptz[], $11::int[], $12::bigint[], $13::timestamptz[], $14::timestamptz[],
        $15::timestamptz[], $16::text[], $17::text[], $18::timestamptz[])
        AS t (id, state, outcome, reason, message, attempt, lost, agent_id, session_id, lease_until, report_seq,
            log_seq, queued_at, started_at, finished_at, actor, hold, queue_until)
     WHERE j.id = t.id"
}

columns! {
    /// New events.
    Events {
        run_id: Uuid, seq: i64, at: OffsetDateTime, job_id: Option<Uuid>, attempt: Option<i32>, data: Option<String>,
        step: Option<i32>, stream: Option<&'static str>, byte_offset: Option<i64>, bytes: Option<Vec<u8>>,
        encoding: Option<&'static str>, size: Option<i64>,
    }
    "INSERT INTO run_events (run_id, seq, at, job_id, attempt, data, step, stream, byte_offset, bytes, encoding, size)
     SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::uuid[], $5::int[], $6::text[], $7::int[],
        $8::text[], $9::bigint[], $10::bytea[], $11::text[], $12::bigint[])"
}

columns! {
    /// New replies.
    Replies {
        run_id: Uuid, by: &'static str, status: i32, headers: String, body: Vec<u8>, created_at: OffsetDateTime,
    }
    "INSERT INTO replies (run_id, by, status, headers, body, created_at)
     SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::bytea[], $6::timestamptz[])"
}

columns! {
    /// Attempts without result.
    Losses {
        job_id: Uuid, attempt: i32, agent_id: Uuid, reason: String, started_at: Option<OffsetDateTime>,
        ended_at: OffsetDateTime,
    }
    "INSERT INTO lost_attempts (job_id, attempt, agent_id, reason, started_at, ended_at)
     SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::timestamptz[], $6::timestamptz[])"
}

fn actor(end: Option<&End>) -> String {
    end.map(|end| end.actor.clone()).unwrap_or_default()
}

/// Everything that a group writes.
#[derive(Default)]
pub(super) struct Writes {
    runs: Runs,
    jobs: Jobs,
    events: Events,
    replies: Replies,
    losses: Losses,
    outbox: Outbox,
}

impl Writes {
    /// `before` are the jobs as they were loaded: those that are the same are not written.
    pub(super) fn add(
        &mut self,
        aggregate: &Aggregate,
        before: &[Job],
        effects: &Effects,
        now: OffsetDateTime,
    ) {
        if !effects.changed {
            return;
        }
        let run_id = aggregate.run.id;
        self.add_run(&aggregate.run);
        for (job, before) in aggregate.jobs.iter().zip(before) {
            if job != before {
                self.add_job(job);
            }
        }
        for event in &effects.events {
            self.add_event(run_id, event);
        }
        if let Some(reply) = &effects.reply {
            self.add_reply(run_id, reply, now);
        }
        for lost in &effects.lost {
            self.add_loss(lost, now);
        }
        for fact in &effects.outgoing {
            self.outbox.add(fact);
        }
    }

    fn add_run(&mut self, run: &Run) {
        let (columns, end) = (&mut self.runs, run.end.as_ref());
        columns.id.push(run.id.0);
        columns.state.push(run.state.as_str());
        columns.outcome.push(end.map(|end| end.outcome.as_str()));
        columns
            .reason
            .push(end.map(|end| end.reason.clone()).unwrap_or_default());
        columns
            .message
            .push(end.map(|end| end.message.clone()).unwrap_or_default());
        columns.replied.push(run.replied);
        columns.event_seq.push(run.event_seq);
        let cancel = run.cancel.as_ref();
        columns
            .cancel_actor
            .push(cancel.map(|wish| wish.actor.clone()));
        columns
            .cancel_reason
            .push(cancel.map(|wish| wish.reason.as_str()));
        columns.actor.push(actor(end));
        columns.started_at.push(run.started_at);
        columns.finished_at.push(run.finished_at);
    }

    fn add_job(&mut self, job: &Job) {
        let (columns, end, lease) = (&mut self.jobs, job.end.as_ref(), job.lease.as_ref());
        columns.id.push(job.id.0);
        columns.state.push(job.state.as_str());
        columns.outcome.push(end.map(|end| end.outcome.as_str()));
        columns
            .reason
            .push(end.map(|end| end.reason.clone()).unwrap_or_default());
        columns
            .message
            .push(end.map(|end| end.message.clone()).unwrap_or_default());
        columns.actor.push(actor(end));
        columns.hold.push(job.hold.map(Hold::as_str));
        columns.queue_until.push(job.queue_until);
        columns.attempt.push(job.attempt);
        columns.lost.push(job.lost);
        columns.agent_id.push(job.agent_id.map(|id| id.0));
        columns
            .session_id
            .push(lease.map(|lease| lease.session_id.0));
        columns.lease_until.push(lease.map(|lease| lease.until));
        columns.report_seq.push(job.report_seq);
        columns.log_seq.push(job.log_seq);
        columns.queued_at.push(job.queued_at);
        columns.started_at.push(job.started_at);
        columns.finished_at.push(job.finished_at);
    }

    fn add_event(&mut self, run_id: RunId, event: &Event) {
        let log = match &event.body {
            EventBody::Log(piece) => Some(piece),
            EventBody::Fact(_) => None,
        };
        let columns = &mut self.events;
        columns.run_id.push(run_id.0);
        columns.seq.push(event.seq);
        columns.at.push(event.at);
        columns.job_id.push(event.job_id.map(|id| id.0));
        columns.attempt.push(event.attempt);
        columns.data.push(codec::fact(&event.body));
        columns.step.push(log.map(|piece| piece.step));
        columns.stream.push(log.map(|piece| piece.stream.as_str()));
        columns.byte_offset.push(log.map(|piece| piece.offset));
        let data = log.map(|piece| codec::log_columns(&piece.data));
        columns.bytes.push(data.map(|(_, _, bytes)| bytes.to_vec()));
        columns
            .encoding
            .push(data.and_then(|(encoding, ..)| encoding));
        columns.size.push(data.and_then(|(_, size, _)| size));
    }

    fn add_reply(&mut self, run_id: RunId, reply: &Reply, now: OffsetDateTime) {
        let columns = &mut self.replies;
        columns.run_id.push(run_id.0);
        columns.by.push(reply.by.as_str());
        columns.status.push(i32::from(reply.status));
        columns.headers.push(codec::json(&reply.headers));
        columns.body.push(reply.body.to_vec());
        columns.created_at.push(now);
    }

    fn add_loss(&mut self, lost: &LostAttempt, now: OffsetDateTime) {
        let columns = &mut self.losses;
        columns.job_id.push(lost.job_id.0);
        columns.attempt.push(lost.attempt);
        columns.agent_id.push(lost.agent_id.0);
        columns.reason.push(lost.reason.clone());
        columns.started_at.push(lost.started_at);
        columns.ended_at.push(now);
    }

    /// Writes and commits; statements without rows are left out. All are sent before the first answer is awaited, in
    /// this order, as each future sends when it is first polled. Gives how many deliveries became due.
    pub(super) async fn commit(&self, client: &Object) -> Failable<u64> {
        let all = [
            (!self.runs.id.is_empty(), Runs::SQL, self.runs.params()),
            (!self.jobs.id.is_empty(), Jobs::SQL, self.jobs.params()),
            (
                !self.events.run_id.is_empty(),
                Events::SQL,
                self.events.params(),
            ),
            (
                !self.replies.run_id.is_empty(),
                Replies::SQL,
                self.replies.params(),
            ),
            (
                !self.losses.job_id.is_empty(),
                Losses::SQL,
                self.losses.params(),
            ),
            // The last one: its count is asked for.
            (!self.outbox.is_empty(), Outbox::SQL, self.outbox.params()),
        ];
        let needed: Vec<_> = all.into_iter().filter(|(needed, ..)| *needed).collect();
        let statements =
            try_join_all(needed.iter().map(|(_, sql, _)| client.prepare_cached(sql))).await?;
        let mut writes: Vec<BoxFuture<'_, Result<u64, tokio_postgres::Error>>> = Vec::new();
        for (statement, (_, _, params)) in statements.iter().zip(&needed) {
            writes.push(client.execute(statement, params).boxed());
        }
        let commit = client.batch_execute("COMMIT").map(|done| done.map(|()| 0));
        writes.push(commit.boxed());
        let counts = in_order(writes).await?;
        let told = counts.iter().rev().nth(1).copied().unwrap_or(0);
        Ok(if self.outbox.is_empty() { 0 } else { told })
    }
}

/// Polls all in order until all are done; the first error counts.
async fn in_order(
    futures: Vec<BoxFuture<'_, Result<u64, tokio_postgres::Error>>>,
) -> Failable<Vec<u64>> {
    let mut counts = Vec::with_capacity(futures.len());
    for result in join_all(futures).await {
        counts.push(result?);
    }
    Ok(counts)
}
