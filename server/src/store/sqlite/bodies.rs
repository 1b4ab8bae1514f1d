//! Large request bodies.

use super::SqliteStore;
use super::rows::{micros, now};
use crate::model::body::BodyId;
use crate::model::receipt::BodyPlace;
use crate::store::{BodyStore, Result};
use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::time::Duration;

fn add(connection: &Connection, body: BodyId, seq: i64, data: &[u8]) -> Result<()> {
    if seq == 1 {
        let sql = "INSERT INTO bodies (id, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        connection
            .prepare_cached(sql)?
            .execute(params![body.0.as_bytes(), micros(now())])?;
    }
    let sql = "INSERT INTO receipt_pages (body_id, seq, data) VALUES (?1, ?2, ?3) \
         ON CONFLICT (body_id, seq) DO NOTHING";
    connection
        .prepare_cached(sql)?
        .execute(params![body.0.as_bytes(), seq, data])?;
    Ok(())
}

/// Whether a body that a receipt is to name is there.
pub(super) fn is_there(connection: &Connection, place: BodyPlace) -> Result<bool> {
    let Some(body) = place.pages() else {
        return Ok(true);
    };
    let mut statement = connection.prepare_cached("SELECT 1 FROM bodies WHERE id = ?1")?;
    Ok(statement.exists([body.0.as_bytes()])?)
}

fn drop_unnamed(connection: &Connection, body: BodyId) -> Result<bool> {
    let sql = "DELETE FROM bodies WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM receipts WHERE body_id = ?1)";
    let dropped = connection
        .prepare_cached(sql)?
        .execute([body.0.as_bytes()])?;
    Ok(dropped > 0)
}

fn forget(connection: &Connection, unclaimed: Duration, limit: i64) -> Result<u64> {
    let sql = "DELETE FROM bodies WHERE id IN (SELECT id FROM bodies b WHERE b.created_at < ?1 \
         AND NOT EXISTS (SELECT 1 FROM receipts c WHERE c.body_id = b.id) ORDER BY b.created_at LIMIT ?2)";
    let given = params![micros(now() - unclaimed), limit];
    Ok(connection.prepare_cached(sql)?.execute(given)? as u64)
}

#[async_trait]
impl BodyStore for SqliteStore {
    async fn add_body_page(&self, body: BodyId, seq: i64, data: Bytes) -> Result<()> {
        self.writer
            .call(move |connection, _| add(connection, body, seq, &data))
            .await
    }

    async fn body_page(&self, body: BodyId, seq: i64) -> Result<Option<Bytes>> {
        self.readers
            .read(move |connection| {
                let sql = "SELECT data FROM receipt_pages WHERE body_id = ?1 AND seq = ?2";
                let mut statement = connection.prepare_cached(sql)?;
                let given = params![body.0.as_bytes(), seq];
                let data = statement.query_row(given, |row| row.get::<_, Vec<u8>>(0));
                Ok(data.optional()?.map(Bytes::from))
            })
            .await
    }

    async fn drop_body(&self, body: BodyId) -> Result<bool> {
        self.writer
            .call(move |connection, _| drop_unnamed(connection, body))
            .await
    }

    async fn forget_bodies(&self, unclaimed: Duration, limit: i64) -> Result<u64> {
        self.writer
            .call(move |connection, _| forget(connection, unclaimed, limit))
            .await
    }
}
