//! Large request bodies.

use super::super::{BodyStore, Result};
use super::{PostgresStore, millis, sql_error};
use crate::model::body::BodyId;
use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::Object;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

#[async_trait]
impl BodyStore for PostgresStore {
    async fn add_body_page(&self, body: BodyId, seq: i64, data: Bytes) -> Result<()> {
        let client = self.client().await?;
        let sql = "WITH begun AS (
                INSERT INTO bodies (id, created_at) SELECT $1::uuid, clock_timestamp() WHERE $2::bigint = 1
                ON CONFLICT (id) DO NOTHING
            ) INSERT INTO receipt_pages (body_id, seq, data) VALUES ($1::uuid, $2::bigint, $3::bytea)
            ON CONFLICT (body_id, seq) DO NOTHING";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        client
            .execute(&statement, &[&body.0, &seq, &data.as_ref()])
            .await
            .map_err(sql_error)?;
        Ok(())
    }

    async fn body_page(&self, body: BodyId, seq: i64) -> Result<Option<Bytes>> {
        let client = self.client().await?;
        let sql = "SELECT data FROM receipt_pages WHERE body_id = $1 AND seq = $2";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query_opt(&statement, &[&body.0, &seq])
            .await
            .map_err(sql_error)?;
        Ok(found.map(|row| Bytes::from(row.get::<_, Vec<u8>>(0))))
    }

    async fn drop_body(&self, body: BodyId) -> Result<bool> {
        let mut client = self.client().await?;
        let sql = "SELECT id FROM bodies WHERE id = $1 FOR UPDATE SKIP LOCKED";
        let gone = forget(&mut client, sql, &[&body.0]).await;
        Ok(gone.map_err(sql_error)? > 0)
    }

    async fn forget_bodies(&self, unclaimed: Duration, limit: i64) -> Result<u64> {
        let mut client = self.client().await?;
        let sql = "SELECT id FROM bodies b
            WHERE b.created_at < clock_timestamp() - interval '1 millisecond' * $1::bigint
            AND NOT EXISTS (SELECT 1 FROM receipts c WHERE c.body_id = b.id)
            ORDER BY b.created_at LIMIT $2 FOR UPDATE SKIP LOCKED";
        let given = millis(unclaimed);
        let forgotten = forget(&mut client, sql, &[&given, &limit]).await;
        forgotten.map_err(sql_error)
    }
}

/// Deletes those of the locked bodies that no receipt names. Only a second statement sees a receipt that was stored while
/// the first one was looking; later ones wait for the lock and find the body gone.
async fn forget(
    client: &mut Object,
    lock: &str,
    given: &[&(dyn ToSql + Sync)],
) -> std::result::Result<u64, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let locked = transaction.query(lock, given).await?;
    let locked: Vec<Uuid> = locked.iter().map(|row| row.get(0)).collect();
    if locked.is_empty() {
        return Ok(0);
    }
    let sql = "DELETE FROM bodies b WHERE b.id = ANY ($1)
        AND NOT EXISTS (SELECT 1 FROM receipts c WHERE c.body_id = b.id)";
    let forgotten = transaction.execute(sql, &[&locked]).await?;
    transaction.commit().await?;
    Ok(forgotten)
}
