//! Jobs that wait: what they ask for, whose turn it is, their concurrency groups, how long they may.

use super::rows::{self, Columns, JOB, driver_word, json, micros, now};
use super::{SqliteStore, writer::Hints};
use crate::model::concurrency::{Member, Ruling, decide};
use crate::model::pipeline::Labels;
use crate::model::run::{Hold, Job};
use crate::model::{AgentId, JobId, PipelineId, RunId};
use crate::store::wake::Wake;
use crate::store::{
    ClaimRequest, Demand, MAX_AGE_LEVELS, MAX_DEMAND, MAX_WAITING, NewJob, PREFER_OTHER_AGENT,
    QueueStore, QueuedView, Result, Store as _,
};
use async_trait::async_trait;
use pocketci_proto::api::{Driver, PipelineSettings};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::cmp::Reverse;
use time::OffsetDateTime;

/// What a job asks of an agent, as a key.
pub(super) fn needs(job: &NewJob) -> Result<String> {
    Ok(format!(
        "{} {}",
        driver_word(job.driver),
        json(&job.labels)?
    ))
}

/// Turns make the round over pipelines: a job comes after the last one of its pipeline, but not before the turn that is
/// served now.
pub(super) fn next_turn(
    connection: &Connection,
    needs: &str,
    priority: i32,
    pipeline_id: PipelineId,
) -> Result<i64> {
    let sql = "SELECT max(1, \
         coalesce((SELECT min(turn) FROM jobs WHERE state = 'queued' AND hold IS NULL AND needs = ?1 \
                   AND priority = ?2), 1), \
         coalesce((SELECT max(turn) + 1 FROM jobs WHERE outcome IS NULL AND turn > 0 \
                   AND pipeline_id = ?3 AND needs = ?1), 1))";
    let mut statement = connection.prepare_cached(sql)?;
    let given = params![needs, priority, pipeline_id.0.as_bytes()];
    Ok(statement.query_row(given, |row| row.get(0))?)
}

/// Ready jobs that ask for the same, at the same priority.
struct Class {
    needs: String,
    priority: i32,
    labels: Labels,
    driver: Option<Driver>,
}

impl Class {
    /// The first class after this one; one step in the index, however long the queue.
    fn after(connection: &Connection, needs: &str, priority: i32) -> Result<Option<Self>> {
        let sql = "SELECT needs, priority, labels, driver FROM jobs WHERE state = 'queued' \
             AND hold IS NULL AND (needs, priority) > (?1, ?2) ORDER BY needs, priority LIMIT 1";
        let mut statement = connection.prepare_cached(sql)?;
        let found = statement.query_row(params![needs, priority], |row| {
            let mut columns = Columns::of(row);
            Ok(Self {
                needs: columns.take()?,
                priority: columns.take()?,
                labels: columns.json()?,
                driver: columns.driver()?,
            })
        });
        Ok(found.optional()?)
    }

    fn suits(&self, request: &ClaimRequest) -> bool {
        self.driver
            .is_none_or(|driver| request.drivers.contains(&driver))
            && self
                .labels
                .iter()
                .all(|(name, value)| request.labels.get(name) == Some(value))
    }

    /// The jobs whose turn it is, and those that have waited longest.
    fn first(
        &self,
        connection: &Connection,
        request: &ClaimRequest,
        max: usize,
        now: OffsetDateTime,
    ) -> Result<Vec<(i64, Job)>> {
        let mut found =
            self.in_order("j.turn, j.queued_at, j.id", connection, request, max, now)?;
        for old in self.in_order("j.queued_at, j.id", connection, request, max, now)? {
            if found.iter().all(|(_, job)| job.id != old.1.id) {
                found.push(old);
            }
        }
        Ok(found)
    }

