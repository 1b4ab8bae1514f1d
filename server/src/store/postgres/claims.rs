//! Handing out jobs with SKIP LOCKED, leases.

use super::super::{AttemptStore, ClaimRequest, Claimed, PREFER_OTHER_AGENT, Result, StoreError};
use super::{Failure, PostgresStore, rows, sql_error};
use crate::model::receipt::Receipt;
use crate::model::run::Job;
use crate::model::transition::{Applied, Change};
use crate::model::{AgentId, JobId, PipelineId, RunId, SessionId};
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::types::Json;
use uuid::Uuid;

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

const CLAIM: &str = "WITH picked AS (
        SELECT id FROM jobs WHERE state = 'queued' AND labels <@ $1 AND (driver IS NULL OR driver = ANY ($2))
        AND (lost = 0 OR agent_id IS DISTINCT FROM $3
             OR queued_at < clock_timestamp() - $4::bigint * interval '1 millisecond')
        ORDER BY queued_at, id LIMIT $5 FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs j SET state = 'assigned', attempt = attempt + 1, agent_id = $3, session_id = $6,
        lease_until = clock_timestamp() + $7::bigint * interval '1 millisecond'
    FROM picked WHERE j.id = picked.id RETURNING j.*";

#[async_trait]
impl AttemptStore for PostgresStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        let client = self.client().await?;
        let drivers: Vec<&str> = request
            .drivers
            .iter()
            .map(|driver| driver.as_str())
            .collect();
        let statement = client.prepare_cached(CLAIM).await.map_err(sql_error)?;
        let found = client
            .query(
                &statement,
                &[
                    &Json(&request.labels),
                    &drivers,
                    &request.agent_id.0,
                    &millis(PREFER_OTHER_AGENT),
                    &request.max,
                    &request.session_id.0,
                    &millis(request.accept_within),
                ],
            )
            .await
            .map_err(sql_error)?;
        let jobs = rows::all(&found, rows::job)?;
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        drop(client);
        self.with_runs(jobs).await
    }

    fn submit(&self, run_id: RunId, change: Change) -> BoxFuture<'static, Result<Applied>> {
        let submitted = self.with_queues(|queues| queues.ledger.submit((run_id, change)));
        submitted.unwrap_or_else(|| {
            async { Err(StoreError::Unavailable("the store is closed".into())) }.boxed()
        })
    }

    async fn renew(
        &self,
        session_id: SessionId,
        held: Vec<(JobId, i32)>,
        lease: Duration,
    ) -> Result<Vec<(JobId, i32)>> {
        if held.is_empty() {
            return Ok(held);
        }
        let (ids, attempts): (Vec<Uuid>, Vec<i32>) =
            held.iter().map(|(job, attempt)| (job.0, *attempt)).unzip();
        let client = self.client().await?;
        // Locked in the order of ids, as everywhere.
        let sql = "WITH mine AS (
                SELECT j.id FROM jobs j JOIN unnest($1::uuid[], $2::int[]) AS t (id, attempt)
                ON j.id = t.id AND j.attempt = t.attempt
                WHERE j.session_id = $3 ORDER BY j.id FOR UPDATE OF j
            )
            UPDATE jobs j SET lease_until = clock_timestamp() + $4::bigint * interval '1 millisecond'
            FROM mine WHERE j.id = mine.id RETURNING j.id, j.attempt";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let renewed = client
            .query(
                &statement,
                &[&ids, &attempts, &session_id.0, &millis(lease)],
            )
            .await
            .map_err(sql_error)?;
        Ok(renewed
            .iter()
            .map(|row| (JobId(row.get(0)), row.get(1)))
            .collect())
    }

    async fn expired(&self, limit: i64) -> Result<Vec<(RunId, JobId)>> {
        let client = self.client().await?;
        let sql = "SELECT run_id, id FROM jobs WHERE lease_until IS NOT NULL AND lease_until < clock_timestamp()
            ORDER BY lease_until LIMIT $1";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query(&statement, &[&limit])
            .await
            .map_err(sql_error)?;
        Ok(found
            .iter()
            .map(|row| (RunId(row.get(0)), JobId(row.get(1))))
            .collect())
    }

    async fn cancelled(&self, session_id: SessionId) -> Result<Vec<(RunId, JobId, i32)>> {
        let client = self.client().await?;
        let sql = "SELECT j.run_id, j.id, j.attempt FROM jobs j JOIN runs r ON r.id = j.run_id
            WHERE j.lease_until IS NOT NULL AND j.session_id = $1 AND r.cancel_actor IS NOT NULL";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query(&statement, &[&session_id.0])
            .await
            .map_err(sql_error)?;
        Ok(found
            .iter()
            .map(|row| (RunId(row.get(0)), JobId(row.get(1)), row.get(2)))
            .collect())
    }

    async fn held_receipt(
        &self,
        job: JobId,
        attempt: i32,
        agent: AgentId,
    ) -> Result<Option<Receipt>> {
        let client = self.client().await?;
        let sql = "SELECT c.* FROM jobs j JOIN runs r ON r.id = j.run_id JOIN receipts c ON c.id = r.receipt_id
            WHERE j.id = $1 AND j.attempt = $2 AND j.agent_id = $3 AND j.lease_until IS NOT NULL";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let row = client
            .query_opt(&statement, &[&job.0, &attempt, &agent.0])
            .await
            .map_err(sql_error)?;
        Ok(row.as_ref().map(rows::receipt).transpose()?)
    }

    async fn held_run(
        &self,
        job: JobId,
        attempt: i32,
        session: SessionId,
    ) -> Result<Option<(RunId, PipelineId)>> {
        let client = self.client().await?;
        let sql = "SELECT r.id, r.pipeline_id FROM jobs j JOIN runs r ON r.id = j.run_id
            WHERE j.id = $1 AND j.attempt = $2 AND j.session_id = $3 AND j.lease_until IS NOT NULL";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let row = client
            .query_opt(&statement, &[&job.0, &attempt, &session.0])
            .await
            .map_err(sql_error)?;
        Ok(row.map(|row| (RunId(row.get(0)), PipelineId(row.get(1)))))
    }

    async fn queued_jobs(&self) -> Result<i64> {
        let client = self.client().await?;
        let sql = "SELECT count(*) FROM jobs WHERE state = 'queued'";
        Ok(client.query_one(sql, &[]).await.map_err(sql_error)?.get(0))
    }
}

