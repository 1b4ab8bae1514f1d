//! Pipelines and their revisions.

use super::SqliteStore;
use super::error::Defect;
use super::rows::{self, Columns, PIPELINE, driver_word, json, micros, now, secret_text};
use super::writer::Hints;
use super::{hooks, messages, queue};
use crate::model::pipeline::{ContentType, Pipeline, PutOutcome, PutPipeline, Revision};
use crate::model::{PipelineId, RevisionId};
use crate::store::{PipelineStore, Result};
use async_trait::async_trait;
use pocketci_proto::api::PipelineSettings;
use rusqlite::{Connection, OptionalExtension as _, Params, params};

const REVISION: &str =
    "id, pipeline_id, number, content_type, file_name, source, javascript, source_map, modules";

/// Pipelines that satisfy `rest`.
fn select(connection: &Connection, rest: &str, given: impl Params) -> Result<Vec<Pipeline>> {
    let sql = format!(
        "SELECT {PIPELINE} FROM pipelines p \
         JOIN revisions v ON v.pipeline_id = p.id AND v.number = p.revision {rest}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(given, |row| rows::pipeline(&mut Columns::of(row)))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn by_id(connection: &Connection, id: PipelineId) -> Result<Option<Pipeline>> {
    Ok(select(connection, "WHERE p.id = ?1", [id.0.as_bytes()])?.pop())
}

fn by_name(connection: &Connection, name: &str) -> Result<Option<Pipeline>> {
    Ok(select(connection, "WHERE p.name = ?1", [name])?.pop())
}

fn revision(connection: &Connection, id: RevisionId) -> Result<Option<Revision>> {
    let sql = format!("SELECT {REVISION} FROM revisions WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([id.0.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        Ok(Revision {
            id: columns.id(RevisionId)?,
            pipeline_id: columns.id(PipelineId)?,
            number: columns.take()?,
            content_type: columns.word(ContentType::parse)?,
            file_name: columns.take()?,
            source: columns.take()?,
            javascript: columns.take()?,
            source_map: columns.take()?,
            modules: columns.json()?,
        })
    });
    Ok(found.optional()?)
}

