//! A run with its jobs: loaded, changed by the model's rules, written back with everything that follows.

use super::outbox;
use super::rows::{self, Columns, JOB, RUN, json, key, micros, micros_opt, now};
use super::writer::Hints;
use crate::model::RunId;
use crate::model::run::{End, Event, EventBody, Hold, Job, Reply, Run, RunState};
use crate::model::transition::{Aggregate, Applied, Change, Effects, LostAttempt, apply};
use crate::store::{Result, codec};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::sync::Arc;
use time::OffsetDateTime;

/// Applies a change to a run.
pub(super) fn submit(
    connection: &Connection,
    run_id: RunId,
    change: Change,
    hints: &mut Hints,
) -> Result<Applied> {
    let Some(mut aggregate) = load(connection, run_id)? else {
        return Ok(Applied::Stale);
    };
    let before = aggregate.clone();
    let now = now();
    let mut effects = Effects::default();
    let applied = apply(&mut aggregate, change, now, &mut effects);
    if effects.changed {
        save_run(connection, &before.run, &aggregate.run)?;
        for (old, new) in before.jobs.iter().zip(&aggregate.jobs) {
            if is_moved(old, new) {
                save_job(connection, new)?;
            } else if (old.report_seq, old.log_seq) != (new.report_seq, new.log_seq) {
                save_progress(connection, new)?;
            }
        }
    }
    for event in &effects.events {
        insert_event(connection, run_id, event)?;
    }
    if let Some(reply) = &effects.reply {
        insert_reply(connection, run_id, reply)?;
    }
    for lost in &effects.lost {
        insert_lost(connection, lost, now)?;
    }
    for fact in &effects.outgoing {
        outbox::tell(connection, &fact.into(), hints)?;
    }
    tell(&aggregate.run, effects, hints);
    Ok(applied)
}

fn tell(run: &Run, effects: Effects, hints: &mut Hints) {
    if effects.changed {
        let finished = run.state == RunState::Finished;
        let reply = effects.reply.map(Arc::new);
        hints.runs.push((run.id, reply, finished));
    }
    hints.job_queued |= effects.job_queued;
    hints.freed.extend(effects.freed);
    hints.schedule = hints.schedule.or(effects.schedule);
    hints.cancel.extend(effects.cancel);
}

/// A run with its jobs in order.
fn load(connection: &Connection, run_id: RunId) -> Result<Option<Aggregate>> {
    let Some(run) = load_run(connection, run_id)? else {
        return Ok(None);
    };
    let sql = format!("SELECT {JOB} FROM jobs j WHERE j.run_id = ?1 ORDER BY j.position");
    let mut statement = connection.prepare_cached(&sql)?;
    let jobs = statement.query_map([run_id.0.as_bytes()], |row| {
        rows::job(&mut Columns::of(row))
    })?;
    let jobs = jobs.collect::<rusqlite::Result<_>>()?;
    Ok(Some(Aggregate { run, jobs }))
}

/// A run alone.
pub(super) fn load_run(connection: &Connection, run_id: RunId) -> Result<Option<Run>> {
    let sql = format!("SELECT {RUN} FROM runs r WHERE r.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([run_id.0.as_bytes()], |row| {
        rows::run(&mut Columns::of(row))
    });
    Ok(found.optional()?)
}

/// Whether anything but progress differs. Output comes far more often than that, and to write an indexed column is to
/// write its indexes, even if it stays the same.
fn is_moved(old: &Job, new: &Job) -> bool {
    old.state != new.state
        || old.end != new.end
        || old.attempt != new.attempt
        || old.lost != new.lost
        || old.lease != new.lease
        || old.agent_id != new.agent_id
        || old.queued_at != new.queued_at
        || old.hold != new.hold
        || old.started_at != new.started_at
        || old.finished_at != new.finished_at
}

/// How far the current attempt's messages are stored.
fn save_progress(connection: &Connection, job: &Job) -> Result<()> {
    let sql = "UPDATE jobs SET report_seq = ?2, log_seq = ?3 WHERE id = ?1";
    let given = params![job.id.0.as_bytes(), job.report_seq, job.log_seq];
    connection.prepare_cached(sql)?.execute(given)?;
    Ok(())
}

/// Outcome, reason and message as columns.
fn end_columns(end: Option<&End>) -> (Option<&'static str>, Option<&str>, Option<&str>) {
    (
        end.map(|end| end.outcome.as_str()),
        end.map(|end| end.reason.as_str()),
        end.map(|end| end.message.as_str()),
    )
}

