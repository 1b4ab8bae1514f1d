//! Webhook requests as they came.

use super::SqliteStore;
use super::rows::{self, Columns, RECEIPT, header_text, json, key, micros};
use crate::model::receipt::Receipt;
use crate::model::{AgentId, JobId, ReceiptId};
use crate::store::{ReceiptStore, Result, codec};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Params, params};

fn select(connection: &Connection, rest: &str, given: impl Params) -> Result<Option<Receipt>> {
    let sql = format!("SELECT {RECEIPT} FROM receipts c {rest}");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row(given, |row| rows::receipt(&mut Columns::of(row)));
    Ok(found.optional()?)
}

/// One receipt.
pub(super) fn by_id(connection: &Connection, id: ReceiptId) -> Result<Option<Receipt>> {
    select(connection, "WHERE c.id = ?1", [id.0.as_bytes()])
}

/// The receipt of the run whose job this attempt holds.
pub(super) fn held(
    connection: &Connection,
    job_id: JobId,
    attempt: i32,
    agent_id: AgentId,
) -> Result<Option<Receipt>> {
    let rest = "JOIN runs r ON r.receipt_id = c.id JOIN jobs j ON j.run_id = r.id WHERE j.id = ?1 AND j.attempt = ?2 \
         AND j.agent_id = ?3 AND j.lease_until IS NOT NULL";
    let given = params![job_id.0.as_bytes(), attempt, agent_id.0.as_bytes()];
    select(connection, rest, given)
}

/// Stores a receipt, once; of one that is done again with the first one.
pub(super) fn insert(
    connection: &Connection,
    receipt: &Receipt,
    redelivery_of: Option<ReceiptId>,
) -> Result<()> {
    let redelivery_of = redelivery_of.or(receipt.redelivery_of);
    let sql = "INSERT INTO receipts (id, pipeline_id, run_id, method, url, headers, body, \
         body_bytes, body_sha256, remote_addr, provider, event_type, verdict, reason, received_at, \
         endpoint_id, event_key, verified, secret_id, delivery_id, attempt, reply_status, reply_summary, \
         duration_us, redelivery_of, replay_of, files, body_place, body_id, form) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
         ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30) \
         ON CONFLICT (id) DO NOTHING";
    let answer = receipt.answer.as_ref();
    connection.prepare_cached(sql)?.execute(params![
        receipt.id.0.as_bytes(),
        key(receipt.pipeline_id.map(|pipeline| pipeline.0)),
        key(receipt.run_id.map(|run| run.0)),
        receipt.method,
        receipt.url,
        header_text(&receipt.headers)?,
        receipt.body.as_ref(),
        receipt.body_bytes,
        receipt.body_sha256,
        receipt.remote_addr,
        receipt.provider,
        receipt.event_type,
        receipt.verdict.as_str(),
        receipt.reason,
        micros(receipt.received_at),
        key(receipt.endpoint_id.map(|endpoint| endpoint.0)),
        receipt.event_key,
        receipt.verified,
        receipt.secret_id,
        receipt.delivery_id,
        receipt.attempt,
        answer.map(|answer| answer.status),
        answer.map_or("", |answer| answer.summary.as_str()),
        answer.map(|answer| codec::micros_of(answer.duration)),
        key(redelivery_of.map(|first| first.0)),
        key(receipt.replay_of.map(|earlier| earlier.0)),
        json(&receipt.files)?,
        receipt.body_place.as_str(),
        key(receipt.body_place.pages().map(|body| body.0)),
        json(&receipt.form)?,
    ])?;
    Ok(())
}

/// A pipeline that was deleted meanwhile keeps no refusals.
fn record_refusal(connection: &Connection, receipt: &Receipt) -> Result<()> {
    if let Some(pipeline) = receipt.pipeline_id {
        let mut statement = connection.prepare_cached("SELECT 1 FROM pipelines WHERE id = ?1")?;
        if !statement.exists([pipeline.0.as_bytes()])? {
            return Ok(());
        }
    }
    insert(connection, receipt, None)
}

#[async_trait]
impl ReceiptStore for SqliteStore {
    async fn record_refusal(&self, receipt: Receipt) -> Result<()> {
        self.writer
            .call(move |connection, _| record_refusal(connection, &receipt))
            .await
    }

    async fn receipt(&self, id: ReceiptId) -> Result<Option<Receipt>> {
        self.readers
            .read(move |connection| by_id(connection, id))
            .await
    }
}
