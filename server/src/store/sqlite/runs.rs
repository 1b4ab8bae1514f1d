//! Runs: storing new ones, looking at them.

use super::rows::{self, Columns, EVENT, JOB, REPLY, RUN, driver_word, json, key, micros, now};
use super::writer::Hints;
use super::{SqliteStore, bodies, builds, dedup, queue, receipts};
use crate::model::run::{Event, Hold, Job, Outcome, Reply, RunState};
use crate::model::{JobId, RunId};
use crate::store::{Enqueued, LogOffsets, NewJob, NewRun, Result, RunFilter, RunStore, RunView};
use async_trait::async_trait;
use pocketci_proto::api::RunStatus;
use rusqlite::{Connection, OptionalExtension as _, ToSql, params};
use time::OffsetDateTime;

/// Most runs of a page.
const MAX_PAGE: i64 = 200;

/// Jobs that wait for an agent.
pub(super) fn queued_jobs(connection: &Connection) -> Result<i64> {
    let mut statement = connection.prepare_cached("SELECT jobs FROM queue")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Builds that wait for their inputs: they are not in the queue yet.
fn waiting_builds(connection: &Connection) -> Result<i64> {
    let sql = "SELECT count(*) FROM jobs WHERE state = 'queued' AND hold = 'inputs'";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn exists(connection: &Connection, id: RunId) -> Result<bool> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?;
    Ok(statement.exists([id.0.as_bytes()])?)
}

/// Whether the pipeline is still what the caller decided on.
fn is_current(connection: &Connection, new: &NewRun) -> Result<bool> {
    let mut statement = connection
        .prepare_cached("SELECT 1 FROM pipelines WHERE id = ?1 AND version = ?2 AND paused = ?3")?;
    let known = params![
        new.pipeline_id.0.as_bytes(),
        new.pipeline_version,
        new.while_paused
    ];
    Ok(statement.exists(known)?)
}

fn enqueue(connection: &Connection, new: &NewRun, hints: &mut Hints) -> Result<Enqueued> {
    if exists(connection, new.id)? {
        return Ok(Enqueued::Stored);
    }
    if !is_current(connection, new)? {
        return Ok(Enqueued::Stale);
    }
    let waiting = new.queued() as i64;
    if waiting > 0
        && queued_jobs(connection)? + waiting > new.max_queue
        && queued_jobs(connection)? - waiting_builds(connection)? + waiting > new.max_queue
    {
        return Ok(Enqueued::QueueFull);
    }
    if let Some(receipt) = &new.receipt
        && receipt.run_id.is_some()
        && !bodies::is_there(connection, receipt.body_place)?
    {
        return Ok(Enqueued::BodyGone);
    }
    let mut redelivery_of = None;
    if let (Some(key), Some(receipt)) = (&new.dedup, &new.receipt) {
        if let Some(claimed) = dedup::claimed(connection, key)? {
            if let Some(known) = Enqueued::of_again(&claimed, key) {
                return Ok(known);
            }
            redelivery_of = Some(claimed.first.receipt_id);
        }
        dedup::claim(connection, key, receipt.id, Some(new.id))?;
    }
    let now = now();
    insert_run(connection, new, now)?;
    if let Some(receipt) = &new.receipt {
        receipts::insert(connection, receipt, redelivery_of)?;
    }
    for (position, job) in (0..).zip(&new.jobs) {
        insert_job(connection, new, position, job, now)?;
    }
    hints.job_queued = new.is_ready();
    hints.schedule = new.to_schedule();
    Ok(Enqueued::Stored)
}

fn insert_run(connection: &Connection, new: &NewRun, now: OffsetDateTime) -> Result<()> {
    let sql = "INSERT INTO runs (id, pipeline_id, revision_id, state, trigger, receipt_id, \
         wants_reply, replied, event_seq, created_at, group_key, group_held) \
         VALUES (?1, ?2, ?3, 'queued', ?4, ?5, ?6, ?9, 0, ?7, ?8, ?8 IS NOT NULL)";
    connection.prepare_cached(sql)?.execute(params![
        new.id.0.as_bytes(),
        new.pipeline_id.0.as_bytes(),
        new.revision_id.0.as_bytes(),
        json(&new.trigger)?,
        key(new.receipt.as_ref().map(|receipt| receipt.id.0)),
        new.wants_reply,
        micros(now),
        new.group,
        new.replied,
    ])?;
    Ok(())
}

fn insert_job(
    connection: &Connection,
    run: &NewRun,
    position: i64,
    job: &NewJob,
    now: OffsetDateTime,
) -> Result<()> {
    let sql = "INSERT INTO jobs (id, run_id, position, name, state, attempt, lost, agent_id, \
         session_id, lease_until, labels, driver, report_seq, log_seq, queued_at, pipeline_id, needs, \
         priority, queue_timeout_ms, attempts, hold, queue_until, turn, number, rerun, rerun_of) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, ?11, 0, 0, ?12, ?13, ?14, ?15, ?16, \
         ?17, ?18, ?19, ?20, ?21, ?22, ?23)";
    let hand_to = job.hand_to.as_ref();
    let state = hand_to.map_or("queued", |_| "assigned");
    let needs = queue::needs(job)?;
    let (turn, queue_until) = match hand_to {
        Some(_) => (0, None),
        // What it waits for is not the queue.
        None if run.hold_of(job) == Some(Hold::Inputs) => (0, None),
        None if run.hold_of(job) == Some(Hold::Group) => {
            (0, job.terms.timeout.map(|within| micros(now + within)))
        }
        // What waits until its pipeline goes on keeps its place meanwhile.
        None => (
            queue::next_turn(connection, &needs, job.terms.priority, run.pipeline_id)?,
            job.terms.timeout.map(|within| micros(now + within)),
        ),
    };
    let hold = run.hold_of(job).map(Hold::as_str);
    let build = match job.build {
        Some(build) => Some(builds::number(
            connection,
            run.pipeline_id,
            &job.name,
            build,
        )?),
        None => None,
    };
    connection.prepare_cached(sql)?.execute(params![
        job.id.0.as_bytes(),
        run.id.0.as_bytes(),
        position,
        job.name,
        state,
        i32::from(hand_to.is_some()),
        key(hand_to.map(|to| to.agent_id.0)),
        key(hand_to.map(|to| to.session_id.0)),
        hand_to.map(|to| micros(now + to.accept_within)),
        json(&job.labels)?,
        driver_word(job.driver),
        micros(now),
        run.pipeline_id.0.as_bytes(),
        needs,
        job.terms.priority,
        job.terms
            .timeout
            .map(|within| i64::try_from(within.as_millis()).unwrap_or(i64::MAX)),
        job.terms.attempts,
        hold,
        queue_until,
        turn,
        build.map(|build| build.number),
        build.map_or(0, |build| build.rerun),
        key(build.and_then(|build| build.rerun_of).map(|id| id.0)),
    ])?;
    Ok(())
}

fn reply(connection: &Connection, id: RunId) -> Result<Option<Reply>> {
    let sql = format!("SELECT {REPLY} FROM replies WHERE run_id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([id.0.as_bytes()], |row| rows::reply(&mut Columns::of(row)));
    Ok(found.optional()?)
}

fn jobs(connection: &Connection, id: RunId) -> Result<Vec<(Job, Option<String>)>> {
    let sql = format!(
        "SELECT {JOB}, a.name FROM jobs j LEFT JOIN agents a ON a.id = j.agent_id \
         WHERE j.run_id = ?1 ORDER BY j.position"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map([id.0.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        Ok((rows::job(&mut columns)?, columns.take()?))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Runs that satisfy `rest`, without jobs and replies.
fn select(connection: &Connection, rest: &str, given: &[&dyn ToSql]) -> Result<Vec<RunView>> {
    let sql =
        format!("SELECT {RUN}, p.name FROM runs r JOIN pipelines p ON p.id = r.pipeline_id {rest}");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(given, |row| {
        let mut columns = Columns::of(row);
        Ok(RunView {
            run: rows::run(&mut columns)?,
            pipeline_name: columns.take()?,
            jobs: vec![],
            reply: None,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn run(connection: &Connection, id: RunId) -> Result<Option<RunView>> {
    let Some(mut view) = select(connection, "WHERE r.id = ?1", &[id.0.as_bytes()])?.pop() else {
        return Ok(None);
    };
    view.jobs = jobs(connection, id)?;
    view.reply = reply(connection, id)?;
    Ok(Some(view))
}

/// The condition for a status, in the form of the partial indexes.
fn status_condition(status: RunStatus) -> (&'static str, &'static str) {
    let open = "r.outcome IS NULL AND r.state = ";
    let over = "r.outcome = ";
    match status {
        RunStatus::Queued => (open, RunState::Queued.as_str()),
        RunStatus::Running => (open, RunState::Running.as_str()),
        RunStatus::Success => (over, Outcome::Succeeded.as_str()),
        RunStatus::Failed => (over, Outcome::Failed.as_str()),
        RunStatus::Errored => (over, Outcome::Errored.as_str()),
        RunStatus::Aborted => (over, Outcome::Aborted.as_str()),
        RunStatus::Skipped => (over, Outcome::Skipped.as_str()),
    }
}

fn runs(connection: &Connection, filter: &RunFilter) -> Result<Vec<RunView>> {
    let mut conditions = vec!["TRUE".to_owned()];
    let mut given: Vec<Box<dyn ToSql>> = vec![];
    if let Some(id) = filter.pipeline_id {
        given.push(Box::new(id.0.into_bytes()));
        conditions.push(format!("r.pipeline_id = ?{}", given.len()));
    }
    if let Some(status) = filter.status {
        let (condition, word) = status_condition(status);
        given.push(Box::new(word));
        conditions.push(format!("{condition}?{}", given.len()));
    }
    if !filter.checks {
        conditions.push("r.trigger ->> '$.kind' <> 'check'".to_owned());
    }
    if let Some(after) = filter.after {
        given.push(Box::new(after.0.into_bytes()));
        conditions.push(format!("r.id < ?{}", given.len()));
    }
    given.push(Box::new(filter.limit.clamp(1, MAX_PAGE)));
    let rest = format!(
        "WHERE {} ORDER BY r.id DESC LIMIT ?{}",
        conditions.join(" AND "),
        given.len()
    );
    let given: Vec<&dyn ToSql> = given.iter().map(AsRef::as_ref).collect();
    select(connection, &rest, &given)
}

fn events(
    connection: &Connection,
    id: RunId,
    after: i64,
    limit: i64,
) -> Result<Option<Vec<Event>>> {
    if !exists(connection, id)? {
        return Ok(None);
    }
    let sql =
        format!("SELECT {EVENT} FROM events WHERE run_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let given = params![id.0.as_bytes(), after, limit.max(0)];
    let found = statement.query_map(given, |row| rows::event(&mut Columns::of(row)))?;
    Ok(Some(found.collect::<rusqlite::Result<_>>()?))
}

/// How far the output of an attempt is stored.
fn log_offsets(
    connection: &Connection,
    id: RunId,
    job_id: JobId,
    attempt: i32,
) -> Result<LogOffsets> {
    let sql = "SELECT log_seq FROM jobs WHERE id = ?1 AND attempt = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let seq = statement.query_row(params![job_id.0.as_bytes(), attempt], |row| row.get(0));
    let sql = "SELECT step, stream, max(offset + coalesce(size, length(bytes))) FROM events \
         WHERE run_id = ?1 AND job_id = ?2 AND attempt = ?3 AND fact IS NULL GROUP BY step, stream";
    let mut statement = connection.prepare_cached(sql)?;
    let given = params![id.0.as_bytes(), job_id.0.as_bytes(), attempt];
    let ends = statement.query_map(given, |row| rows::log_end(&mut Columns::of(row)))?;
    Ok(LogOffsets {
        seq: seq.optional()?.unwrap_or(0),
        ends: ends.collect::<rusqlite::Result<_>>()?,
    })
}

#[async_trait]
impl RunStore for SqliteStore {
    async fn enqueue(&self, run: NewRun) -> Result<Enqueued> {
        self.writer
            .call(move |connection, hints| enqueue(connection, &run, hints))
            .await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunView>> {
        self.readers
            .read(move |connection| run(connection, id))
            .await
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunView>> {
        self.readers
            .read(move |connection| runs(connection, &filter))
            .await
    }

    async fn replies(&self, ids: &[RunId]) -> Result<Vec<(RunId, Reply)>> {
        let ids = ids.to_owned();
        self.readers
            .read(move |connection| {
                let mut found = vec![];
                for id in ids {
                    if let Some(reply) = reply(connection, id)? {
                        found.push((id, reply));
                    }
                }
                Ok(found)
            })
            .await
    }

    async fn events(&self, id: RunId, after: i64, limit: i64) -> Result<Option<Vec<Event>>> {
        self.readers
            .read(move |connection| events(connection, id, after, limit))
            .await
    }

    async fn log_offsets(&self, id: RunId, job_id: JobId, attempt: i32) -> Result<LogOffsets> {
        self.readers
            .read(move |connection| log_offsets(connection, id, job_id, attempt))
            .await
    }
}
