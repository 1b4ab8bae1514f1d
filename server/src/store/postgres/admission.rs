//! Builds: which wait, which may begin, which there were; checks that are over; duties.

use super::super::{Admission, Admitted, BuildInputs, BuildStore, OpenRun, QueueStore, Result};
use super::builds::{adopt, take};
use super::{Failable, PostgresStore, millis, rows, sql_error};
use crate::model::run::{Job, Run};
use crate::model::{JobId, PipelineId, RevisionId, RunId};
use async_trait::async_trait;
use deadpool_postgres::Transaction;
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// Begun: it has left the scheduler's hands and is not over.
const BEGUN: &str =
    "SELECT count(*) FROM jobs WHERE pipeline_id = $1 AND name = ANY ($2) AND number IS NOT NULL
    AND state <> 'finished' AND hold IS DISTINCT FROM 'inputs' AND hold IS DISTINCT FROM 'group'";

/// Lets a build go: it gets its turn in the round over pipelines now (see `enqueue`).
const LET_GO: &str = "UPDATE jobs j SET hold = NULL,
    queue_until = clock_timestamp() + queue_timeout_ms * interval '1 millisecond', turn = greatest(1,
        (SELECT q.turn FROM jobs q WHERE q.state = 'queued' AND q.hold IS NULL AND q.needs = j.needs
         AND q.priority = j.priority ORDER BY q.turn LIMIT 1),
        (SELECT q.turn + 1 FROM jobs q WHERE q.state <> 'finished' AND q.turn > 0
         AND q.pipeline_id = j.pipeline_id AND q.needs = j.needs ORDER BY q.turn DESC LIMIT 1))
    WHERE j.id = $1";

#[async_trait]
impl BuildStore for PostgresStore {
    async fn open_runs(
        &self,
        pipeline_id: PipelineId,
        after: Option<RunId>,
        limit: i64,
    ) -> Result<Vec<OpenRun>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM runs WHERE id IN (SELECT run_id FROM jobs WHERE pipeline_id = $1
                AND state = 'queued' AND hold = 'inputs' AND ($3::uuid IS NULL OR run_id > $3)
                GROUP BY run_id ORDER BY run_id LIMIT $2)
            ORDER BY id";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query(&statement, &[&pipeline_id.0, &limit, &after.map(|id| id.0)])
            .await
            .map_err(sql_error)?;
        let runs = rows::all(&found, rows::run)?;
        let ids: Vec<Uuid> = runs.iter().map(|run| run.id.0).collect();
        let sql = "SELECT * FROM jobs WHERE run_id = ANY ($1) ORDER BY id";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client.query(&statement, &[&ids]).await.map_err(sql_error)?;
        let mut jobs: HashMap<RunId, Vec<Job>> = HashMap::new();
        for job in rows::all(&found, rows::job)? {
            jobs.entry(job.run_id).or_default().push(job);
        }
        let open = |run: Run| OpenRun {
            jobs: jobs.remove(&run.id).unwrap_or_default(),
            run,
        };
        Ok(runs.into_iter().map(open).collect())
    }

    async fn waiting_jobs(&self, pipeline_id: PipelineId) -> Result<Vec<String>> {
        let client = self.client().await?;
        let sql = "SELECT DISTINCT name FROM jobs WHERE pipeline_id = $1 AND state = 'queued'
            AND hold IN ('inputs', 'group') AND number IS NOT NULL";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query(&statement, &[&pipeline_id.0])
            .await
            .map_err(sql_error)?;
        Ok(found.iter().map(|row| row.get(0)).collect())
    }

    async fn admit_build(&self, admission: Admission) -> Result<Admitted> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let admitted = admit_in(&transaction, &admission).await?;
        if admitted != Admitted::Done {
            return Ok(admitted);
        }
        transaction.commit().await.map_err(sql_error)?;
        self.nudge();
        Ok(admitted)
    }

    async fn begun_builds(&self, pipeline_id: PipelineId, jobs: &[String]) -> Result<i64> {
        let client = self.client().await?;
        let statement = client.prepare_cached(BEGUN).await.map_err(sql_error)?;
        let row = client
            .query_one(&statement, &[&pipeline_id.0, &jobs])
            .await
            .map_err(sql_error)?;
        Ok(row.get(0))
    }

    async fn builds(
        &self,
        pipeline_id: PipelineId,
        job: Option<&str>,
        before: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<(Run, Job)>> {
        let client = self.client().await?;
        let sql = "SELECT j.* FROM jobs j WHERE j.pipeline_id = $1 AND j.number IS NOT NULL
            AND ($2::text IS NULL OR j.name = $2) AND ($3::uuid IS NULL OR j.id < $3)
            ORDER BY j.id DESC LIMIT $4";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let before = before.map(|job| job.0);
        let found = client
            .query(&statement, &[&pipeline_id.0, &job, &before, &limit])
            .await
            .map_err(sql_error)?;
        self.with_run_of(&client, &found).await
    }

    async fn build(
        &self,
        pipeline_id: PipelineId,
        job: &str,
        number: i32,
        rerun: i32,
    ) -> Result<Option<(Run, Job)>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM jobs WHERE pipeline_id = $1 AND name = $2 AND number = $3 AND rerun = $4";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query(&statement, &[&pipeline_id.0, &job, &number, &rerun])
            .await
            .map_err(sql_error)?;
        Ok(self.with_run_of(&client, &found).await?.pop())
    }

    async fn yaml_pipelines(
        &self,
        after: Option<PipelineId>,
        limit: i64,
    ) -> Result<Vec<(PipelineId, RevisionId)>> {
        let client = self.client().await?;
        let sql =
            "SELECT p.id, p.revision_id FROM pipelines p JOIN revisions r ON r.id = p.revision_id
            WHERE r.content_type = 'yaml' AND NOT p.paused AND ($1::uuid IS NULL OR p.id > $1)
            ORDER BY p.id LIMIT $2";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query(&statement, &[&after.map(|id| id.0), &limit])
            .await
            .map_err(sql_error)?;
        let ids = |row: &Row| (PipelineId(row.get(0)), RevisionId(row.get(1)));
        Ok(found.iter().map(ids).collect())
    }

    async fn waiting_pipelines(&self, limit: i64) -> Result<Vec<PipelineId>> {
        let client = self.client().await?;
        let sql =
            "SELECT DISTINCT j.pipeline_id FROM jobs j JOIN pipelines p ON p.id = j.pipeline_id
            WHERE j.state = 'queued' AND j.hold = 'inputs' AND NOT p.paused LIMIT $1";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query(&statement, &[&limit])
            .await
            .map_err(sql_error)?;
        Ok(found.iter().map(|row| PipelineId(row.get(0))).collect())
    }

    async fn forget_checks(&self, ended_before: Duration, limit: i64) -> Result<u64> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let sql = "SELECT id FROM runs WHERE trigger_kind = 'check'
            AND finished_at < clock_timestamp() - $1::bigint * interval '1 millisecond'
            ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED";
        let found = transaction
            .query(sql, &[&millis(ended_before), &limit])
            .await
            .map_err(sql_error)?;
        let ids: Vec<Uuid> = found.iter().map(|row| row.get(0)).collect();
        for sql in [
            "DELETE FROM lost_attempts WHERE job_id IN (SELECT id FROM jobs WHERE run_id = ANY ($1))",
            "DELETE FROM run_events WHERE run_id = ANY ($1)",
            "DELETE FROM jobs WHERE run_id = ANY ($1)",
            "DELETE FROM runs WHERE id = ANY ($1)",
        ] {
            transaction.execute(sql, &[&ids]).await.map_err(sql_error)?;
        }
        transaction.commit().await.map_err(sql_error)?;
        Ok(ids.len() as u64)
    }

    async fn take_duty(&self, name: &str, holder: Uuid, hold: Duration) -> Result<bool> {
        let client = self.client().await?;
        let sql = "INSERT INTO duties (name, holder, until)
            VALUES ($1, $2, clock_timestamp() + $3::bigint * interval '1 millisecond')
            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
            WHERE duties.holder = excluded.holder OR duties.until < clock_timestamp()";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let taken = client
            .execute(&statement, &[&name, &holder, &millis(hold)])
            .await
            .map_err(sql_error)?;
        Ok(taken == 1)
    }
}

