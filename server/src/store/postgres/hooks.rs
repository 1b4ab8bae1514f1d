//! Endpoints, listeners of events, and the verbs about receiving points.

use super::super::{EndpointPut, HookStore, MessageStored, Result, TargetOutcome, codec};
use super::{Failable, Failure, PostgresStore, dedup, messages, rows, sql_error};
use crate::model::dedup::DedupKey;
use crate::model::endpoint::{Endpoint, Target};
use crate::model::fanout::{Listener, MessageTarget};
use crate::model::receipt::{Answer, Receipt};
use crate::model::run::{Outcome, Trigger};
use crate::model::{EndpointId, JobId, PipelineId, ReceiptId, RunId};
use async_trait::async_trait;
use deadpool_postgres::Transaction;
use pocketci_proto::api::Listen;
use std::time::Duration;
use tokio_postgres::types::ToSql;

/// Endpoints with their secret ids.
const ENDPOINT: &str = "SELECT e.*,
        ARRAY(SELECT u.hash FROM endpoint_uuids u WHERE u.endpoint_id = e.id ORDER BY u.position) AS hashes,
        ARRAY(SELECT u.prefix FROM endpoint_uuids u WHERE u.endpoint_id = e.id ORDER BY u.position) AS prefixes,
        ARRAY(SELECT u.not_after FROM endpoint_uuids u WHERE u.endpoint_id = e.id ORDER BY u.position) AS ends
    FROM endpoints e";

async fn put(transaction: &Transaction<'_>, endpoint: &Endpoint) -> Failable<EndpointPut> {
    let (pipeline, event) = match &endpoint.target {
        Target::Pipeline(id) => (Some(id.0), None),
        Target::Event(event) => (None, Some(event)),
    };
    if let Some(pipeline) = pipeline {
        let sql = "SELECT 1 FROM pipelines WHERE id = $1 FOR KEY SHARE";
        if transaction.query_opt(sql, &[&pipeline]).await?.is_none() {
            return Ok(EndpointPut::NoPipeline);
        }
    }
    // Two puts of one name, even a new one, go one after the other.
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('endpoints ' || $1::text, 0))";
    transaction.execute(lock, &[&endpoint.name]).await?;
    let sql = "SELECT version FROM endpoints WHERE id = $1 OR name = $2 FOR UPDATE";
    let current = transaction
        .query_opt(sql, &[&endpoint.id.0, &endpoint.name])
        .await?;
    let current: i64 = current.map_or(Ok(0), |row| row.try_get(0))?;
    if current != endpoint.version - 1 {
        return Ok(EndpointPut::Stale);
    }
    let sql = "INSERT INTO endpoints (id, name, version, pipeline_id, event_key, enabled, settings, secrets, created_at,
            updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (id) DO UPDATE SET name = $2, version = $3, pipeline_id = $4, event_key = $5, enabled = $6,
            settings = $7, secrets = $8, updated_at = $10";
    let params: [&(dyn ToSql + Sync); 10] = [
        &endpoint.id.0,
        &endpoint.name,
        &endpoint.version,
        &pipeline,
        &event,
        &endpoint.enabled,
        &codec::json(&endpoint.settings),
        &codec::secrets(&endpoint.secrets),
        &endpoint.created_at,
        &endpoint.updated_at,
    ];
    transaction.execute(sql, &params).await?;
    let sql = "DELETE FROM endpoint_uuids WHERE endpoint_id = $1";
    transaction.execute(sql, &[&endpoint.id.0]).await?;
    let sql = "INSERT INTO endpoint_uuids (hash, endpoint_id, position, prefix, not_after)
        VALUES ($1, $2, $3, $4, $5)";
    for (position, uuid) in (0i32..).zip(&endpoint.uuids) {
        let params: [&(dyn ToSql + Sync); 5] = [
            &uuid.hash.as_slice(),
            &endpoint.id.0,
            &position,
            &uuid.prefix,
            &uuid.not_after,
        ];
        transaction.execute(sql, &params).await?;
    }
    Ok(EndpointPut::Done)
}

/// Writes who listens to what, in the transaction that sets the pipeline.
pub(super) async fn put_listeners(
    transaction: &Transaction<'_>,
    pipeline_id: PipelineId,
    listens: &[Listen],
) -> Failable<()> {
    let sql = "DELETE FROM listeners WHERE pipeline_id = $1";
    transaction.execute(sql, &[&pipeline_id.0]).await?;
    let sql = "INSERT INTO listeners (event_key, pipeline_id, filters) VALUES ($1, $2, $3)";
    for (event, filters) in codec::filters_by_event(listens) {
        transaction
            .execute(sql, &[&event, &pipeline_id.0, &codec::json(&filters)])
            .await?;
    }
    Ok(())
}

impl PostgresStore {
    async fn one_endpoint(&self, rest: &str, key: &(dyn ToSql + Sync)) -> Result<Option<Endpoint>> {
        let client = self.client().await?;
        let sql = format!("{ENDPOINT} {rest}");
        let statement = client.prepare_cached(&sql).await.map_err(sql_error)?;
        let row = client.query_opt(&statement, &[key]).await;
        let row = row.map_err(sql_error)?;
        Ok(row.as_ref().map(rows::endpoint).transpose()?)
    }
}