    fn in_order(
        &self,
        order: &str,
        connection: &Connection,
        request: &ClaimRequest,
        max: usize,
        now: OffsetDateTime,
    ) -> Result<Vec<(i64, Job)>> {
        let sql = format!(
            "SELECT j.turn, {JOB} FROM jobs j WHERE j.state = 'queued' AND j.hold IS NULL \
             AND j.needs = ?1 AND j.priority = ?2 \
             AND NOT (j.lost > 0 AND j.agent_id IS ?3 AND j.queued_at > ?4) \
             ORDER BY {order} LIMIT ?5"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let given = params![
            self.needs,
            self.priority,
            request.agent_id.0.as_bytes(),
            micros(now - PREFER_OTHER_AGENT),
            max as i64,
        ];
        let found = statement.query_map(given, |row| {
            let mut columns = Columns::of(row);
            Ok((columns.take()?, rows::job(&mut columns)?))
        })?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }
}

/// The jobs that are next for this session: by priority (age counts), then turn.
pub(super) fn best(
    connection: &Connection,
    request: &ClaimRequest,
    max: usize,
    now: OffsetDateTime,
) -> Result<Vec<Job>> {
    if max == 0 {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut last = Class::after(connection, "", i32::MIN)?;
    while let Some(class) = last {
        if class.suits(request) {
            found.extend(class.first(connection, request, max, now)?);
        }
        last = Class::after(connection, &class.needs, class.priority)?;
    }
    let step = request.age_step.as_millis().max(1);
    let level = |job: &Job| {
        let waited = u128::try_from((now - job.queued_at).whole_milliseconds()).unwrap_or(0);
        let levels = i32::try_from(waited / step).unwrap_or(i32::MAX);
        job.terms.priority + levels.min(MAX_AGE_LEVELS)
    };
    found.sort_by_key(|(turn, job)| (Reverse(level(job)), *turn, job.queued_at, job.id));
    found.truncate(max);
    Ok(found.into_iter().map(|(_, job)| job).collect())
}

/// Holds what is queued and has not begun, or lets it go.
pub(super) fn pause(connection: &Connection, id: PipelineId, paused: bool) -> Result<()> {
    let paused_hold = Some(Hold::Paused.as_str());
    let (from, to) = match paused {
        true => (None, paused_hold),
        false => (paused_hold, None),
    };
    let sql = "UPDATE jobs SET hold = ?3 WHERE pipeline_id = ?1 AND state = 'queued' AND attempt = 0 \
         AND hold IS ?2";
    connection
        .prepare_cached(sql)?
        .execute(params![id.0.as_bytes(), from, to])?;
    Ok(())
}

fn demand(connection: &Connection) -> Result<Vec<Demand>> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND hold IS NULL \
         AND needs = ?1 LIMIT ?2)";
    let mut demand = Vec::new();
    let mut last = Class::after(connection, "", i32::MIN)?;
    while let Some(class) = last {
        let mut statement = connection.prepare_cached(sql)?;
        let jobs = statement.query_row(params![class.needs, MAX_DEMAND], |row| row.get(0))?;
        // Past every priority of the same requirement.
        last = Class::after(connection, &class.needs, i32::MAX)?;
        demand.push(Demand {
            labels: class.labels,
            driver: class.driver,
            jobs,
        });
    }
    Ok(demand)
}

