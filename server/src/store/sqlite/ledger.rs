//! Changes to runs: load, let the state machine decide, write back.

use super::super::wake::{Wake, WakeBus};
use super::super::{Result, codec};
use super::rows::{self, Id, all, execute, first, id, micros};
use super::{Failable, SqliteStore, now};
use crate::model::RunId;
use crate::model::run::{Event, EventBody, Job, Reply, Run, RunState};
use crate::model::transition::{Aggregate, Applied, Change, Effects, LostAttempt, apply};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use rusqlite::{Connection, params};
use std::sync::Arc;
use time::OffsetDateTime;

/// What to tell others once the change is durable.
struct Told {
    applied: Applied,
    run_id: RunId,
    effects: Effects,
    finished: bool,
}

impl SqliteStore {
    pub(super) fn submit_change(
        &self,
        run_id: RunId,
        change: Change,
    ) -> BoxFuture<'static, Result<Applied>> {
        let wakes = self.wakes.clone();
        self.writer
            .write(
                move |connection| change_now(connection, run_id, change),
                move |told: &Told| publish(&wakes, told),
            )
            .map_ok(|told| told.applied)
            .boxed()
    }
}

fn publish(wakes: &WakeBus, told: &Told) {
    let effects = &told.effects;
    if effects.job_queued {
        wakes.publish(Wake::JobQueued);
    }
    for session in &effects.cancel {
        wakes.publish(Wake::Cancel(*session));
    }
    if !effects.events.is_empty() || effects.reply.is_some() {
        let reply = effects.reply.clone().map(Arc::new);
        wakes.publish_run(told.run_id, reply, told.finished);
    }
}

fn change_now(connection: &Connection, run_id: RunId, change: Change) -> Failable<Told> {
    let mut effects = Effects::default();
    let found = first(
        connection,
        "SELECT * FROM runs WHERE id = ?",
        [id(run_id)],
        rows::run,
    )?;
    let Some(run) = found else {
        return Ok(Told {
            applied: Applied::Stale,
            run_id,
            effects,
            finished: false,
        });
    };
    let jobs = all(
        connection,
        "SELECT * FROM jobs WHERE run_id = ? ORDER BY id",
        [id(run_id)],
        rows::job,
    )?;
    let mut aggregate = Aggregate { run, jobs };
    let now = now();
    let applied = apply(&mut aggregate, change, now, &mut effects);
    if effects.changed {
        write_run(connection, &aggregate.run)?;
        for job in &aggregate.jobs {
            write_job(connection, job)?;
        }
    }
    let run_key: Id = run_id.into();
    for event in &effects.events {
        write_event(connection, &run_key, event)?;
    }
    if let Some(reply) = &effects.reply {
        write_reply(connection, &run_key, reply, now)?;
    }
    for lost in &effects.lost {
        write_lost(connection, lost, now)?;
    }
    Ok(Told {
        applied,
        run_id,
        effects,
        finished: aggregate.run.state == RunState::Finished,
    })
}

fn write_run(connection: &Connection, run: &Run) -> Failable<()> {
    let end = run.end.as_ref();
    execute(
        connection,
        "UPDATE runs SET state = ?, outcome = ?, reason = ?, message = ?, replied = ?, event_seq = ?,
         cancel_actor = ?, started_at = ?, finished_at = ? WHERE id = ?",
        (
            run.state.as_str(),
            end.map(|end| end.outcome.as_str()),
            end.map_or("", |end| &end.reason),
            end.map_or("", |end| &end.message),
            run.replied,
            run.event_seq,
            &run.cancel_actor,
            run.started_at.map(micros),
            run.finished_at.map(micros),
            id(run.id),
        ),
    )?;
    Ok(())
}

fn write_job(connection: &Connection, job: &Job) -> Failable<()> {
    let (end, lease) = (job.end.as_ref(), job.lease.as_ref());
    execute(
        connection,
        "UPDATE jobs SET state = ?, outcome = ?, reason = ?, message = ?, attempt = ?, lost = ?, agent_id = ?,
         session_id = ?, lease_until = ?, report_seq = ?, log_seq = ?, queued_at = ?, started_at = ?, finished_at = ?
         WHERE id = ?",
        (
            job.state.as_str(),
            end.map(|end| end.outcome.as_str()),
            end.map_or("", |end| &end.reason),
            end.map_or("", |end| &end.message),
            job.attempt,
            job.lost,
            job.agent_id.map(id),
            lease.map(|lease| id(lease.session_id)),
            lease.map(|lease| micros(lease.until)),
            job.report_seq,
            job.log_seq,
            micros(job.queued_at),
            job.started_at.map(micros),
            job.finished_at.map(micros),
            id(job.id),
        ),
    )?;
    Ok(())
}

fn write_event(connection: &Connection, run_key: &Id, event: &Event) -> Failable<()> {
    let log = match &event.body {
        EventBody::Log(piece) => Some(piece),
        EventBody::Fact(_) => None,
    };
    execute(
        connection,
        "INSERT INTO run_events (run_id, seq, at, job_id, attempt, data, step, stream, byte_offset, bytes)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            run_key,
            event.seq,
            micros(event.at),
            event.job_id.map(id),
            event.attempt,
            codec::fact(&event.body),
            log.map(|piece| piece.step),
            log.map(|piece| piece.stream.as_str()),
            log.map(|piece| piece.offset),
            log.map(|piece| piece.bytes.as_ref()),
        ],
    )?;
    Ok(())
}

fn write_reply(
    connection: &Connection,
    run_key: &Id,
    reply: &Reply,
    now: OffsetDateTime,
) -> Failable<()> {
    execute(
        connection,
        "INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?)",
        (
            run_key,
            reply.by.as_str(),
            reply.status,
            codec::json(&reply.headers),
            reply.body.as_ref(),
            micros(now),
        ),
    )?;
    Ok(())
}

fn write_lost(connection: &Connection, lost: &LostAttempt, now: OffsetDateTime) -> Failable<()> {
    execute(
        connection,
        "INSERT INTO lost_attempts VALUES (?, ?, ?, ?, ?, ?)",
        (
            id(lost.job_id),
            lost.attempt,
            id(lost.agent_id),
            lost.reason,
            lost.started_at.map(micros),
            micros(now),
        ),
    )?;
    Ok(())
}
