//! Pipelines and their revisions.

use super::super::{PipelineStore, QueueStore, Result, codec};
use super::{Failable, PostgresStore, hooks, messages, rows, sql_error};
use crate::model::pipeline::{ContentType, Pipeline, PutOutcome, PutPipeline, Revision};
use crate::model::run::Hold;
use crate::model::{PipelineId, RevisionId};
use async_trait::async_trait;
use deadpool_postgres::Transaction;
use pocketci_proto::api::PipelineSettings;
use time::OffsetDateTime;
use tokio_postgres::types::{Json, ToSql};

#[async_trait]
impl PipelineStore for PostgresStore {
    async fn put_pipeline(&self, put: PutPipeline) -> Result<PutOutcome> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let outcome = put_in(&transaction, &put).await?;
        transaction.commit().await.map_err(sql_error)?;
        if outcome.pipeline.content_type == ContentType::Yaml {
            self.wake_scheduler(outcome.pipeline.id);
        }
        Ok(outcome)
    }

    async fn pipeline(&self, id: PipelineId) -> Result<Option<Pipeline>> {
        self.one_pipeline("WHERE p.id = $1", &id.0).await
    }

    async fn pipeline_by_name(&self, name: &str) -> Result<Option<Pipeline>> {
        self.one_pipeline("WHERE p.name = $1", &name).await
    }

    async fn pipelines(&self, after: Option<&str>, limit: i64) -> Result<Vec<Pipeline>> {
        let client = self.client().await?;
        // Byte order, as in SQLite, whatever the database's collation.
        let sql = format!(
            "{} WHERE p.name COLLATE \"C\" > $1 ORDER BY p.name COLLATE \"C\" LIMIT $2",
            rows::PIPELINE
        );
        let found = client
            .query(&sql, &[&after.unwrap_or_default(), &limit])
            .await
            .map_err(sql_error)?;
        Ok(rows::all(&found, rows::pipeline)?)
    }

    async fn revision(&self, id: RevisionId) -> Result<Option<Revision>> {
        let client = self.client().await?;
        let row = client
            .query_opt("SELECT * FROM revisions WHERE id = $1", &[&id.0])
            .await
            .map_err(sql_error)?;
        Ok(row.as_ref().map(rows::revision).transpose()?)
    }

    async fn delete_pipeline(&self, id: PipelineId) -> Result<bool> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        // First the pipeline: from then on no new run of it can be stored.
        let mut known = None;
        for sql in [
            "DELETE FROM pipelines WHERE id = $1",
            "SELECT id FROM runs WHERE pipeline_id = $1 ORDER BY id FOR UPDATE",
            "DELETE FROM lost_attempts l USING jobs j, runs r
             WHERE l.job_id = j.id AND j.run_id = r.id AND r.pipeline_id = $1",
            "DELETE FROM run_events e USING runs r WHERE e.run_id = r.id AND r.pipeline_id = $1",
            "DELETE FROM gates g USING runs r WHERE g.run_id = r.id AND r.pipeline_id = $1",
            "DELETE FROM replies p USING runs r WHERE p.run_id = r.id AND r.pipeline_id = $1",
            "DELETE FROM jobs j USING runs r WHERE j.run_id = r.id AND r.pipeline_id = $1",
            "DELETE FROM runs WHERE pipeline_id = $1",
            "DELETE FROM receipts WHERE pipeline_id = $1",
        ] {
            let rows = transaction
                .execute(sql, &[&id.0])
                .await
                .map_err(sql_error)?;
            known.get_or_insert(rows > 0);
        }
        transaction.commit().await.map_err(sql_error)?;
        Ok(known == Some(true))
    }

    async fn set_paused(&self, id: PipelineId, by: Option<&str>) -> Result<Option<Pipeline>> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let (paused, by) = (by.is_some(), by.unwrap_or_default());
        let sql = "UPDATE pipelines SET paused = $2, paused_by = $3, version = version + 1,
            updated_at = clock_timestamp() WHERE id = $1 AND paused <> $2";
        transaction
            .execute(sql, &[&id.0, &paused, &by])
            .await
            .map_err(sql_error)?;
        // In the order of ids, as everywhere.
        let sql = "WITH mine AS (
                SELECT id FROM jobs WHERE pipeline_id = $1 AND state = 'queued' AND attempt = 0
                AND hold IS NOT DISTINCT FROM $2 ORDER BY id FOR UPDATE
            )
            UPDATE jobs j SET hold = $3 FROM mine WHERE j.id = mine.id";
        let (from, to) = match paused {
            true => (None, Some(Hold::Paused.as_str())),
            false => (Some(Hold::Paused.as_str()), None),
        };
        transaction
            .execute(sql, &[&id.0, &from, &to])
            .await
            .map_err(sql_error)?;
        if !paused {
            messages::unpause(&transaction, id).await?;
        }
        transaction.commit().await.map_err(sql_error)?;
        drop(client);
        self.nudge();
        self.wake_scheduler(id);
        self.pipeline(id).await
    }

    async fn set_settings(
        &self,
        id: PipelineId,
        version: i64,
        settings: PipelineSettings,
    ) -> Result<bool> {
        let client = self.client().await?;
        let sql = "UPDATE pipelines SET settings = $3, version = version + 1, updated_at = clock_timestamp()
            WHERE id = $1 AND version = $2";
        let settings = codec::json(&settings);
        let changed = client.execute(sql, &[&id.0, &version, &settings]).await;
        Ok(changed.map_err(sql_error)? > 0)
    }
}