fn save_run(connection: &Connection, old: &Run, run: &Run) -> Result<()> {
    let is_moved = old.state != run.state
        || old.end != run.end
        || old.cancel != run.cancel
        || old.started_at != run.started_at
        || old.finished_at != run.finished_at;
    if !is_moved {
        let sql = "UPDATE runs SET replied = ?2, event_seq = ?3 WHERE id = ?1";
        let given = params![run.id.0.as_bytes(), run.replied, run.event_seq];
        connection.prepare_cached(sql)?.execute(given)?;
        return Ok(());
    }
    let sql = "UPDATE runs SET state = ?2, outcome = ?3, reason = ?4, message = ?5, replied = ?6, \
         event_seq = ?7, cancel_actor = ?8, started_at = ?9, finished_at = ?10, actor = ?11, \
         cancel_reason = ?12 WHERE id = ?1";
    let (outcome, reason, message) = end_columns(run.end.as_ref());
    connection.prepare_cached(sql)?.execute(params![
        run.id.0.as_bytes(),
        run.state.as_str(),
        outcome,
        reason,
        message,
        run.replied,
        run.event_seq,
        run.cancel.as_ref().map(|wish| &wish.actor),
        micros_opt(run.started_at),
        micros_opt(run.finished_at),
        run.end.as_ref().map(|end| &end.actor),
        run.cancel.as_ref().map(|wish| wish.reason.as_str()),
    ])?;
    Ok(())
}

/// Writes what can change of a job.
pub(super) fn save_job(connection: &Connection, job: &Job) -> Result<()> {
    let sql = "UPDATE jobs SET state = ?2, outcome = ?3, reason = ?4, message = ?5, attempt = ?6, \
         lost = ?7, agent_id = ?8, session_id = ?9, lease_until = ?10, report_seq = ?11, \
         log_seq = ?12, queued_at = ?13, started_at = ?14, finished_at = ?15, actor = ?16, \
         hold = ?17, queue_until = ?18 WHERE id = ?1";
    let (outcome, reason, message) = end_columns(job.end.as_ref());
    let lease = job.lease.as_ref();
    connection.prepare_cached(sql)?.execute(params![
        job.id.0.as_bytes(),
        job.state.as_str(),
        outcome,
        reason,
        message,
        job.attempt,
        job.lost,
        key(job.agent_id.map(|agent| agent.0)),
        key(lease.map(|lease| lease.session_id.0)),
        lease.map(|lease| micros(lease.until)),
        job.report_seq,
        job.log_seq,
        micros(job.queued_at),
        micros_opt(job.started_at),
        micros_opt(job.finished_at),
        job.end.as_ref().map(|end| &end.actor),
        job.hold.map(Hold::as_str),
        micros_opt(job.queue_until),
    ])?;
    Ok(())
}

fn insert_event(connection: &Connection, run_id: RunId, event: &Event) -> Result<()> {
    let sql = "INSERT INTO events (run_id, seq, at, job_id, attempt, fact, step, stream, offset, \
         bytes, encoding, size) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let (fact, log) = match &event.body {
        EventBody::Fact(kind) => (Some(json(kind)?), None),
        EventBody::Log(piece) => (None, Some(piece)),
    };
    let data = log.map(|piece| codec::log_columns(&piece.data));
    connection.prepare_cached(sql)?.execute(params![
        run_id.0.as_bytes(),
        event.seq,
        micros(event.at),
        key(event.job_id.map(|job| job.0)),
        event.attempt,
        fact,
        log.map(|piece| piece.step),
        log.map(|piece| piece.stream.as_str()),
        log.map(|piece| piece.offset),
        data.map(|(_, _, bytes)| bytes),
        data.and_then(|(encoding, ..)| encoding),
        data.and_then(|(_, size, _)| size),
    ])?;
    Ok(())
}

fn insert_reply(connection: &Connection, run_id: RunId, reply: &Reply) -> Result<()> {
    let sql = "INSERT INTO replies (run_id, by, status, headers, body) VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(params![
        run_id.0.as_bytes(),
        reply.by.as_str(),
        reply.status,
        json(&reply.headers)?,
        reply.body.as_ref(),
    ])?;
    Ok(())
}

fn insert_lost(connection: &Connection, lost: &LostAttempt, now: OffsetDateTime) -> Result<()> {
    let sql = "INSERT INTO lost_attempts (job_id, attempt, agent_id, reason, started_at, lost_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute(params![
        lost.job_id.0.as_bytes(),
        lost.attempt,
        lost.agent_id.0.as_bytes(),
        lost.reason,
        micros_opt(lost.started_at),
        micros(now),
    ])?;
    Ok(())
}
