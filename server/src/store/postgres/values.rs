//! Values that pipelines keep, and keys that they have seen.

use super::super::{
    MAX_VALUE_BYTES, MAX_VALUES, Result, Sighting, ValueStore, Write, Written, codec,
};
use super::{Failable, PostgresStore, sql_error};
use crate::model::PipelineId;
use async_trait::async_trait;
use deadpool_postgres::Transaction;
use pocketci_pipeline::merge_patch;
use serde_json::Value;
use std::time::Duration;
use tokio_postgres::Row;

/// Keys with the prefix $2.
const BY_PREFIX: &str = "WHERE pipeline_id = $1 AND starts_with(key, $2) ORDER BY key LIMIT $3";
/// The column of values.
const COLUMN: &str = "stored_values.value";

fn parse(row: &Row, column: usize) -> Failable<Value> {
    Ok(codec::from_json(COLUMN, row.try_get::<_, &str>(column)?)?)
}

async fn put(
    transaction: &Transaction<'_>,
    id: PipelineId,
    key: &str,
    write: Write,
    new: Value,
) -> Failable<Written> {
    // Writers of one pipeline go one after the other, so that patches add up and the count holds.
    transaction
        .execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('stored_values ' || $1::text, 0))",
            &[&id.to_string()],
        )
        .await?;
    let sql = "SELECT value FROM stored_values WHERE pipeline_id = $1 AND key = $2";
    let stored = transaction.query_opt(sql, &[&id.0, &key]).await?;
    if stored.is_none() {
        let sql = "SELECT count(*) FROM stored_values WHERE pipeline_id = $1";
        let count: i64 = transaction.query_one(sql, &[&id.0]).await?.try_get(0)?;
        if count >= MAX_VALUES {
            return Ok(Written::Full);
        }
    }
    let new = match (write, stored) {
        (Write::Replace, _) => new,
        (Write::Patch, stored) => {
            let mut patched = stored
                .as_ref()
                .map(|row| parse(row, 0))
                .transpose()?
                .unwrap_or_default();
            merge_patch::apply(&mut patched, new);
            patched
        }
    };
    let text = codec::json(&new);
    if text.len() > MAX_VALUE_BYTES {
        return Ok(Written::TooLarge);
    }
    let sql = "INSERT INTO stored_values (pipeline_id, key, value, updated_at) VALUES ($1, $2, $3, clock_timestamp())
        ON CONFLICT (pipeline_id, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at";
    transaction.execute(sql, &[&id.0, &key, &text]).await?;
    Ok(Written::Done)
}

#[async_trait]
impl ValueStore for PostgresStore {
    async fn value(&self, pipeline_id: PipelineId, key: &str) -> Result<Option<Value>> {
        let client = self.client().await?;
        let sql = "SELECT value FROM stored_values WHERE pipeline_id = $1 AND key = $2";
        let row = client
            .query_opt(sql, &[&pipeline_id.0, &key])
            .await
            .map_err(sql_error)?;
        Ok(row.as_ref().map(|row| parse(row, 0)).transpose()?)
    }

    async fn put_value(
        &self,
        pipeline_id: PipelineId,
        key: &str,
        write: Write,
        value: Value,
    ) -> Result<Written> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let written = put(&transaction, pipeline_id, key, write, value).await?;
        transaction.commit().await.map_err(sql_error)?;
        Ok(written)
    }

    async fn delete_value(&self, pipeline_id: PipelineId, key: &str) -> Result<bool> {
        let client = self.client().await?;
        let sql = "DELETE FROM stored_values WHERE pipeline_id = $1 AND key = $2";
        let gone = client.execute(sql, &[&pipeline_id.0, &key]).await;
        Ok(gone.map_err(sql_error)? > 0)
    }

    async fn value_keys(
        &self,
        pipeline_id: PipelineId,
        prefix: &str,
        limit: i64,
    ) -> Result<Vec<String>> {
        let client = self.client().await?;
        let sql = format!("SELECT key FROM stored_values {BY_PREFIX}");
        let rows = client
            .query(&sql, &[&pipeline_id.0, &prefix, &limit])
            .await
            .map_err(sql_error)?;
        let key = |row: &Row| row.try_get(0).map_err(sql_error);
        rows.iter().map(key).collect()
    }

    async fn values(
        &self,
        pipeline_id: PipelineId,
        prefix: &str,
        limit: i64,
    ) -> Result<Vec<(String, Value)>> {
        let client = self.client().await?;
        let sql = format!("SELECT key, value FROM stored_values {BY_PREFIX}");
        let rows = client
            .query(&sql, &[&pipeline_id.0, &prefix, &limit])
            .await
            .map_err(sql_error)?;
        let pair =
            |row: &Row| -> Failable<(String, Value)> { Ok((row.try_get(0)?, parse(row, 1)?)) };
        Ok(rows.iter().map(pair).collect::<Failable<_>>()?)
    }

    async fn seen_before(&self, sighting: Sighting, ttl: Duration) -> Result<bool> {
        let client = self.client().await?;
        let id = sighting.pipeline_id.0;
        let sql = "DELETE FROM seen_keys WHERE pipeline_id = $1
            AND seen_at < clock_timestamp() - make_interval(secs => $2)";
        client
            .execute(sql, &[&id, &ttl.as_secs_f64()])
            .await
            .map_err(sql_error)?;
        let sql = "INSERT INTO seen_keys (pipeline_id, hash, run_id, call, seen_at)
            VALUES ($1, $2, $3, $4, clock_timestamp()) ON CONFLICT DO NOTHING";
        let hash = sighting.hash.as_slice();
        client
            .execute(sql, &[&id, &hash, &sighting.run_id.0, &sighting.call])
            .await
            .map_err(sql_error)?;
        // Whoever came first is committed by now; a statement of its own sees it.
        let sql = "SELECT NOT (run_id = $3 AND call = $4) FROM seen_keys WHERE pipeline_id = $1 AND hash = $2";
        let row = client
            .query_one(sql, &[&id, &hash, &sighting.run_id.0, &sighting.call])
            .await
            .map_err(sql_error)?;
        row.try_get(0).map_err(sql_error)
    }
}
