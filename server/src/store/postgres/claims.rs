//! Handing out jobs with SKIP LOCKED, leases.

use super::super::{
    AttemptStore, ClaimRequest, Claimed, MAX_AGE_LEVELS, PREFER_OTHER_AGENT, Result, StoreError,
};
use super::{Failure, PostgresStore, millis, rows, sql_error};
use crate::model::receipt::Receipt;
use crate::model::run::Job;
use crate::model::transition::{Applied, Change};
use crate::model::{AgentId, JobId, PipelineId, RunId, SessionId};
use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::types::Json;
use uuid::Uuid;

/// Steps through the distinct (needs, priority) of what is ready by the index jobs_ready, takes the first turns and the oldest of
/// those that fit, orders these by priority and age, and hands out the best that nobody else is taking. Some more than
/// wanted are looked at, for those that another session takes at this very moment.
const CLAIM: &str = "WITH RECURSIVE classes AS (
        (SELECT needs, priority, labels, driver FROM jobs WHERE state = 'queued' AND hold IS NULL
         ORDER BY needs, priority LIMIT 1)
        UNION ALL
        SELECT next.* FROM classes c CROSS JOIN LATERAL (
            SELECT needs, priority, labels, driver FROM jobs
            WHERE state = 'queued' AND hold IS NULL AND (needs, priority) > (c.needs, c.priority)
            ORDER BY needs, priority LIMIT 1) next
    ), best AS MATERIALIZED (
        SELECT j.id, row_number() OVER (
            ORDER BY j.priority + least(floor(extract(epoch FROM clock_timestamp() - j.queued_at) * 1000 / $8::bigint), $9::float8)
            DESC, j.turn, j.queued_at, j.id) AS place
        FROM classes c CROSS JOIN LATERAL (
            (SELECT id, priority, turn, queued_at FROM jobs
             WHERE state = 'queued' AND hold IS NULL AND needs = c.needs AND priority = c.priority
             AND (lost = 0 OR agent_id IS DISTINCT FROM $3
                  OR queued_at < clock_timestamp() - $4::bigint * interval '1 millisecond')
             ORDER BY turn, queued_at, id LIMIT $5::bigint * 2 + 8)
            UNION
            (SELECT id, priority, turn, queued_at FROM jobs
             WHERE state = 'queued' AND hold IS NULL AND needs = c.needs AND priority = c.priority
             AND (lost = 0 OR agent_id IS DISTINCT FROM $3
                  OR queued_at < clock_timestamp() - $4::bigint * interval '1 millisecond')
             ORDER BY queued_at, id LIMIT $5::bigint)) j
        WHERE c.labels <@ $1 AND (c.driver IS NULL OR c.driver = ANY ($2))
        ORDER BY place LIMIT $5::bigint * 2 + 8
    ), picked AS (
        SELECT j.id FROM best b JOIN jobs j ON j.id = b.id WHERE j.state = 'queued' AND j.hold IS NULL
        ORDER BY b.place LIMIT $5::bigint FOR UPDATE OF j SKIP LOCKED
    ), taken AS (
        UPDATE jobs j SET state = 'assigned', attempt = attempt + 1, agent_id = $3, session_id = $6,
            lease_until = clock_timestamp() + $7::bigint * interval '1 millisecond'
        FROM picked WHERE j.id = picked.id RETURNING j.*
    )
    SELECT (SELECT count(*) FROM best) AS seen, t.*, b.place FROM (SELECT 1) one LEFT JOIN taken t ON true
    LEFT JOIN best b ON b.id = t.id ORDER BY b.place";

/// Claims tried again when others took everything that was in sight.
const CLAIM_TRIES: usize = 4;
/// Claims under a global limit go one after the other; any number that nobody else uses.
const LIMIT_LOCK: i64 = 0x706f_636b_6c69_6d74;

