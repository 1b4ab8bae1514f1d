//! Receipts for operators.

use super::SqliteStore;
use super::rows::{self, Columns, RECEIPT, micros, now};
use crate::model::receipt::Receipt;
use crate::model::{ReceiptId, RunId};
use crate::store::{MAX_RECEIPTS, ReceiptFilter, ReceiptLog, Result};
use async_trait::async_trait;
use rusqlite::{Connection, ToSql, params, params_from_iter};
use std::time::Duration;

/// A run that a receipt `c` started, or is to start, is not over.
const IN_USE: &str = "(EXISTS (SELECT 1 FROM runs r WHERE r.id = c.run_id AND r.outcome IS NULL) \
    OR EXISTS (SELECT 1 FROM receipt_targets t LEFT JOIN runs r ON r.id = t.run_id WHERE t.receipt_id = c.id \
        AND (t.state = 'pending' OR (r.id IS NOT NULL AND r.outcome IS NULL))))";

/// The conditions of a filter with their parameters.
struct Where {
    sql: String,
    params: Vec<Box<dyn ToSql>>,
}

impl Where {
    fn of(filter: ReceiptFilter) -> Self {
        let mut all = Self {
            sql: "1".to_owned(),
            params: Vec::new(),
        };
        let bytes = |id: uuid::Uuid| id.as_bytes().to_vec();
        all.and(
            "c.pipeline_id = ?",
            filter.pipeline_id.map(|id| bytes(id.0)),
        );
        all.and(
            "c.endpoint_id = ?",
            filter.endpoint_id.map(|id| bytes(id.0)),
        );
        all.and("c.event_key = ?", filter.event_key);
        all.and(
            "c.verdict = ?",
            filter.verdict.map(|verdict| verdict.as_str()),
        );
        all.and("c.provider = ?", filter.provider);
        all.and("c.event_type = ?", filter.event_type);
        all.and("c.delivery_id = ?", filter.delivery_id);
        all.and(
            "(instr(c.reason, ?) > 0 OR instr(c.url, ?) > 0)",
            filter.text,
        );
        all.and("c.received_at >= ?", filter.from.map(micros));
        all.and("c.received_at < ?", filter.until.map(micros));
        all.and("c.replay_of = ?", filter.replay_of.map(|id| bytes(id.0)));
        if filter.without_replays {
            all.sql.push_str(" AND c.replay_of IS NULL");
        }
        let behind = match filter.oldest_first {
            true => "c.id > ?",
            false => "c.id < ?",
        };
        all.and(behind, filter.after.map(|id| bytes(id.0)));
        all
    }

    /// Each `?` stands for the value.
    fn and<T: ToSql + 'static>(&mut self, condition: &str, value: Option<T>) {
        let Some(value) = value else { return };
        self.params.push(Box::new(value));
        let numbered = condition.replace('?', &format!("?{}", self.params.len()));
        self.sql.push_str(" AND ");
        self.sql.push_str(&numbered);
    }
}

fn page(connection: &Connection, filter: ReceiptFilter) -> Result<Vec<Receipt>> {
    let columns = RECEIPT.replacen("c.body,", "x'' AS body,", 1);
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
    let mut statement = connection.prepare(&sql)?;
    let mut found = statement.query(params_from_iter(&all.params))?;
    let mut receipts = Vec::new();
    while let Some(row) = found.next()? {
        receipts.push(rows::receipt(&mut Columns::of(row))?);
    }
    Ok(receipts)
}

fn count(connection: &Connection, filter: ReceiptFilter, at_most: i64) -> Result<i64> {
    let all = Where::of(filter);
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM receipts c WHERE {} LIMIT {at_most})",
        all.sql
    );
    let mut statement = connection.prepare(&sql)?;
    Ok(statement.query_row(params_from_iter(&all.params), |row| row.get(0))?)
}

type Replay = (ReceiptId, ReceiptId, Option<RunId>);

fn replayed(connection: &Connection, of: &[ReceiptId]) -> Result<Vec<Replay>> {
    let sql =
        "SELECT c.replay_of, c.id, c.run_id FROM receipts c WHERE c.replay_of = ?1 ORDER BY c.id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut all = Vec::new();
    for id in of {
        let mut found = statement.query([id.0.as_bytes()])?;
        while let Some(row) = found.next()? {
            let mut columns = Columns::of(row);
            let replay = (
                columns.id(ReceiptId)?,
                columns.id(ReceiptId)?,
                columns.id_opt(RunId)?,
            );
            all.push(replay);
        }
    }
    Ok(all)
}

fn forget(connection: &Connection, kept: Duration, limit: i64) -> Result<u64> {
    let sql = format!(
        "DELETE FROM receipts WHERE id IN (SELECT c.id FROM receipts c WHERE c.received_at < ?1 \
         AND NOT {IN_USE} ORDER BY c.id LIMIT ?2)"
    );
    let given = params![micros(now() - kept), limit];
    Ok(connection.prepare_cached(&sql)?.execute(given)? as u64)
}

fn forget_bodies(connection: &Connection, max_bytes: i64, limit: i64) -> Result<u64> {
    let sql = format!(
        "WITH kept AS (SELECT id, sum(body_bytes) OVER (ORDER BY id DESC) AS total FROM receipts \
         WHERE body_place <> 'none' AND body_bytes > 0) \
         UPDATE receipts SET body = x'', body_place = 'none', body_id = NULL, form = '[]' \
         WHERE id IN (SELECT c.id FROM kept k JOIN receipts c ON c.id = k.id WHERE k.total > ?1 \
         AND NOT {IN_USE} ORDER BY c.id LIMIT ?2)"
    );
    Ok(connection
        .prepare_cached(&sql)?
        .execute([max_bytes, limit])? as u64)
}

#[async_trait]
impl ReceiptLog for SqliteStore {
    async fn receipts(&self, filter: ReceiptFilter) -> Result<Vec<Receipt>> {
        self.readers
            .read(move |connection| page(connection, filter))
            .await
    }

    async fn count_receipts(&self, filter: ReceiptFilter, at_most: i64) -> Result<i64> {
        self.readers
            .read(move |connection| count(connection, filter, at_most))
            .await
    }

    async fn replayed(&self, of: &[ReceiptId]) -> Result<Vec<Replay>> {
        let of = of.to_vec();
        self.readers
            .read(move |connection| replayed(connection, &of))
            .await
    }

    async fn forget_receipts(&self, kept: Duration, limit: i64) -> Result<u64> {
        self.writer
            .call(move |connection, _| forget(connection, kept, limit))
            .await
    }

    async fn forget_receipt_bodies(&self, max_bytes: i64, limit: i64) -> Result<u64> {
        self.writer
            .call(move |connection, _| forget_bodies(connection, max_bytes, limit))
            .await
    }
}
