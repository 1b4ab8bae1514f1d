//! Pipelines and their revisions.

use super::super::{PipelineStore, Result, codec};
use super::rows::{self, Id, all, execute, first, id, micros};
use super::{Failable, SqliteStore, now};
use crate::model::pipeline::{Pipeline, PutOutcome, PutPipeline, Revision};
use crate::model::{PipelineId, RevisionId};
use async_trait::async_trait;
use rusqlite::Connection;

#[async_trait]
impl PipelineStore for SqliteStore {
    async fn put_pipeline(&self, put: PutPipeline) -> Result<PutOutcome> {
        self.writer
            .write(move |connection| put_now(connection, put), |_| ())
            .await
    }

    async fn pipeline(&self, id: PipelineId) -> Result<Option<Pipeline>> {
        self.read(move |connection| load(connection, id)).await
    }

    async fn pipeline_by_name(&self, name: &str) -> Result<Option<Pipeline>> {
        let name = name.to_owned();
        self.read(move |connection| load_by_name(connection, &name))
            .await
    }

    async fn pipelines(&self, after: Option<&str>, limit: i64) -> Result<Vec<Pipeline>> {
        let after = after.unwrap_or_default().to_owned();
        self.read(move |connection| {
            let sql = format!(
                "{} WHERE p.name > ? ORDER BY p.name LIMIT ?",
                rows::PIPELINE
            );
            all(connection, &sql, (after, limit), |row| {
                rows::pipeline(connection, row)
            })
        })
        .await
    }

    async fn revision(&self, wanted: RevisionId) -> Result<Option<Revision>> {
        self.read(move |connection| {
            first(
                connection,
                "SELECT * FROM revisions WHERE id = ?",
                [id(wanted)],
                rows::revision,
            )
        })
        .await
    }

    async fn delete_pipeline(&self, pipeline: PipelineId) -> Result<bool> {
        self.writer
            .write(move |connection| delete_now(connection, pipeline), |_| ())
            .await
    }

    async fn set_paused(&self, pipeline: PipelineId, paused: bool) -> Result<Option<Pipeline>> {
        self.writer
            .write(
                move |connection| {
                    execute(
                        connection,
                        "UPDATE pipelines SET paused = ?2, version = version + 1, updated_at = ?3
                         WHERE id = ?1 AND paused <> ?2",
                        (id(pipeline), paused, micros(now())),
                    )?;
                    load(connection, pipeline)
                },
                |_| (),
            )
            .await
    }
}

fn load(connection: &Connection, pipeline: PipelineId) -> Failable<Option<Pipeline>> {
    let sql = format!("{} WHERE p.id = ?", rows::PIPELINE);
    first(connection, &sql, [id(pipeline)], |row| {
        rows::pipeline(connection, row)
    })
}

fn load_by_name(connection: &Connection, name: &str) -> Failable<Option<Pipeline>> {
    let sql = format!("{} WHERE p.name = ?", rows::PIPELINE);
    first(connection, &sql, [name], |row| {
        rows::pipeline(connection, row)
    })
}

fn put_now(connection: &Connection, put: PutPipeline) -> Failable<PutOutcome> {
    let stored = match load_by_name(connection, &put.name)? {
        Some(pipeline) => {
            let newest = [id(pipeline.revision_id)];
            let sql = "SELECT * FROM revisions WHERE id = ?";
            first(connection, sql, newest, rows::revision)?.map(|revision| (pipeline, revision))
        }
        None => None,
    };
    let outcome = PutOutcome::decide(stored, &put, now());
    let pipeline = &outcome.pipeline;
    if !outcome.changed.is_empty() {
        write(connection, pipeline, outcome.created)?;
    }
    if outcome.changed.contains(&"content") {
        write_revision(connection, pipeline, &put)?;
    }
    if outcome.changed.contains(&"webhook_secrets") {
        write_secrets(connection, pipeline)?;
    }
    Ok(outcome)
}

fn write(connection: &Connection, pipeline: &Pipeline, created: bool) -> Failable<()> {
    let sql = if created {
        "INSERT INTO pipelines (id, name, version, revision_id, driver, labels, paused, updated_at, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)"
    } else {
        "UPDATE pipelines SET name = ?2, version = ?3, revision_id = ?4, driver = ?5, labels = ?6, paused = ?7,
         updated_at = ?8 WHERE id = ?1"
    };
    execute(
        connection,
        sql,
        (
            id(pipeline.id),
            &pipeline.name,
            pipeline.version,
            id(pipeline.revision_id),
            pipeline.driver.map(|driver| driver.as_str()),
            codec::labels(&pipeline.labels),
            pipeline.paused,
            micros(pipeline.updated_at),
        ),
    )?;
    Ok(())
}

fn write_revision(connection: &Connection, pipeline: &Pipeline, put: &PutPipeline) -> Failable<()> {
    execute(
        connection,
        "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            id(pipeline.revision_id),
            id(pipeline.id),
            pipeline.revision,
            put.content_type.as_str(),
            &put.file_name,
            &put.source,
            &put.javascript,
            &put.source_map,
            micros(pipeline.updated_at),
        ),
    )?;
    Ok(())
}

fn write_secrets(connection: &Connection, pipeline: &Pipeline) -> Failable<()> {
    execute(
        connection,
        "DELETE FROM webhook_secrets WHERE pipeline_id = ?",
        [id(pipeline.id)],
    )?;
    for (position, secret) in pipeline.webhook_secrets.iter().enumerate() {
        execute(
            connection,
            "INSERT INTO webhook_secrets VALUES (?, ?, ?)",
            (id(pipeline.id), position as i64, secret.expose()),
        )?;
    }
    Ok(())
}

/// Runs and receipts carry no foreign key to their pipeline (it would cost every webhook), so they are removed here.
fn delete_now(connection: &Connection, pipeline: PipelineId) -> Failable<bool> {
    let key: Id = pipeline.into();
    execute(connection, "DELETE FROM runs WHERE pipeline_id = ?", [&key])?;
    execute(
        connection,
        "DELETE FROM receipts WHERE pipeline_id = ?",
        [&key],
    )?;
    Ok(execute(connection, "DELETE FROM pipelines WHERE id = ?", [&key])? > 0)
}
