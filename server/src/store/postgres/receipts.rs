//! Stored webhook requests.

use super::super::{ReceiptStore, Result, codec};
use super::{PostgresStore, rows, sql_error};
use crate::model::ReceiptId;
use crate::model::receipt::Receipt;
use async_trait::async_trait;
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Receipts as an array for each column, in the order of the table.
#[derive(Default)]
pub(super) struct ReceiptColumns<'a> {
    id: Vec<Uuid>,
    pipeline_id: Vec<Uuid>,
    method: Vec<&'a str>,
    url: Vec<&'a str>,
    headers: Vec<String>,
    body: Vec<&'a [u8]>,
    body_bytes: Vec<i64>,
    body_sha256: Vec<&'a [u8]>,
    remote_addr: Vec<&'a str>,
    provider: Vec<&'a str>,
    event_type: Vec<&'a str>,
    verdict: Vec<&'static str>,
    reason: Vec<&'a str>,
    received_at: Vec<OffsetDateTime>,
    run_id: Vec<Option<Uuid>>,
}

impl<'a> ReceiptColumns<'a> {
    pub(super) fn push(&mut self, receipt: &'a Receipt) {
        self.id.push(receipt.id.0);
        self.pipeline_id.push(receipt.pipeline_id.0);
        self.method.push(&receipt.method);
        self.url.push(&receipt.url);
        self.headers.push(codec::request_headers(&receipt.headers));
        self.body.push(&receipt.body);
        self.body_bytes.push(receipt.body_bytes);
        self.body_sha256.push(&receipt.body_sha256);
        self.remote_addr.push(&receipt.remote_addr);
        self.provider.push(&receipt.provider);
        self.event_type.push(&receipt.event_type);
        self.verdict.push(receipt.verdict.as_str());
        self.reason.push(&receipt.reason);
        self.received_at.push(receipt.received_at);
        self.run_id.push(receipt.run_id.map(|run| run.0));
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 15] {
        [
            &self.id,
            &self.pipeline_id,
            &self.method,
            &self.url,
            &self.headers,
            &self.body,
            &self.body_bytes,
            &self.body_sha256,
            &self.remote_addr,
            &self.provider,
            &self.event_type,
            &self.verdict,
            &self.reason,
            &self.received_at,
            &self.run_id,
        ]
    }
}

#[async_trait]
impl ReceiptStore for PostgresStore {
    async fn record_refusal(&self, receipt: Receipt) -> Result<()> {
        let mut columns = ReceiptColumns::default();
        columns.push(&receipt);
        let client = self.client().await?;
        let sql = "INSERT INTO receipts (id, pipeline_id, method, url, headers, body, body_bytes, body_sha256,
                remote_addr, provider, event_type, verdict, reason, received_at, run_id)
            SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[],
                $8::bytea[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[],
                $15::uuid[]) ON CONFLICT (id) DO NOTHING";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        client
            .execute(&statement, &columns.params())
            .await
            .map_err(sql_error)?;
        Ok(())
    }

    async fn receipt(&self, id: ReceiptId) -> Result<Option<Receipt>> {
        let client = self.client().await?;
        let statement = client
            .prepare_cached("SELECT * FROM receipts WHERE id = $1")
            .await
            .map_err(sql_error)?;
        let row = client
            .query_opt(&statement, &[&id.0])
            .await
            .map_err(sql_error)?;
        Ok(row.as_ref().map(rows::receipt).transpose()?)
    }
}
