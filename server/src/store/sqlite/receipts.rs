//! Webhook requests as they came.

use super::SqliteStore;
use super::rows::{self, Columns, RECEIPT, header_text, key, micros};
use crate::model::receipt::Receipt;
use crate::model::{AgentId, JobId, ReceiptId};
use crate::store::{ReceiptStore, Result};
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
    let rest = "JOIN jobs j ON j.run_id = c.run_id WHERE j.id = ?1 AND j.attempt = ?2 \
         AND j.agent_id = ?3 AND j.lease_until IS NOT NULL";
    let given = params![job_id.0.as_bytes(), attempt, agent_id.0.as_bytes()];
    select(connection, rest, given)
}

/// Stores a receipt, once.
pub(super) fn insert(connection: &Connection, receipt: &Receipt) -> Result<()> {
    let sql = "INSERT INTO receipts (id, pipeline_id, run_id, method, url, headers, body, \
         body_bytes, body_sha256, remote_addr, provider, event_type, verdict, reason, received_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) \
         ON CONFLICT (id) DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![
        receipt.id.0.as_bytes(),
        receipt.pipeline_id.0.as_bytes(),
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
    ])?;
    Ok(())
}

/// A pipeline that was deleted meanwhile keeps no refusals.
fn record_refusal(connection: &Connection, receipt: &Receipt) -> Result<()> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM pipelines WHERE id = ?1")?;
    if statement.exists([receipt.pipeline_id.0.as_bytes()])? {
        insert(connection, receipt)?;
    }
    Ok(())
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
