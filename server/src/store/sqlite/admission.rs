//! Builds: which wait, which may begin, which there were; checks that are over.

use super::builds::{adopt, take};
use super::queue::next_turn;
use super::rows::{self, Columns, JOB, RUN, key, micros, now};
use super::{SqliteStore, writer::Hints};
use crate::model::run::{Job, Run};
use crate::model::{JobId, PipelineId, RevisionId, RunId};
use crate::store::{Admission, Admitted, BuildInputs, BuildStore, OpenRun, Result};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::time::Duration;
use uuid::Uuid;

/// Begun: it has left the scheduler's hands and is not over.
const BEGUN: &str = "number IS NOT NULL AND outcome IS NULL AND (hold IS NULL OR hold = 'paused')";

fn run(connection: &Connection, id: RunId) -> Result<Option<Run>> {
    let sql = format!("SELECT {RUN} FROM runs r WHERE r.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([id.0.as_bytes()], |row| rows::run(&mut Columns::of(row)));
    Ok(found.optional()?)
}

fn open_runs(
    connection: &Connection,
    id: PipelineId,
    after: Option<RunId>,
    limit: i64,
) -> Result<Vec<OpenRun>> {
    let sql = "SELECT DISTINCT run_id FROM jobs WHERE pipeline_id = ?1 AND state = 'queued' AND hold = 'inputs' \
         AND (?3 IS NULL OR run_id > ?3) ORDER BY run_id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let given = params![id.0.as_bytes(), limit, key(after.map(|run| run.0))];
    let found = statement.query_map(given, |row| Columns::of(row).id(RunId))?;
    let ids: Vec<RunId> = found.collect::<rusqlite::Result<_>>()?;
    let mut open = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(run) = run(connection, id)? {
            open.push(OpenRun {
                jobs: jobs_of(connection, id)?,
                run,
            });
        }
    }
    Ok(open)
}

