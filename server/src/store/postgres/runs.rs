//! Runs and their events.

use super::super::{
    Enqueued, LogOffsets, NewRun, Result, RunFilter, RunStore, RunView, StoreError,
};
use super::{Failable, PostgresStore, rows, sql_error};
use crate::model::run::{Event, Reply};
use crate::model::{JobId, RunId};
use async_trait::async_trait;
use pocketci_proto::api::RunStatus;
use tokio_postgres::Row;
use uuid::Uuid;

const VIEW: &str =
    "SELECT r.*, p.name AS pipeline_name FROM runs r JOIN pipelines p ON p.id = r.pipeline_id";

#[async_trait]
impl RunStore for PostgresStore {
    async fn enqueue(&self, run: NewRun) -> Result<Enqueued> {
        match self.with_queues(|queues| queues.enqueue.submit(run)) {
            Some(submitted) => submitted.await,
            None => Err(StoreError::Unavailable("the store is closed".into())),
        }
    }

    async fn run(&self, id: RunId) -> Result<Option<RunView>> {
        let client = self.client().await?;
        let sql = format!("{VIEW} WHERE r.id = $1");
        let statement = client.prepare_cached(&sql).await.map_err(sql_error)?;
        let found = client
            .query_opt(&statement, &[&id.0])
            .await
            .map_err(sql_error)?;
        let Some(row) = found else { return Ok(None) };
        let mut view = bare_view(&row)?;
        let sql =
            "SELECT j.*, a.name AS agent_name FROM jobs j LEFT JOIN agents a ON a.id = j.agent_id
            WHERE j.run_id = $1 ORDER BY j.id";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let jobs = client
            .query(&statement, &[&id.0])
            .await
            .map_err(sql_error)?;
        view.jobs = rows::all(&jobs, |row| {
            Ok((rows::job(row)?, row.try_get("agent_name")?))
        })?;
        drop(client);
        view.reply = self
            .replies(&[id])
            .await?
            .into_iter()
            .next()
            .map(|(_, reply)| reply);
        Ok(Some(view))
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunView>> {
        let (state, outcome) = match filter.status {
            None => (None, None),
            Some(RunStatus::Queued) => (Some("queued"), None),
            Some(RunStatus::Running) => (Some("running"), None),
            Some(RunStatus::Success) => (None, Some("succeeded")),
            Some(RunStatus::Failed) => (None, Some("failed")),
            Some(RunStatus::Errored) => (None, Some("errored")),
            Some(RunStatus::Aborted) => (None, Some("aborted")),
            Some(RunStatus::Skipped) => (None, Some("skipped")),
        };
        let sql = format!(
            "{VIEW} WHERE ($1::uuid IS NULL OR r.pipeline_id = $1) AND ($2::text IS NULL OR r.state = $2)
             AND ($3::text IS NULL OR r.outcome = $3) AND ($4::uuid IS NULL OR r.id < $4)
             AND ($6 OR r.trigger_kind <> 'check') ORDER BY r.id DESC LIMIT $5"
        );
        let client = self.client().await?;
        let (pipeline, after) = (
            filter.pipeline_id.map(|id| id.0),
            filter.after.map(|id| id.0),
        );
        // Not prepared: the best plan depends on which filters are set.
        let found = client
            .query(
                &sql,
                &[
                    &pipeline,
                    &state,
                    &outcome,
                    &after,
                    &filter.limit,
                    &filter.checks,
                ],
            )
            .await
            .map_err(sql_error)?;
        Ok(rows::all(&found, bare_view)?)
    }

    async fn replies(&self, ids: &[RunId]) -> Result<Vec<(RunId, Reply)>> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let client = self.client().await?;
        let sql = "SELECT * FROM replies WHERE run_id = ANY ($1)";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client.query(&statement, &[&ids]).await.map_err(sql_error)?;
        Ok(rows::all(&found, rows::reply)?)
    }

    async fn events(&self, id: RunId, after: i64, limit: i64) -> Result<Option<Vec<Event>>> {
        let client = self.client().await?;
        let sql = "SELECT * FROM run_events WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query(&statement, &[&id.0, &after, &limit])
            .await
            .map_err(sql_error)?;
        if found.is_empty() {
            let known = client
                .prepare_cached("SELECT 1 FROM runs WHERE id = $1")
                .await
                .map_err(sql_error)?;
            let known = client
                .query_opt(&known, &[&id.0])
                .await
                .map_err(sql_error)?;
            if known.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(rows::all(&found, rows::event)?))
    }

    async fn log_offsets(&self, id: RunId, job_id: JobId, attempt: i32) -> Result<LogOffsets> {
        let client = self.client().await?;
        // First the sequence: what is stored meanwhile is then in the offsets, never the other way round.
        let sql = "SELECT log_seq FROM jobs WHERE id = $1 AND attempt = $2";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let job = client
            .query_opt(&statement, &[&job_id.0, &attempt])
            .await
            .map_err(sql_error)?;
        let statement = client
            .prepare_cached(rows::LOG_ENDS)
            .await
            .map_err(sql_error)?;
        let found = client
            .query(&statement, &[&id.0, &job_id.0, &attempt])
            .await
            .map_err(sql_error)?;
        Ok(LogOffsets {
            seq: job.map_or(0, |row| row.get(0)),
            ends: rows::all(&found, rows::log_end)?,
        })
    }
}

fn bare_view(row: &Row) -> Failable<RunView> {
    Ok(RunView {
        run: rows::run(row)?,
        pipeline_name: row.try_get("pipeline_name")?,
        jobs: Vec::new(),
        reply: None,
    })
}