fn queue(connection: &Connection, limit: i64) -> Result<Vec<QueuedView>> {
    let sql = format!(
        "SELECT {JOB}, r.pipeline_id, p.name, p.paused_by, r.group_key FROM jobs j \
         JOIN runs r ON r.id = j.run_id JOIN pipelines p ON p.id = r.pipeline_id \
         WHERE j.state = 'queued' \
         ORDER BY j.hold IS NOT NULL, j.priority DESC, j.turn, j.queued_at, j.id LIMIT ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map([limit], |row| {
        let mut columns = Columns::of(row);
        Ok(QueuedView {
            job: rows::job(&mut columns)?,
            pipeline_id: columns.id(PipelineId)?,
            pipeline_name: columns.take()?,
            paused_by: columns.take()?,
            group: columns.take()?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn load(connection: &Connection) -> Result<Vec<(AgentId, i64)>> {
    let sql = "SELECT agent_id, count(*) FROM jobs WHERE lease_until IS NOT NULL GROUP BY agent_id";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.id(AgentId)?, columns.take()?))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn overdue(connection: &Connection, limit: i64) -> Result<Vec<(RunId, JobId)>> {
    let sql = "SELECT run_id, id FROM jobs WHERE state = 'queued' AND queue_until IS NOT NULL \
         AND queue_until <= ?1 ORDER BY queue_until LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![micros(now()), limit], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.id(RunId)?, columns.id(JobId)?))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn held_groups(
    connection: &Connection,
    after: Option<(PipelineId, String)>,
    limit: i64,
) -> Result<Vec<(PipelineId, String)>> {
    let sql = "SELECT DISTINCT pipeline_id, group_key FROM runs \
         WHERE group_key IS NOT NULL AND outcome IS NULL AND group_held \
         AND (pipeline_id, group_key) > (?2, ?3) ORDER BY pipeline_id, group_key LIMIT ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let (id, group) = match after {
        Some((id, group)) => (id.0.into_bytes(), group),
        None => ([0; 16], String::new()),
    };
    let found = statement.query_map(params![limit, id, group], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.id(PipelineId)?, columns.take()?))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// See [`QueueStore::group`].
fn members(connection: &Connection, id: PipelineId, group: &str) -> Result<Vec<Member>> {
    let of = "FROM runs WHERE pipeline_id = ?1 AND group_key = ?2 AND outcome IS NULL AND";
    let sql = format!(
        "SELECT id, cancel_actor IS NOT NULL, TRUE {of} NOT group_held UNION \
         SELECT * FROM (SELECT id, cancel_actor IS NOT NULL, FALSE {of} group_held ORDER BY id LIMIT ?3) UNION \
         SELECT * FROM (SELECT id, cancel_actor IS NOT NULL, FALSE {of} group_held ORDER BY id DESC LIMIT ?3)"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(params![id.0.as_bytes(), group, MAX_WAITING], |row| {
        let mut columns = Columns::of(row);
        Ok(Member {
            run_id: columns.id(RunId)?,
            cancelled: columns.take()?,
            admitted: columns.take()?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn admit(
    connection: &Connection,
    id: PipelineId,
    group: &str,
    hints: &mut Hints,
) -> Result<Ruling> {
    let sql = "SELECT settings, paused FROM pipelines WHERE id = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([id.0.as_bytes()], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.json::<PipelineSettings>()?, columns.take::<bool>()?))
        });
    let Some((settings, paused)) = found.optional()? else {
        return Ok(Ruling::default());
    };
    let ruling = decide(
        settings.concurrency.as_ref(),
        &members(connection, id, group)?,
    );
    let hold = paused.then_some(Hold::Paused.as_str());
    for run in &ruling.admit {
        release(connection, id, *run, hold)?;
        hints.job_queued = true;
        hints.schedule = Some(id);
    }
    Ok(ruling)
}

/// Lets a run of a group go; its jobs get their turns now.
fn release(
    connection: &Connection,
    pipeline_id: PipelineId,
    run: RunId,
    hold: Option<&str>,
) -> Result<()> {
    let runs = "UPDATE runs SET group_held = 0 WHERE id = ?1";
    connection
        .prepare_cached(runs)?
        .execute([run.0.as_bytes()])?;
    let held = "SELECT id, needs, priority FROM jobs WHERE run_id = ?1 AND hold = 'group'";
    let mut statement = connection.prepare_cached(held)?;
    let found = statement.query_map([run.0.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.id(JobId)?, columns.take()?, columns.take()?))
    })?;
    let jobs: Vec<(JobId, String, i32)> = found.collect::<rusqlite::Result<_>>()?;
    for (job, needs, priority) in jobs {
        let turn = next_turn(connection, &needs, priority, pipeline_id)?;
        let sql =
            "UPDATE jobs SET hold = iif(number IS NULL, ?2, 'inputs'), turn = ?3 WHERE id = ?1";
        connection
            .prepare_cached(sql)?
            .execute(params![job.0.as_bytes(), hold, turn])?;
    }
    Ok(())
}

#[async_trait]
impl QueueStore for SqliteStore {
    async fn demand(&self) -> Result<Vec<Demand>> {
        self.readers.read(demand).await
    }

    async fn queue(&self, limit: i64) -> Result<Vec<QueuedView>> {
        self.readers
            .read(move |connection| queue(connection, limit))
            .await
    }

    async fn load(&self) -> Result<Vec<(AgentId, i64)>> {
        self.readers.read(load).await
    }

    async fn overdue(&self, limit: i64) -> Result<Vec<(RunId, JobId)>> {
        self.readers
            .read(move |connection| overdue(connection, limit))
            .await
    }

    async fn held_groups(
        &self,
        after: Option<(PipelineId, String)>,
        limit: i64,
    ) -> Result<Vec<(PipelineId, String)>> {
        self.readers
            .read(move |connection| held_groups(connection, after, limit))
            .await
    }

    async fn group(&self, pipeline_id: PipelineId, group: &str) -> Result<Vec<Member>> {
        let group = group.to_owned();
        self.readers
            .read(move |connection| members(connection, pipeline_id, &group))
            .await
    }

    async fn admit(&self, pipeline_id: PipelineId, group: &str) -> Result<Ruling> {
        let group = group.to_owned();
        self.writer
            .call(move |connection, hints| admit(connection, pipeline_id, &group, hints))
            .await
    }

    fn nudge(&self) {
        self.wakes().publish(Wake::JobQueued);
    }
}