impl PostgresStore {
    /// Adds to claimed jobs what the agent needs; the oldest first.
    async fn with_runs(&self, mut jobs: Vec<Job>) -> Result<Vec<Claimed>> {
        jobs.sort_by_key(|job| (job.queued_at, job.id));
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.run_id.0).collect();
        let client = self.client().await?;
        let sql = "SELECT r.*, p.name AS pipeline_name FROM runs r JOIN pipelines p ON p.id = r.pipeline_id
            WHERE r.id = ANY ($1)";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let runs = client.query(&statement, &[&ids]).await.map_err(sql_error)?;
        let sql =
            "SELECT c.* FROM receipts c JOIN runs r ON r.receipt_id = c.id WHERE r.id = ANY ($1)";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let receipts = client.query(&statement, &[&ids]).await.map_err(sql_error)?;
        let receipts = rows::all(&receipts, rows::receipt)?;
        let mut receipts: HashMap<_, _> = receipts
            .into_iter()
            .map(|receipt| (receipt.id, receipt))
            .collect();
        let mut known = HashMap::new();
        for row in &runs {
            let run = rows::run(row)?;
            let name: String = row.try_get("pipeline_name").map_err(Failure::Sql)?;
            known.insert(run.id, (run, name));
        }
        // A job whose pipeline was deleted this very moment has no run any more; nothing is left to do for it.
        Ok(jobs
            .into_iter()
            .filter_map(|job| {
                let (run, pipeline_name) = known.get(&job.run_id)?.clone();
                let receipt = run.receipt_id.and_then(|id| receipts.remove(&id));
                Some(Claimed {
                    run,
                    job,
                    pipeline_name,
                    receipt,
                })
            })
            .collect())
    }
}
