//! Receipts for operators.

use super::super::{MAX_RECEIPTS, ReceiptFilter, ReceiptLog, Result};
use super::receipts::COLUMNS;
use super::{Failable, PostgresStore, millis, rows, sql_error};
use crate::model::receipt::Receipt;
use crate::model::{ReceiptId, RunId};
use async_trait::async_trait;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// A run that a receipt `c` started, or is to start, is not over.
const IN_USE: &str = "(EXISTS (SELECT 1 FROM runs r WHERE r.id = c.run_id AND r.outcome IS NULL)
    OR EXISTS (SELECT 1 FROM receipt_targets t LEFT JOIN runs r ON r.id = t.run_id WHERE t.receipt_id = c.id
        AND (t.state = 'pending' OR (r.id IS NOT NULL AND r.outcome IS NULL))))";

type Param = Box<dyn ToSql + Sync + Send>;

/// The conditions of a filter with their parameters.
struct Where {
    sql: String,
    params: Vec<Param>,
}

impl Where {
    fn of(filter: ReceiptFilter) -> Self {
        let mut all = Self {
            sql: "true".to_owned(),
            params: Vec::new(),
        };
        all.and("c.pipeline_id = $", filter.pipeline_id.map(|id| id.0));
        all.and("c.endpoint_id = $", filter.endpoint_id.map(|id| id.0));
        all.and("c.event_key = $", filter.event_key);
        all.and(
            "c.verdict = $",
            filter.verdict.map(|verdict| verdict.as_str()),
        );
        all.and("c.provider = $", filter.provider);
        all.and("c.event_type = $", filter.event_type);
        all.and("c.delivery_id = $", filter.delivery_id);
        all.and(
            "(strpos(c.reason, $) > 0 OR strpos(c.url, $) > 0)",
            filter.text,
        );
        all.and("c.received_at >= $", filter.from);
        all.and("c.received_at < $", filter.until);
        all.and("c.replay_of = $", filter.replay_of.map(|id| id.0));
        if filter.without_replays {
            all.sql.push_str(" AND c.replay_of IS NULL");
        }
        let behind = match filter.oldest_first {
            true => "c.id > $",
            false => "c.id < $",
        };
        all.and(behind, filter.after.map(|id| id.0));
        all
    }

    /// Each `$` stands for the value.
    fn and<T: ToSql + Sync + Send + 'static>(&mut self, condition: &str, value: Option<T>) {
        let Some(value) = value else { return };
        self.params.push(Box::new(value));
        let numbered = condition.replace('$', &format!("${}", self.params.len()));
        self.sql.push_str(" AND ");
        self.sql.push_str(&numbered);
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        let params = self.params.iter();
        params
            .map(|param| &**param as &(dyn ToSql + Sync))
            .collect()
    }
}

#[async_trait]
impl ReceiptLog for PostgresStore {
    async fn receipts(&self, filter: ReceiptFilter) -> Result<Vec<Receipt>> {
        let columns = COLUMNS.replacen(" body,", " ''::bytea AS body,", 1);
        let order = match filter.oldest_first {
            true => "ASC",
            false => "DESC",
        };
        let limit = filter.limit.clamp(1, MAX_RECEIPTS);
        let all = Where::of(filter);
        let sql = format!(
            "SELECT {columns} FROM receipts c WHERE {} ORDER BY c.id {order} LIMIT {limit}",
            all.sql
        );
        let client = self.client().await?;
        let found = client.query(&sql, &all.params()).await;
        let found = found.map_err(sql_error)?;
        Ok(found.iter().map(rows::receipt).collect::<Failable<_>>()?)
    }

    async fn count_receipts(&self, filter: ReceiptFilter, at_most: i64) -> Result<i64> {
        let all = Where::of(filter);
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM receipts c WHERE {} LIMIT {at_most}) found",
            all.sql
        );
        let client = self.client().await?;
        let row = client.query_one(&sql, &all.params()).await;
        Ok(row.map_err(sql_error)?.get(0))
    }

    async fn replayed(
        &self,
        of: &[ReceiptId],
    ) -> Result<Vec<(ReceiptId, ReceiptId, Option<RunId>)>> {
        let of: Vec<Uuid> = of.iter().map(|id| id.0).collect();
        let sql = "SELECT c.replay_of, c.id, c.run_id FROM receipts c WHERE c.replay_of = ANY ($1) ORDER BY c.id";
        let client = self.client().await?;
        let found = client.query(sql, &[&of]).await.map_err(sql_error)?;
        let read = |row: &tokio_postgres::Row| {
            let run: Option<Uuid> = row.get(2);
            (ReceiptId(row.get(0)), ReceiptId(row.get(1)), run.map(RunId))
        };
        Ok(found.iter().map(read).collect())
    }

    async fn forget_receipts(&self, kept: Duration, limit: i64) -> Result<u64> {
        let client = self.client().await?;
        let sql = format!(
            "DELETE FROM receipts WHERE id IN (SELECT c.id FROM receipts c
                WHERE c.received_at < clock_timestamp() - interval '1 millisecond' * $1::bigint AND NOT {IN_USE}
                ORDER BY c.id LIMIT $2)"
        );
        let kept = millis(kept);
        let forgotten = client.execute(&sql, &[&kept, &limit]).await;
        forgotten.map_err(sql_error)
    }

    async fn forget_receipt_bodies(&self, max_bytes: i64, limit: i64) -> Result<u64> {
        let client = self.client().await?;
        let sql = format!(
            "WITH kept AS (
                SELECT id, sum(body_bytes) OVER (ORDER BY id DESC) AS total FROM receipts
                WHERE body_place <> 'none' AND body_bytes > 0
            ) UPDATE receipts SET body = '', body_place = 'none', body_id = NULL, form = '[]'
            WHERE id IN (SELECT c.id FROM kept k JOIN receipts c ON c.id = k.id
                WHERE k.total > $1::bigint AND NOT {IN_USE} ORDER BY c.id LIMIT $2)"
        );
        let forgotten = client.execute(&sql, &[&max_bytes, &limit]).await;
        forgotten.map_err(sql_error)
    }
}
