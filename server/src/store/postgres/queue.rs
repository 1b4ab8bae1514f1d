//! Jobs that wait: what they ask for, their concurrency groups, how long they may.

use super::super::wake::Wake;
use super::super::{Demand, MAX_DEMAND, MAX_WAITING, QueueStore, QueuedView, Result};
use super::{Failable, PostgresStore, rows, sql_error};
use crate::model::concurrency::{Member, Ruling, decide};
use crate::model::run::Hold;
use crate::model::{AgentId, JobId, PipelineId, RunId};
use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use pocketci_proto::api::Driver;
use tokio_postgres::types::Json;
use uuid::Uuid;

/// Each distinct requirement of what is ready: one step in the index jobs_ready for each, however long the queue.
const DEMAND: &str = "WITH RECURSIVE asked AS (
        (SELECT needs, labels, driver FROM jobs WHERE state = 'queued' AND hold IS NULL ORDER BY needs LIMIT 1)
        UNION ALL
        SELECT next.* FROM asked a CROSS JOIN LATERAL (
            SELECT needs, labels, driver FROM jobs WHERE state = 'queued' AND hold IS NULL AND needs > a.needs
            ORDER BY needs LIMIT 1) next
    )
    SELECT labels, driver, (SELECT count(*) FROM (
        SELECT 1 FROM jobs j WHERE state = 'queued' AND hold IS NULL AND j.needs = asked.needs LIMIT $1) counted) AS jobs
    FROM asked";

/// Those admitted, and of those that wait the oldest and the newest: however long the queue of a group, a decision
/// costs the same.
const MEMBERS: &str = "(SELECT id, cancel_actor IS NOT NULL AS cancelled, true AS admitted FROM runs
     WHERE pipeline_id = $1 AND group_key = $2 AND NOT group_held AND state <> 'finished')
    UNION
    (SELECT id, cancel_actor IS NOT NULL, false FROM runs
     WHERE pipeline_id = $1 AND group_key = $2 AND group_held AND state <> 'finished' ORDER BY id LIMIT $3)
    UNION
    (SELECT id, cancel_actor IS NOT NULL, false FROM runs
     WHERE pipeline_id = $1 AND group_key = $2 AND group_held AND state <> 'finished' ORDER BY id DESC LIMIT $3)";

#[async_trait]
impl QueueStore for PostgresStore {
    async fn demand(&self) -> Result<Vec<Demand>> {
        let client = self.client().await?;
        let statement = client.prepare_cached(DEMAND).await.map_err(sql_error)?;
        let found = client
            .query(&statement, &[&MAX_DEMAND])
            .await
            .map_err(sql_error)?;
        Ok(rows::all(&found, |row| {
            Ok(Demand {
                labels: row.try_get::<_, Json<_>>("labels")?.0,
                driver: row
                    .try_get::<_, Option<&str>>("driver")?
                    .and_then(Driver::parse),
                jobs: row.try_get("jobs")?,
            })
        })?)
    }

    async fn queue(&self, limit: i64) -> Result<Vec<QueuedView>> {
        let client = self.client().await?;
        let sql = "SELECT j.*, p.name AS pipeline_name, p.paused_by, r.group_key, r.pipeline_id AS of_pipeline
            FROM jobs j JOIN runs r ON r.id = j.run_id JOIN pipelines p ON p.id = r.pipeline_id
            WHERE j.state = 'queued'
            ORDER BY j.hold IS NOT NULL, j.priority DESC, j.turn, j.queued_at, j.id LIMIT $1";
        let found = client.query(sql, &[&limit]).await.map_err(sql_error)?;
        Ok(rows::all(&found, |row| {
            Ok(QueuedView {
                job: rows::job(row)?,
                pipeline_id: PipelineId(row.try_get("of_pipeline")?),
                pipeline_name: row.try_get("pipeline_name")?,
                paused_by: row.try_get("paused_by")?,
                group: row.try_get("group_key")?,
            })
        })?)
    }

    async fn load(&self) -> Result<Vec<(AgentId, i64)>> {
        let client = self.client().await?;
        let sql =
            "SELECT agent_id, count(*) FROM jobs WHERE lease_until IS NOT NULL GROUP BY agent_id";
        let found = client.query(sql, &[]).await.map_err(sql_error)?;
        Ok(found
            .iter()
            .map(|row| (AgentId(row.get(0)), row.get(1)))
            .collect())
    }

