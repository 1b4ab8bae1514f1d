//! Storing a run with its receipt and jobs.

use super::super::{Enqueued, NewJob, NewRun, codec};
use super::receipts;
use super::rows::{Id, execute, first, id, micros};
use super::{Failable, now};
use rusqlite::Connection;
use rusqlite::Row;
use time::OffsetDateTime;

/// Stores everything or nothing.
pub(super) fn enqueue(connection: &Connection, new: &NewRun) -> Failable<Enqueued> {
    let number = |row: &Row<'_>| Ok(row.get::<_, i64>(0)?);
    let run_key: Id = new.id.into();
    if first(
        connection,
        "SELECT 1 FROM runs WHERE id = ?",
        [&run_key],
        number,
    )?
    .is_some()
    {
        return Ok(Enqueued::Stored);
    }
    let current = first(
        connection,
        "SELECT version FROM pipelines WHERE id = ? AND paused = 0",
        [id(new.pipeline_id)],
        number,
    )?;
    if current != Some(new.pipeline_version) {
        return Ok(Enqueued::Stale);
    }
    if new.jobs.iter().any(|job| job.hand_to.is_none()) {
        let queued = first(
            connection,
            "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' LIMIT ?)",
            [new.max_queue],
            number,
        )?;
        if queued.is_some_and(|queued| queued >= new.max_queue) {
            return Ok(Enqueued::QueueFull);
        }
    }
    let now = now();
    if let Some(receipt) = &new.receipt {
        receipts::insert(connection, receipt)?;
    }
    execute(
        connection,
        "INSERT INTO runs (id, pipeline_id, revision_id, state, trigger_kind, trigger_data, receipt_id, wants_reply,
         replied, event_seq, created_at) VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, 0, 0, ?)",
        (
            &run_key,
            id(new.pipeline_id),
            id(new.revision_id),
            new.trigger.kind.as_str(),
            codec::json(&new.trigger),
            new.receipt.as_ref().map(|receipt| id(receipt.id)),
            new.wants_reply,
            micros(now),
        ),
    )?;
    for job in &new.jobs {
        insert_job(connection, &run_key, job, now)?;
    }
    Ok(Enqueued::Stored)
}

fn insert_job(
    connection: &Connection,
    run_key: &Id,
    job: &NewJob,
    now: OffsetDateTime,
) -> Failable<()> {
    let hand_to = job.hand_to.as_ref();
    execute(
        connection,
        "INSERT INTO jobs (id, run_id, name, state, attempt, lost, agent_id, session_id, lease_until, labels, driver,
         report_seq, log_seq, queued_at) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, 0, 0, ?)",
        (
            id(job.id),
            run_key,
            &job.name,
            if hand_to.is_some() { "assigned" } else { "queued" },
            i32::from(hand_to.is_some()),
            hand_to.map(|hand| id(hand.agent_id)),
            hand_to.map(|hand| id(hand.session_id)),
            hand_to.map(|hand| micros(now + hand.accept_within)),
            codec::labels(&job.labels),
            job.driver.map(|driver| driver.as_str()),
            micros(now),
        ),
    )?;
    Ok(())
}