fn insert_revision(connection: &Connection, of: &Pipeline, put: &PutPipeline) -> Result<()> {
    let sql =
        format!("INSERT INTO revisions ({REVISION}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
    connection.prepare_cached(&sql)?.execute(params![
        of.revision_id.0.as_bytes(),
        of.id.0.as_bytes(),
        of.revision,
        put.content_type.as_str(),
        put.file_name,
        put.source,
        put.javascript,
        put.source_map,
        json(&put.modules)?,
    ])?;
    Ok(())
}

/// Inserts or overwrites the row of a pipeline.
fn store(connection: &Connection, pipeline: &Pipeline) -> Result<()> {
    let sql = "INSERT INTO pipelines (id, name, version, revision, driver, labels, \
         webhook_secrets, paused, created_at, updated_at, settings, paused_by) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
         ON CONFLICT (id) DO UPDATE SET version = ?3, revision = ?4, driver = ?5, labels = ?6, \
         webhook_secrets = ?7, paused = ?8, updated_at = ?10, settings = ?11, \
         paused_by = ?12";
    connection.prepare_cached(sql)?.execute(params![
        pipeline.id.0.as_bytes(),
        pipeline.name,
        pipeline.version,
        pipeline.revision,
        driver_word(pipeline.driver),
        json(&pipeline.labels)?,
        secret_text(&pipeline.webhook_secrets)?,
        pipeline.paused,
        micros(pipeline.created_at),
        micros(pipeline.updated_at),
        json(&pipeline.settings)?,
        pipeline.paused_by,
    ])?;
    Ok(())
}

fn put_pipeline(connection: &Connection, put: &PutPipeline) -> Result<PutOutcome> {
    let stored = match by_name(connection, &put.name)? {
        None => None,
        Some(pipeline) => {
            let newest = revision(connection, pipeline.revision_id)?.ok_or(Defect::NoRevision)?;
            Some((pipeline, newest))
        }
    };
    let outcome = PutOutcome::decide(stored, put, now());
    if !outcome.changed.is_empty() {
        store(connection, &outcome.pipeline)?;
    }
    if outcome.changed.contains(&"content") {
        insert_revision(connection, &outcome.pipeline, put)?;
    }
    hooks::put_listeners(connection, outcome.pipeline.id, &outcome.listens(put))?;
    Ok(outcome)
}

fn set_paused(
    connection: &Connection,
    id: PipelineId,
    by: Option<&str>,
    hints: &mut Hints,
) -> Result<Option<Pipeline>> {
    let Some(mut pipeline) = by_id(connection, id)? else {
        return Ok(None);
    };
    queue::pause(connection, id, by.is_some())?;
    if by.is_none() {
        messages::unpause(connection, id)?;
    }
    hints.job_queued = true;
    hints.schedule = Some(id);
    if pipeline.paused != by.is_some() {
        pipeline.paused = by.is_some();
        pipeline.paused_by = by.unwrap_or_default().to_owned();
        pipeline.version += 1;
        pipeline.updated_at = now();
        store(connection, &pipeline)?;
    }
    Ok(Some(pipeline))
}

/// The references remove all that hangs on it; runs first, because they name revisions.
fn delete(connection: &Connection, id: PipelineId) -> Result<bool> {
    connection
        .prepare_cached("DELETE FROM runs WHERE pipeline_id = ?1")?
        .execute([id.0.as_bytes()])?;
    let removed = connection
        .prepare_cached("DELETE FROM pipelines WHERE id = ?1")?
        .execute([id.0.as_bytes()])?;
    Ok(removed > 0)
}

#[async_trait]
impl PipelineStore for SqliteStore {
    async fn put_pipeline(&self, put: PutPipeline) -> Result<PutOutcome> {
        self.writer
            .call(move |connection, hints| {
                let outcome = put_pipeline(connection, &put)?;
                hints.schedule = Some(outcome.pipeline.id);
                Ok(outcome)
            })
            .await
    }

    async fn pipeline(&self, id: PipelineId) -> Result<Option<Pipeline>> {
        self.readers
            .read(move |connection| by_id(connection, id))
            .await
    }

    async fn pipeline_by_name(&self, name: &str) -> Result<Option<Pipeline>> {
        let name = name.to_owned();
        self.readers
            .read(move |connection| by_name(connection, &name))
            .await
    }

    async fn pipelines(&self, after: Option<&str>, limit: i64) -> Result<Vec<Pipeline>> {
        // No name is empty, so all are after the empty one.
        let after = after.unwrap_or_default().to_owned();
        let rest = "WHERE p.name > ?1 ORDER BY p.name LIMIT ?2";
        self.readers
            .read(move |connection| select(connection, rest, params![after, limit.max(0)]))
            .await
    }

    async fn revision(&self, id: RevisionId) -> Result<Option<Revision>> {
        self.readers
            .read(move |connection| revision(connection, id))
            .await
    }

    async fn delete_pipeline(&self, id: PipelineId) -> Result<bool> {
        self.writer
            .call(move |connection, _| delete(connection, id))
            .await
    }

    async fn set_paused(&self, id: PipelineId, by: Option<&str>) -> Result<Option<Pipeline>> {
        let by = by.map(str::to_owned);
        self.writer
            .call(move |connection, hints| set_paused(connection, id, by.as_deref(), hints))
            .await
    }

    async fn set_settings(
        &self,
        id: PipelineId,
        version: i64,
        settings: PipelineSettings,
    ) -> Result<bool> {
        let set = move |connection: &Connection, _: &mut Hints| {
            let found = by_id(connection, id)?.filter(|pipeline| pipeline.version == version);
            let Some(mut pipeline) = found else {
                return Ok(false);
            };
            pipeline.settings = settings.clone();
            pipeline.version += 1;
            pipeline.updated_at = now();
            store(connection, &pipeline)?;
            Ok(true)
        };
        self.writer.call(set).await
    }
}
