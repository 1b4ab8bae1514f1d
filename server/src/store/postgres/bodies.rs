//! Large request bodies.

use super::super::{BodyStore, Result};
use super::{PostgresStore, millis, sql_error};
use crate::model::body::BodyId;
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;

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

    async fn forget_bodies(&self, unclaimed: Duration, limit: i64) -> Result<u64> {
        let client = self.client().await?;
        let sql = "DELETE FROM bodies WHERE id IN (SELECT id FROM bodies b
            WHERE b.created_at < clock_timestamp() - interval '1 millisecond' * $1::bigint
            AND NOT EXISTS (SELECT 1 FROM receipts c WHERE c.body_id = b.id)
            ORDER BY b.created_at LIMIT $2)";
        let given = millis(unclaimed);
        let forgotten = client.execute(sql, &[&given, &limit]).await;
        forgotten.map_err(sql_error)
    }
}