impl PostgresStore {
    async fn one_pipeline(
        &self,
        filter: &str,
        key: &(dyn ToSql + Sync),
    ) -> Result<Option<Pipeline>> {
        let client = self.client().await?;
        let sql = format!("{} {filter}", rows::PIPELINE);
        let statement = client.prepare_cached(&sql).await.map_err(sql_error)?;
        let row = client
            .query_opt(&statement, &[key])
            .await
            .map_err(sql_error)?;
        Ok(row.as_ref().map(rows::pipeline).transpose()?)
    }
}

async fn put_in(transaction: &Transaction<'_>, put: &PutPipeline) -> Failable<PutOutcome> {
    // Two puts of one name, even a new one, go one after the other.
    transaction
        .execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            &[&put.name],
        )
        .await?;
    // Nobody pauses it meanwhile.
    let sql = format!("{} WHERE p.name = $1 FOR UPDATE OF p", rows::PIPELINE);
    let stored = match transaction.query_opt(&sql, &[&put.name]).await? {
        None => None,
        Some(row) => {
            let pipeline = rows::pipeline(&row)?;
            let newest = "SELECT * FROM revisions WHERE id = $1";
            let row = transaction
                .query_one(newest, &[&pipeline.revision_id.0])
                .await?;
            Some((pipeline, rows::revision(&row)?))
        }
    };
    let now: OffsetDateTime = transaction
        .query_one("SELECT clock_timestamp()", &[])
        .await?
        .try_get(0)?;
    let outcome = PutOutcome::decide(stored, put, now);
    write(transaction, &outcome, put).await?;
    hooks::put_listeners(transaction, outcome.pipeline.id, &outcome.listens(put)).await?;
    Ok(outcome)
}

async fn write(
    transaction: &Transaction<'_>,
    outcome: &PutOutcome,
    put: &PutPipeline,
) -> Failable<()> {
    let pipeline = &outcome.pipeline;
    if !outcome.changed.is_empty() {
        let sql = if outcome.created {
            "INSERT INTO pipelines (id, name, version, revision_id, driver, labels, paused, updated_at, settings,
                created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $8)"
        } else {
            "UPDATE pipelines SET name = $2, version = $3, revision_id = $4, driver = $5, labels = $6, paused = $7,
             updated_at = $8, settings = $9 WHERE id = $1"
        };
        let driver = pipeline.driver.map(|driver| driver.as_str());
        let settings = codec::json(&pipeline.settings);
        let params: [&(dyn ToSql + Sync); 9] = [
            &pipeline.id.0,
            &pipeline.name,
            &pipeline.version,
            &pipeline.revision_id.0,
            &driver,
            &Json(&pipeline.labels),
            &pipeline.paused,
            &pipeline.updated_at,
            &settings,
        ];
        transaction.execute(sql, &params).await?;
    }
    if outcome.changed.contains(&"content") {
        let modules = codec::json(&put.modules);
        let sql = "INSERT INTO revisions (id, pipeline_id, number, content_type, file_name, source, javascript, source_map,
            created_at, modules) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let params: [&(dyn ToSql + Sync); 10] = [
            &pipeline.revision_id.0,
            &pipeline.id.0,
            &pipeline.revision,
            &put.content_type.as_str(),
            &put.file_name,
            &put.source,
            &put.javascript,
            &put.source_map,
            &pipeline.updated_at,
            &modules,
        ];
        transaction.execute(sql, &params).await?;
    }
    if outcome.changed.contains(&"webhook_secrets") {
        let sql = "DELETE FROM webhook_secrets WHERE pipeline_id = $1";
        transaction.execute(sql, &[&pipeline.id.0]).await?;
        for (position, secret) in (0i32..).zip(&pipeline.webhook_secrets) {
            let sql = "INSERT INTO webhook_secrets VALUES ($1, $2, $3)";
            transaction
                .execute(sql, &[&pipeline.id.0, &position, &secret.expose()])
                .await?;
        }
    }
    Ok(())
}