fn jobs_of(connection: &Connection, id: RunId) -> Result<Vec<Job>> {
    let sql = format!("SELECT {JOB} FROM jobs j WHERE j.run_id = ?1 ORDER BY j.position");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map([id.0.as_bytes()], |row| rows::job(&mut Columns::of(row)))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn begun(connection: &Connection, id: PipelineId, jobs: &[String]) -> Result<i64> {
    let sql = format!("SELECT count(*) FROM jobs WHERE pipeline_id = ?1 AND name = ?2 AND {BEGUN}");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut count = 0;
    for job in jobs {
        count += statement.query_row(params![id.0.as_bytes(), job], |row| row.get::<_, i64>(0))?;
    }
    Ok(count)
}

fn admit(connection: &Connection, admission: &Admission, hints: &mut Hints) -> Result<Admitted> {
    let sql = "SELECT j.needs, j.priority, j.queue_timeout_ms FROM jobs j JOIN runs r ON r.id = j.run_id \
         JOIN pipelines p ON p.id = r.pipeline_id \
         WHERE j.id = ?1 AND j.run_id = ?2 AND j.state = 'queued' AND j.hold = 'inputs' \
         AND r.cancel_actor IS NULL AND NOT p.paused AND p.id = ?3";
    let given = params![
        admission.job_id.0.as_bytes(),
        admission.run_id.0.as_bytes(),
        admission.pipeline_id.0.as_bytes()
    ];
    let found = connection.prepare_cached(sql)?.query_row(given, |row| {
        let mut columns = Columns::of(row);
        let needs: String = columns.take()?;
        let priority: i32 = columns.take()?;
        Ok((needs, priority, columns.take::<Option<i64>>()?))
    });
    let Some((needs, priority, within)) = found.optional()? else {
        return Ok(Admitted::Stale);
    };
    for (at, limit) in admission.limits.iter().enumerate() {
        if begun(connection, admission.pipeline_id, &limit.jobs)? >= limit.max {
            return Ok(Admitted::Full(at));
        }
    }
    match &admission.inputs {
        BuildInputs::Chosen(inputs) => take(connection, admission.job_id, inputs)?,
        BuildInputs::Of(original) => adopt(connection, admission.job_id, *original)?,
    };
    // What it waited for before was not the queue.
    let until = within.map(|millis| micros(now() + Duration::from_millis(millis.unsigned_abs())));
    let turn = next_turn(connection, &needs, priority, admission.pipeline_id)?;
    connection
        .prepare_cached("UPDATE jobs SET hold = NULL, turn = ?2, queue_until = ?3 WHERE id = ?1")?
        .execute(params![admission.job_id.0.as_bytes(), turn, until])?;
    hints.job_queued = true;
    Ok(Admitted::Done)
}

fn builds(
    connection: &Connection,
    id: PipelineId,
    job: Option<&str>,
    before: Option<JobId>,
    limit: i64,
) -> Result<Vec<(Run, Job)>> {
    let sql = format!(
        "SELECT {JOB} FROM jobs j WHERE j.pipeline_id = ?1 AND j.number IS NOT NULL \
         AND (?2 IS NULL OR j.name = ?2) AND (?3 IS NULL OR j.id < ?3) \
         ORDER BY j.id DESC LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let given = params![id.0.as_bytes(), job, key(before.map(|job| job.0)), limit];
    let found = statement.query_map(given, |row| rows::job(&mut Columns::of(row)))?;
    with_runs(connection, found.collect::<rusqlite::Result<_>>()?)
}

fn with_runs(connection: &Connection, jobs: Vec<Job>) -> Result<Vec<(Run, Job)>> {
    let mut builds = Vec::with_capacity(jobs.len());
    for job in jobs {
        if let Some(run) = run(connection, job.run_id)? {
            builds.push((run, job));
        }
    }
    Ok(builds)
}

fn forget_checks(connection: &Connection, ended_before: Duration, limit: i64) -> Result<u64> {
    let sql = "DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE trigger ->> '$.kind' = 'check' \
         AND finished_at < ?1 ORDER BY finished_at LIMIT ?2)";
    let given = params![micros(now() - ended_before), limit];
    Ok(connection.prepare_cached(sql)?.execute(given)? as u64)
}

#[async_trait]
impl BuildStore for SqliteStore {
    async fn open_runs(
        &self,
        pipeline_id: PipelineId,
        after: Option<RunId>,
        limit: i64,
    ) -> Result<Vec<OpenRun>> {
        self.readers
            .read(move |connection| open_runs(connection, pipeline_id, after, limit))
            .await
    }

    async fn waiting_jobs(&self, pipeline_id: PipelineId) -> Result<Vec<String>> {
        self.readers
            .read(move |connection| {
                let sql = "SELECT DISTINCT name FROM jobs WHERE pipeline_id = ?1 AND state = 'queued' \
                     AND hold IN ('inputs', 'group') AND number IS NOT NULL";
                let mut statement = connection.prepare_cached(sql)?;
                let found = statement.query_map([pipeline_id.0.as_bytes()], |row| row.get(0))?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn admit_build(&self, admission: Admission) -> Result<Admitted> {
        self.writer
            .call(move |connection, hints| admit(connection, &admission, hints))
            .await
    }

    async fn begun_builds(&self, pipeline_id: PipelineId, jobs: &[String]) -> Result<i64> {
        let jobs = jobs.to_vec();
        self.readers
            .read(move |connection| begun(connection, pipeline_id, &jobs))
            .await
    }

    async fn builds(
        &self,
        pipeline_id: PipelineId,
        job: Option<&str>,
        before: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<(Run, Job)>> {
        let job = job.map(str::to_owned);
        self.readers
            .read(move |connection| builds(connection, pipeline_id, job.as_deref(), before, limit))
            .await
    }

    async fn build(
        &self,
        pipeline_id: PipelineId,
        job: &str,
        number: i32,
        rerun: i32,
    ) -> Result<Option<(Run, Job)>> {
        let job = job.to_owned();
        self.readers
            .read(move |connection| {
                let sql = format!(
                    "SELECT {JOB} FROM jobs j WHERE j.pipeline_id = ?1 AND j.name = ?2 \
                     AND j.number = ?3 AND j.rerun = ?4"
                );
                let given = params![pipeline_id.0.as_bytes(), job, number, rerun];
                let mut statement = connection.prepare_cached(&sql)?;
                let found = statement.query_row(given, |row| rows::job(&mut Columns::of(row)));
                let found = found.optional()?;
                Ok(with_runs(connection, found.into_iter().collect())?.pop())
            })
            .await
    }

    async fn yaml_pipelines(
        &self,
        after: Option<PipelineId>,
        limit: i64,
    ) -> Result<Vec<(PipelineId, RevisionId)>> {
        self.readers
            .read(move |connection| {
                let sql = "SELECT p.id, v.id FROM pipelines p \
                     JOIN revisions v ON v.pipeline_id = p.id AND v.number = p.revision \
                     WHERE v.content_type = 'yaml' AND NOT p.paused AND (?1 IS NULL OR p.id > ?1) \
                     ORDER BY p.id LIMIT ?2";
                let mut statement = connection.prepare_cached(sql)?;
                let found =
                    statement.query_map(params![key(after.map(|id| id.0)), limit], |row| {
                        let mut columns = Columns::of(row);
                        Ok((columns.id(PipelineId)?, columns.id(RevisionId)?))
                    })?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn waiting_pipelines(&self, limit: i64) -> Result<Vec<PipelineId>> {
        self.readers
            .read(move |connection| {
                let sql = "SELECT DISTINCT j.pipeline_id FROM jobs j JOIN pipelines p ON p.id = j.pipeline_id \
                     WHERE j.state = 'queued' AND j.hold = 'inputs' AND NOT p.paused LIMIT ?1";
                let mut statement = connection.prepare_cached(sql)?;
                let found =
                    statement.query_map([limit], |row| Columns::of(row).id(PipelineId))?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn forget_checks(&self, ended_before: Duration, limit: i64) -> Result<u64> {
        self.writer
            .call(move |connection, _| forget_checks(connection, ended_before, limit))
            .await
    }

    /// The file is one process's: every duty is its own.
    async fn take_duty(&self, _name: &str, _holder: Uuid, _hold: Duration) -> Result<bool> {
        Ok(true)
    }
}
