//! Stored webhook requests.

use super::super::{ReceiptStore, Result, codec};
use super::rows::{self, execute, first, id, micros};
use super::{Failable, SqliteStore};
use crate::model::ReceiptId;
use crate::model::receipt::Receipt;
use async_trait::async_trait;
use rusqlite::{Connection, params};

pub(super) fn insert(connection: &Connection, receipt: &Receipt) -> Failable<()> {
    execute(
        connection,
        "INSERT INTO receipts (id, pipeline_id, method, url, headers, body, body_bytes, body_sha256, remote_addr,
         provider, event_type, verdict, reason, received_at, run_id)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        params![
            id(receipt.id),
            id(receipt.pipeline_id),
            receipt.method,
            receipt.url,
            codec::request_headers(&receipt.headers),
            receipt.body.as_ref(),
            receipt.body_bytes,
            receipt.body_sha256,
            receipt.remote_addr,
            receipt.provider,
            receipt.event_type,
            receipt.verdict.as_str(),
            receipt.reason,
            micros(receipt.received_at),
            receipt.run_id.map(id),
        ],
    )?;
    Ok(())
}

pub(super) fn load(connection: &Connection, wanted: ReceiptId) -> Failable<Option<Receipt>> {
    first(
        connection,
        "SELECT * FROM receipts WHERE id = ?",
        [id(wanted)],
        rows::receipt,
    )
}

#[async_trait]
impl ReceiptStore for SqliteStore {
    async fn record_refusal(&self, receipt: Receipt) -> Result<()> {
        self.writer
            .write(move |connection| insert(connection, &receipt), |()| ())
            .await
    }

    async fn receipt(&self, id: ReceiptId) -> Result<Option<Receipt>> {
        self.read(move |connection| load(connection, id)).await
    }
}