#[async_trait]
impl AttemptStore for PostgresStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        for _ in 0..CLAIM_TRIES {
            let (seen, jobs) = match request.max_running {
                None => claim(&self.client().await?, &request, request.max).await?,
                Some(limit) => self.claim_within(&request, limit).await?,
            };
            if !jobs.is_empty() {
                return self.with_runs(jobs).await;
            }
            if seen == 0 {
                break;
            }
        }
        Ok(Vec::new())
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

/// One try: how many candidates were in sight, and what was taken.
async fn claim(
    client: &impl GenericClient,
    request: &ClaimRequest,
    max: i64,
) -> Result<(i64, Vec<Job>)> {
    let drivers: Vec<&str> = request
        .drivers
        .iter()
        .map(|driver| driver.as_str())
        .collect();
    let statement = client.prepare_cached(CLAIM).await.map_err(sql_error)?;
    let age_step = millis(request.age_step).max(1);
    let found = client
        .query(
            &statement,
            &[
                &Json(&request.labels),
                &drivers,
                &request.agent_id.0,
                &millis(PREFER_OTHER_AGENT),
                &max,
                &request.session_id.0,
                &millis(request.accept_within),
                &age_step,
                &f64::from(MAX_AGE_LEVELS),
            ],
        )
        .await
        .map_err(sql_error)?;
    let seen = found.first().map_or(0, |row| row.get("seen"));
    let taken: Vec<_> = found
        .into_iter()
        .filter(|row| row.get::<_, Option<Uuid>>("id").is_some())
        .collect();
    Ok((seen, rows::all(&taken, rows::job)?))
}

impl PostgresStore {
    /// The same under a limit on all jobs in agents' hands: nobody else claims between the count and the claim.
    async fn claim_within(&self, request: &ClaimRequest, limit: i64) -> Result<(i64, Vec<Job>)> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let lock = "SELECT pg_advisory_xact_lock($1)";
        transaction
            .execute(lock, &[&LIMIT_LOCK])
            .await
            .map_err(sql_error)?;
        let count = "SELECT count(*) FROM jobs WHERE lease_until IS NOT NULL";
        let running: i64 = transaction
            .query_one(count, &[])
            .await
            .map_err(sql_error)?
            .get(0);
        let room = (limit - running).min(request.max);
        let found = match room > 0 {
            true => claim(&transaction, request, room).await?,
            false => (0, Vec::new()),
        };
        transaction.commit().await.map_err(sql_error)?;
        Ok(found)
    }

    /// Adds to claimed jobs what the agent needs; in the same order.
    async fn with_runs(&self, jobs: Vec<Job>) -> Result<Vec<Claimed>> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.run_id.0).collect();
        let client = self.client().await?;
        let sql = "SELECT r.*, p.name AS pipeline_name, p.settings AS pipeline_settings FROM runs r JOIN pipelines p ON p.id = r.pipeline_id
            WHERE r.id = ANY ($1)";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let runs = client.query(&statement, &[&ids]).await.map_err(sql_error)?;
        let sql =
            "SELECT c.* FROM receipts c JOIN runs r ON r.receipt_id = c.id WHERE r.id = ANY ($1)";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let receipts = client.query(&statement, &[&ids]).await.map_err(sql_error)?;
        let receipts = rows::all(&receipts, rows::receipt)?;
        let receipts: HashMap<_, _> = receipts
            .into_iter()
            .map(|receipt| (receipt.id, receipt))
            .collect();
        let mut known = HashMap::new();
        for row in &runs {
            let run = rows::run(row)?;
            let name: String = row.try_get("pipeline_name").map_err(Failure::Sql)?;
            let settings = rows::settings(row, "pipeline_settings")?;
            known.insert(run.id, (run, name, settings));
        }
        // A job whose pipeline was deleted this very moment has no run any more; nothing is left to do for it.
        Ok(jobs
            .into_iter()
            .filter_map(|job| {
                let (run, pipeline_name, settings) = known.get(&job.run_id)?.clone();
                let receipt = run.receipt_id.and_then(|id| receipts.get(&id).cloned());
                Some(Claimed {
                    run,
                    job,
                    pipeline_name,
                    settings,
                    receipt,
                    build: None,
                })
            })
            .collect())
    }
}