#[async_trait]
impl HookStore for PostgresStore {
    async fn put_endpoint(&self, endpoint: Endpoint) -> Result<EndpointPut> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let outcome = put(&transaction, &endpoint).await?;
        transaction.commit().await.map_err(sql_error)?;
        Ok(outcome)
    }

    async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>> {
        self.one_endpoint("WHERE e.id = $1", &id.0).await
    }

    async fn endpoint_by_name(&self, name: &str) -> Result<Option<Endpoint>> {
        self.one_endpoint("WHERE e.name = $1", &name).await
    }

    async fn endpoint_by_uuid(&self, hash: [u8; 32]) -> Result<Option<Endpoint>> {
        let rest = "JOIN endpoint_uuids u ON u.endpoint_id = e.id
            WHERE u.hash = $1 AND (u.not_after IS NULL OR u.not_after > clock_timestamp())";
        self.one_endpoint(rest, &hash.as_slice()).await
    }

    async fn endpoints(&self, after: Option<&str>, limit: i64) -> Result<Vec<Endpoint>> {
        let client = self.client().await?;
        let sql = format!("{ENDPOINT} WHERE e.name > $1 ORDER BY e.name LIMIT $2");
        let found = client
            .query(&sql, &[&after.unwrap_or_default(), &limit.max(0)])
            .await
            .map_err(sql_error)?;
        Ok(rows::all(&found, rows::endpoint)?)
    }

    async fn delete_endpoint(&self, id: EndpointId) -> Result<bool> {
        let client = self.client().await?;
        let sql = "DELETE FROM endpoints WHERE id = $1";
        let gone = client.execute(sql, &[&id.0]).await.map_err(sql_error)?;
        Ok(gone > 0)
    }

    async fn listeners(&self, event_key: &str, limit: i64) -> Result<Vec<Listener>> {
        let client = self.client().await?;
        let sql = "SELECT pipeline_id, filters FROM listeners WHERE event_key = $1 ORDER BY pipeline_id LIMIT $2";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query(&statement, &[&event_key, &limit])
            .await
            .map_err(sql_error)?;
        Ok(rows::all(&found, rows::listener)?)
    }

    async fn store_message(
        &self,
        receipt: Receipt,
        targets: Vec<MessageTarget>,
        key: Option<DedupKey>,
        patience: Duration,
    ) -> Result<MessageStored> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let stored =
            messages::store(&transaction, &receipt, targets, key.as_ref(), patience).await?;
        if matches!(stored, MessageStored::Done(_)) {
            transaction.commit().await.map_err(sql_error)?;
        }
        Ok(stored)
    }

    async fn message_targets(&self, receipt_id: ReceiptId) -> Result<Vec<MessageTarget>> {
        let client = self.client().await?;
        Ok(messages::of(&**client, receipt_id).await?)
    }

    async fn due_targets(&self, limit: i64, patience: Duration) -> Result<Vec<MessageTarget>> {
        let client = self.client().await?;
        Ok(messages::due(&client, limit, patience).await?)
    }

    async fn settle_target(&self, outcome: TargetOutcome) -> Result<()> {
        let client = self.client().await?;
        Ok(messages::settle(&client, &outcome).await?)
    }

    async fn outcome(&self, run_id: RunId) -> Result<Option<Outcome>> {
        let client = self.client().await?;
        let sql = "SELECT outcome FROM runs WHERE id = $1";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let row = client.query_opt(&statement, &[&run_id.0]).await;
        let word: Option<String> = match row.map_err(sql_error)? {
            Some(row) => row.try_get(0).map_err(sql_error)?,
            None => None,
        };
        Ok(word.and_then(|word| Outcome::parse(&word)))
    }

    async fn trigger(&self, run_id: RunId) -> Result<Option<Trigger>> {
        let client = self.client().await?;
        let sql = "SELECT trigger_data FROM runs WHERE id = $1";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let row = client.query_opt(&statement, &[&run_id.0]).await;
        let Some(row) = row.map_err(sql_error)? else {
            return Ok(None);
        };
        let text: &str = row.try_get(0).map_err(sql_error)?;
        let trigger = codec::from_json("runs.trigger_data", text);
        Ok(Some(trigger.map_err(Failure::from)?))
    }

    async fn any_anonymous(&self, jobs: &[JobId]) -> Result<bool> {
        let client = self.client().await?;
        let sql = "SELECT r.trigger_data FROM runs r WHERE r.id IN (SELECT run_id FROM jobs WHERE id = ANY ($1))";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let jobs: Vec<_> = jobs.iter().map(|job| job.0).collect();
        let rows = client.query(&statement, &[&jobs]).await;
        for row in rows.map_err(sql_error)? {
            let text: &str = row.try_get(0).map_err(sql_error)?;
            let trigger = codec::from_json::<Trigger>("runs.trigger_data", text);
            if trigger.map_err(Failure::from)?.anonymous {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn answered(&self, receipt_id: ReceiptId, answer: Answer) {
        self.with_queues(|queues| queues.answers.put(receipt_id, answer));
    }

    async fn forget_keys(&self, kept: Duration, limit: i64) -> Result<u64> {
        let client = self.client().await?;
        Ok(dedup::forget(&client, kept, limit).await?)
    }
}
