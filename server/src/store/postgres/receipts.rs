//! Stored webhook requests.

use super::super::{ReceiptStore, Result, codec};
use super::{Failable, PostgresStore, rows, sql_error};
use crate::model::ReceiptId;
use crate::model::receipt::Receipt;
use async_trait::async_trait;
use deadpool_postgres::Transaction;
use std::sync::LazyLock;
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Receipts as an array for each column, in the order of the table.
#[derive(Default)]
pub(super) struct ReceiptColumns<'a> {
    id: Vec<Uuid>,
    pipeline_id: Vec<Option<Uuid>>,
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
    endpoint_id: Vec<Option<Uuid>>,
    event_key: Vec<Option<&'a str>>,
    verified: Vec<bool>,
    secret_id: Vec<Option<&'a str>>,
    delivery_id: Vec<Option<&'a str>>,
    attempt: Vec<Option<i32>>,
    reply_status: Vec<Option<i32>>,
    reply_summary: Vec<&'a str>,
    duration_us: Vec<Option<i64>>,
    redelivery_of: Vec<Option<Uuid>>,
    replay_of: Vec<Option<Uuid>>,
    files: Vec<String>,
    body_place: Vec<&'static str>,
    body_id: Vec<Option<Uuid>>,
    form: Vec<String>,
}

/// The columns of [`ReceiptColumns`], in order.
pub(super) const COLUMNS: &str = "id, pipeline_id, method, url, headers, body, body_bytes, body_sha256, remote_addr,
    provider, event_type, verdict, reason, received_at, run_id, endpoint_id, event_key, verified, secret_id, delivery_id,
    attempt, reply_status, reply_summary, duration_us, redelivery_of, replay_of, files, body_place, body_id, form";
/// How many there are.
pub(super) const WIDTH: usize = 30;
/// The type of each.
const TYPES: [&str; WIDTH] = [
    "uuid",
    "uuid",
    "text",
    "text",
    "text",
    "bytea",
    "bigint",
    "bytea",
    "text",
    "text",
    "text",
    "text",
    "text",
    "timestamptz",
    "uuid",
    "uuid",
    "text",
    "bool",
    "text",
    "text",
    "int",
    "int",
    "text",
    "bigint",
    "uuid",
    "uuid",
    "text",
    "text",
    "uuid",
    "text",
];

/// `unnest($n::uuid[], …)` of the columns, the first of which is parameter `first`.
pub(super) fn unnest(first: usize) -> String {
    let arrays: Vec<String> = (first..)
        .zip(TYPES)
        .map(|(number, kind)| format!("${number}::{kind}[]"))
        .collect();
    format!("unnest({})", arrays.join(", "))
}

impl<'a> ReceiptColumns<'a> {
    pub(super) fn push(&mut self, receipt: &'a Receipt) {
        self.id.push(receipt.id.0);
        self.pipeline_id
            .push(receipt.pipeline_id.map(|pipeline| pipeline.0));
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
        self.endpoint_id.push(receipt.endpoint_id.map(|id| id.0));
        self.event_key.push(receipt.event_key.as_deref());
        self.verified.push(receipt.verified);
        self.secret_id.push(receipt.secret_id.as_deref());
        self.delivery_id.push(receipt.delivery_id.as_deref());
        self.attempt.push(receipt.attempt);
        let answer = receipt.answer.as_ref();
        self.reply_status
            .push(answer.map(|answer| i32::from(answer.status)));
        self.reply_summary
            .push(answer.map_or("", |answer| &answer.summary));
        self.duration_us
            .push(answer.map(|answer| codec::micros_of(answer.duration)));
        self.redelivery_of
            .push(receipt.redelivery_of.map(|id| id.0));
        self.replay_of.push(receipt.replay_of.map(|id| id.0));
        self.files.push(codec::json(&receipt.files));
        self.body_place.push(receipt.body_place.as_str());
        self.body_id.push(receipt.body_place.pages().map(|id| id.0));
        self.form.push(codec::json(&receipt.form));
    }

    /// The last one is done again: the first one was this.
    pub(super) fn repeats(&mut self, first: ReceiptId) {
        if let Some(last) = self.redelivery_of.last_mut() {
            *last = Some(first.0);
        }
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); WIDTH] {
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
            &self.endpoint_id,
            &self.event_key,
            &self.verified,
            &self.secret_id,
            &self.delivery_id,
            &self.attempt,
            &self.reply_status,
            &self.reply_summary,
            &self.duration_us,
            &self.redelivery_of,
            &self.replay_of,
            &self.files,
            &self.body_place,
            &self.body_id,
            &self.form,
        ]
    }
}

/// Stores receipts, each once.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO receipts ({COLUMNS}) SELECT * FROM {} ON CONFLICT (id) DO NOTHING",
        unnest(1)
    )
});

/// Stores a receipt in a transaction; of one that is done again with the first one.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    receipt: &Receipt,
    redelivery_of: Option<ReceiptId>,
) -> Failable<()> {
    let statement = transaction.prepare_cached(&INSERT).await?;
    let mut columns = ReceiptColumns::default();
    columns.push(receipt);
    if let Some(first) = redelivery_of {
        columns.repeats(first);
    }
    transaction.execute(&statement, &columns.params()).await?;
    Ok(())
}

#[async_trait]
impl ReceiptStore for PostgresStore {
    async fn record_refusal(&self, receipt: Receipt) -> Result<()> {
        let client = self.client().await?;
        let statement = client.prepare_cached(&INSERT).await.map_err(sql_error)?;
        let mut columns = ReceiptColumns::default();
        columns.push(&receipt);
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