impl PostgresStore {
    /// Adds to each job its run; in the same order.
    async fn with_run_of(
        &self,
        client: &deadpool_postgres::Object,
        found: &[Row],
    ) -> Result<Vec<(Run, Job)>> {
        let jobs = rows::all(found, rows::job)?;
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.run_id.0).collect();
        let sql = "SELECT * FROM runs WHERE id = ANY ($1)";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client.query(&statement, &[&ids]).await.map_err(sql_error)?;
        let runs = rows::all(&found, rows::run)?;
        let runs: HashMap<RunId, Run> = runs.into_iter().map(|run| (run.id, run)).collect();
        let with_run = |job: Job| Some((runs.get(&job.run_id)?.clone(), job));
        Ok(jobs.into_iter().filter_map(with_run).collect())
    }
}

/// Locks pipeline, run and job in this order, as everywhere; two admissions of a pipeline go one after the other.
async fn admit_in(transaction: &Transaction<'_>, admission: &Admission) -> Failable<Admitted> {
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 2))";
    let name = admission.pipeline_id.to_string();
    transaction.execute(lock, &[&name]).await?;
    let sql = "SELECT 1 FROM pipelines WHERE id = $1 AND NOT paused FOR SHARE";
    if transaction
        .query_opt(sql, &[&admission.pipeline_id.0])
        .await?
        .is_none()
    {
        return Ok(Admitted::Stale);
    }
    let sql = "SELECT 1 FROM runs WHERE id = $1 AND state <> 'finished' AND cancel_actor IS NULL FOR UPDATE";
    let run = transaction.query_opt(sql, &[&admission.run_id.0]).await?;
    let sql =
        "SELECT 1 FROM jobs WHERE id = $1 AND state = 'queued' AND hold = 'inputs' FOR UPDATE";
    let job = transaction.query_opt(sql, &[&admission.job_id.0]).await?;
    if run.is_none() || job.is_none() {
        return Ok(Admitted::Stale);
    }
    for (at, limit) in admission.limits.iter().enumerate() {
        let begun: i64 = transaction
            .query_one(BEGUN, &[&admission.pipeline_id.0, &limit.jobs])
            .await?
            .get(0);
        if begun >= limit.max {
            return Ok(Admitted::Full(at));
        }
    }
    match &admission.inputs {
        BuildInputs::Chosen(inputs) => take(transaction, admission.job_id, inputs).await?,
        BuildInputs::Of(original) => adopt(transaction, admission.job_id, *original).await?,
    };
    transaction.execute(LET_GO, &[&admission.job_id.0]).await?;
    Ok(Admitted::Done)
}
