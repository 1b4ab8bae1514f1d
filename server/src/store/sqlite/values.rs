//! Values that pipelines keep, and keys that they have seen.

use super::SqliteStore;
use super::rows::{Columns, json, micros, now};
use crate::model::PipelineId;
use crate::store::{MAX_VALUE_BYTES, MAX_VALUES, Result, Sighting, ValueStore, Write, Written};
use async_trait::async_trait;
use pocketci_pipeline::merge_patch;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::Value;
use std::time::Duration;

/// Keys with the prefix ?2.
const BY_PREFIX: &str =
    "WHERE pipeline_id = ?1 AND substr(key, 1, length(?2)) = ?2 ORDER BY key LIMIT ?3";

fn value(connection: &Connection, id: PipelineId, key: &str) -> Result<Option<Value>> {
    let sql = "SELECT value FROM stored_values WHERE pipeline_id = ?1 AND key = ?2";
    let found = connection
        .prepare_cached(sql)?
        .query_row(params![id.0.as_bytes(), key], |row| Columns::of(row).json());
    Ok(found.optional()?)
}

fn put(
    connection: &Connection,
    id: PipelineId,
    key: &str,
    write: Write,
    new: Value,
) -> Result<Written> {
    let stored = value(connection, id, key)?;
    if stored.is_none() {
        let sql = "SELECT count(*) FROM stored_values WHERE pipeline_id = ?1";
        let count: i64 = connection
            .prepare_cached(sql)?
            .query_row([id.0.as_bytes()], |row| row.get(0))?;
        if count >= MAX_VALUES {
            return Ok(Written::Full);
        }
    }
    let new = match write {
        Write::Replace => new,
        Write::Patch => {
            let mut patched = stored.unwrap_or_default();
            merge_patch::apply(&mut patched, new);
            patched
        }
    };
    let text = json(&new)?;
    if text.len() > MAX_VALUE_BYTES {
        return Ok(Written::TooLarge);
    }
    let sql = "INSERT INTO stored_values (pipeline_id, key, value, updated_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (pipeline_id, key) DO UPDATE SET value = ?3, updated_at = ?4";
    connection
        .prepare_cached(sql)?
        .execute(params![id.0.as_bytes(), key, text, micros(now())])?;
    Ok(Written::Done)
}

fn seen(connection: &Connection, sighting: &Sighting, ttl: Duration) -> Result<bool> {
    let id = sighting.pipeline_id.0;
    let forgotten = micros(now() - ttl);
    let sql = "DELETE FROM seen_keys WHERE pipeline_id = ?1 AND seen_at < ?2";
    connection
        .prepare_cached(sql)?
        .execute(params![id.as_bytes(), forgotten])?;
    let sql = "INSERT INTO seen_keys (pipeline_id, hash, run_id, call, seen_at) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![
        id.as_bytes(),
        sighting.hash,
        sighting.run_id.0.as_bytes(),
        sighting.call,
        micros(now())
    ])?;
    let sql =
        "SELECT run_id = ?3 AND call = ?4 FROM seen_keys WHERE pipeline_id = ?1 AND hash = ?2";
    let own: bool = connection.prepare_cached(sql)?.query_row(
        params![
            id.as_bytes(),
            sighting.hash,
            sighting.run_id.0.as_bytes(),
            sighting.call
        ],
        |row| row.get(0),
    )?;
    Ok(!own)
}

#[async_trait]
impl ValueStore for SqliteStore {
    async fn value(&self, pipeline_id: PipelineId, key: &str) -> Result<Option<Value>> {
        let key = key.to_owned();
        self.readers
            .read(move |connection| value(connection, pipeline_id, &key))
            .await
    }

    async fn put_value(
        &self,
        pipeline_id: PipelineId,
        key: &str,
        write: Write,
        value: Value,
    ) -> Result<Written> {
        let key = key.to_owned();
        self.writer
            .call(move |connection, _| put(connection, pipeline_id, &key, write, value))
            .await
    }

    async fn delete_value(&self, pipeline_id: PipelineId, key: &str) -> Result<bool> {
        let key = key.to_owned();
        self.writer
            .call(move |connection, _| {
                let sql = "DELETE FROM stored_values WHERE pipeline_id = ?1 AND key = ?2";
                let gone = connection
                    .prepare_cached(sql)?
                    .execute(params![pipeline_id.0.as_bytes(), key])?;
                Ok(gone > 0)
            })
            .await
    }

    async fn value_keys(
        &self,
        pipeline_id: PipelineId,
        prefix: &str,
        limit: i64,
    ) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.readers
            .read(move |connection| {
                let sql = format!("SELECT key FROM stored_values {BY_PREFIX}");
                let mut statement = connection.prepare_cached(&sql)?;
                let given = params![pipeline_id.0.as_bytes(), prefix, limit];
                let found = statement.query_map(given, |row| row.get(0))?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn values(
        &self,
        pipeline_id: PipelineId,
        prefix: &str,
        limit: i64,
    ) -> Result<Vec<(String, Value)>> {
        let prefix = prefix.to_owned();
        self.readers
            .read(move |connection| {
                let sql = format!("SELECT key, value FROM stored_values {BY_PREFIX}");
                let mut statement = connection.prepare_cached(&sql)?;
                let given = params![pipeline_id.0.as_bytes(), prefix, limit];
                let found = statement.query_map(given, |row| {
                    let mut columns = Columns::of(row);
                    Ok((columns.take()?, columns.json()?))
                })?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn seen_before(&self, sighting: Sighting, ttl: Duration) -> Result<bool> {
        self.writer
            .call(move |connection, _| seen(connection, &sighting, ttl))
            .await
    }
}