    async fn overdue(&self, limit: i64) -> Result<Vec<(RunId, JobId)>> {
        let client = self.client().await?;
        let sql = "SELECT run_id, id FROM jobs WHERE state = 'queued' AND queue_until IS NOT NULL
            AND queue_until <= clock_timestamp() ORDER BY queue_until LIMIT $1";
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

    async fn held_groups(
        &self,
        after: Option<(PipelineId, String)>,
        limit: i64,
    ) -> Result<Vec<(PipelineId, String)>> {
        let client = self.client().await?;
        let sql = "SELECT DISTINCT pipeline_id, group_key FROM runs
            WHERE group_key IS NOT NULL AND state <> 'finished' AND group_held
            AND (pipeline_id, group_key) > ($2, $3) ORDER BY pipeline_id, group_key LIMIT $1";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let (pipeline_id, group) = match after {
            Some((id, group)) => (id.0, group),
            None => (Uuid::nil(), String::new()),
        };
        let found = client
            .query(&statement, &[&limit, &pipeline_id, &group])
            .await
            .map_err(sql_error)?;
        Ok(found
            .iter()
            .map(|row| (PipelineId(row.get(0)), row.get(1)))
            .collect())
    }

    async fn group(&self, pipeline_id: PipelineId, group: &str) -> Result<Vec<Member>> {
        let client = self.client().await?;
        Ok(members(&client, pipeline_id, group).await?)
    }

    async fn admit(&self, pipeline_id: PipelineId, group: &str) -> Result<Ruling> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let ruling = admit_in(&transaction, pipeline_id, group).await?;
        transaction.commit().await.map_err(sql_error)?;
        if !ruling.admit.is_empty() {
            self.nudge();
            self.wake_scheduler(pipeline_id);
        }
        Ok(ruling)
    }

    fn nudge(&self) {
        self.wakes.publish(Wake::JobQueued);
        self.notifier.wake(Wake::JobQueued);
    }
}

async fn members(
    client: &impl GenericClient,
    pipeline_id: PipelineId,
    group: &str,
) -> Failable<Vec<Member>> {
    let statement = client.prepare_cached(MEMBERS).await?;
    let found = client
        .query(&statement, &[&pipeline_id.0, &group, &MAX_WAITING])
        .await?;
    rows::all(&found, rows::member)
}

async fn admit_in(
    transaction: &Transaction<'_>,
    pipeline_id: PipelineId,
    group: &str,
) -> Failable<Ruling> {
    // Two decisions on one group go one after the other; the second sees what the first did.
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))";
    let name = format!("{pipeline_id} {group}");
    transaction.execute(lock, &[&name]).await?;
    // Nobody pauses or resumes it meanwhile.
    let sql = "SELECT settings, paused FROM pipelines WHERE id = $1 FOR SHARE";
    let Some(pipeline) = transaction.query_opt(sql, &[&pipeline_id.0]).await? else {
        return Ok(Ruling::default());
    };
    let settings = rows::settings(&pipeline, "settings")?;
    let members = members(transaction, pipeline_id, group).await?;
    let ruling = decide(settings.concurrency.as_ref(), &members);
    let admitted: Vec<Uuid> = ruling.admit.iter().map(|run| run.0).collect();
    if !admitted.is_empty() {
        let paused: bool = pipeline.try_get(1)?;
        let hold = paused.then_some(Hold::Paused.as_str());
        // In the order of ids, as everywhere.
        let runs = "WITH mine AS (SELECT id FROM runs WHERE id = ANY ($1) ORDER BY id FOR UPDATE)
            UPDATE runs r SET group_held = false FROM mine WHERE r.id = mine.id";
        transaction.execute(runs, &[&admitted]).await?;
        let sql = "WITH mine AS (
                SELECT id FROM jobs WHERE run_id = ANY ($1) AND hold = 'group' ORDER BY id FOR UPDATE
            )
            UPDATE jobs j SET hold = CASE WHEN j.number IS NULL THEN $2 ELSE 'inputs' END, turn = greatest(1,
                (SELECT q.turn FROM jobs q WHERE q.state = 'queued' AND q.hold IS NULL AND q.needs = j.needs
                 AND q.priority = j.priority ORDER BY q.turn LIMIT 1),
                (SELECT q.turn + 1 FROM jobs q WHERE q.state <> 'finished' AND q.turn > 0
                 AND q.pipeline_id = j.pipeline_id AND q.needs = j.needs ORDER BY q.turn DESC LIMIT 1))
            FROM mine WHERE j.id = mine.id";
        transaction.execute(sql, &[&admitted, &hold]).await?;
    }
    Ok(ruling)
}
