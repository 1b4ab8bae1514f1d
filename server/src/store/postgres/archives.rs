//! Archives of one-off runs. Whoever begins or finishes one holds the lock of its run's archives.

use super::super::Result;
use super::super::archives::{Added, ArchiveStore, Begun};
use super::{Failable, PostgresStore, millis, sql_error};
use crate::model::RunId;
use crate::model::archive::{
    Archive, ArchiveKey, Direction, MAX_ARCHIVE_BYTES, MAX_ARCHIVES, MAX_KEPT_BYTES, UploadId,
    Writer,
};
use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::Transaction;
use std::time::Duration;
use tokio_postgres::Row;

/// Whether it may write for this run; until the end of the transaction nobody else begins or finishes an archive of the
/// run, and the attempt is not taken away.
async fn may_write(transaction: &Transaction<'_>, run_id: RunId, writer: Writer) -> Failable<bool> {
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('archives ' || $1::uuid::text, 0))";
    transaction.execute(sql, &[&run_id.0]).await?;
    match writer {
        Writer::User => {
            let sql = "SELECT 1 FROM runs WHERE id = $1";
            Ok(transaction.query_opt(sql, &[&run_id.0]).await?.is_none())
        }
        Writer::Attempt {
            job_id,
            attempt,
            session_id,
        } => {
            let sql = "SELECT 1 FROM jobs WHERE id = $1 AND run_id = $2 AND attempt = $3 AND session_id = $4
                AND lease_until IS NOT NULL FOR UPDATE";
            let held = transaction
                .query_opt(sql, &[&job_id.0, &run_id.0, &attempt, &session_id.0])
                .await?;
            Ok(held.is_some())
        }
    }
}

async fn begin(transaction: &Transaction<'_>, key: &ArchiveKey, writer: Writer) -> Failable<Begun> {
    if !may_write(transaction, key.run_id, writer).await? {
        return Ok(Begun::NotYours);
    }
    let (run_id, direction) = (key.run_id.0, key.direction.as_str());
    let sql = "DELETE FROM archives WHERE run_id = $1 AND direction = $2 AND name = $3";
    transaction
        .execute(sql, &[&run_id, &direction, &key.name])
        .await?;
    let sql = "SELECT (SELECT count(*) FROM archives WHERE run_id = $1 AND direction = $2),
        (SELECT coalesce(sum(bytes), 0)::bigint FROM archives)";
    let row = transaction.query_one(sql, &[&run_id, &direction]).await?;
    if row.try_get::<_, i64>(0)? >= MAX_ARCHIVES {
        return Ok(Begun::TooMany);
    }
    if row.try_get::<_, i64>(1)? >= MAX_KEPT_BYTES {
        return Ok(Begun::Full);
    }
    let upload = UploadId::new();
    let sql = "INSERT INTO archives (run_id, direction, name, upload_id, pages, bytes, complete, created_at)
        VALUES ($1, $2, $3, $4, 0, 0, false, clock_timestamp())";
    transaction
        .execute(sql, &[&run_id, &direction, &key.name, &upload.0])
        .await?;
    Ok(Begun::Upload(upload))
}

async fn finish(transaction: &Transaction<'_>, upload: UploadId, writer: Writer) -> Failable<bool> {
    let sql = "SELECT run_id FROM archives WHERE upload_id = $1";
    let Some(row) = transaction.query_opt(sql, &[&upload.0]).await? else {
        return Ok(false);
    };
    if !may_write(transaction, RunId(row.try_get(0)?), writer).await? {
        return Ok(false);
    }
    let sql = "UPDATE archives SET complete = true WHERE upload_id = $1";
    Ok(transaction.execute(sql, &[&upload.0]).await? > 0)
}

fn archive(row: &Row) -> Failable<Archive> {
    Ok(Archive {
        name: row.try_get("name")?,
        upload: UploadId(row.try_get("upload_id")?),
        pages: row.try_get("pages")?,
        bytes: row.try_get("bytes")?,
    })
}

impl PostgresStore {
    /// The complete ones, or the one of that name.
    async fn complete_archives(
        &self,
        run_id: RunId,
        direction: Direction,
        name: Option<&str>,
    ) -> Result<Vec<Archive>> {
        let client = self.client().await?;
        let sql = "SELECT name, upload_id, pages, bytes FROM archives WHERE run_id = $1 AND direction = $2
            AND complete AND ($3::text IS NULL OR name = $3) ORDER BY name COLLATE \"C\"";
        let rows = client
            .query(sql, &[&run_id.0, &direction.as_str(), &name])
            .await
            .map_err(sql_error)?;
        Ok(rows.iter().map(archive).collect::<Failable<_>>()?)
    }
}

#[async_trait]
impl ArchiveStore for PostgresStore {
    async fn begin_archive(&self, key: ArchiveKey, writer: Writer) -> Result<Begun> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let begun = begin(&transaction, &key, writer).await?;
        if matches!(begun, Begun::Upload(_)) {
            transaction.commit().await.map_err(sql_error)?;
        }
        Ok(begun)
    }

    async fn add_page(&self, upload: UploadId, seq: i64, data: Bytes) -> Result<Added> {
        let client = self.client().await?;
        let size = data.len() as i64;
        // One statement: the page is there if and only if it is counted.
        let sql = "WITH mine AS (
                UPDATE archives SET pages = $2::bigint, bytes = bytes + $3::bigint
                WHERE upload_id = $1 AND pages = $2::bigint - 1 AND NOT complete
                AND bytes + $3::bigint <= $5::bigint RETURNING upload_id
            ) INSERT INTO archive_pages (upload_id, seq, data) SELECT upload_id, $2::bigint, $4::bytea FROM mine";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let stored = client
            .execute(
                &statement,
                &[&upload.0, &seq, &size, &data.as_ref(), &MAX_ARCHIVE_BYTES],
            )
            .await
            .map_err(sql_error)?;
        if stored > 0 {
            return Ok(Added::Stored);
        }
        let sql = "SELECT pages FROM archives WHERE upload_id = $1 AND NOT complete";
        let found = client
            .query_opt(sql, &[&upload.0])
            .await
            .map_err(sql_error)?;
        Ok(match found.map(|row| row.get::<_, i64>(0)) {
            Some(pages) if (1..=pages).contains(&seq) => Added::Stored,
            Some(pages) if seq == pages + 1 => Added::TooLarge,
            Some(_) | None => Added::Over,
        })
    }

    async fn finish_archive(&self, upload: UploadId, writer: Writer) -> Result<bool> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let finished = finish(&transaction, upload, writer).await?;
        transaction.commit().await.map_err(sql_error)?;
        Ok(finished)
    }

    async fn archive(&self, key: ArchiveKey) -> Result<Option<Archive>> {
        let found = self
            .complete_archives(key.run_id, key.direction, Some(&key.name))
            .await?;
        Ok(found.into_iter().next())
    }

    async fn archives(&self, run_id: RunId, direction: Direction) -> Result<Vec<Archive>> {
        self.complete_archives(run_id, direction, None).await
    }

    async fn archive_page(&self, upload: UploadId, seq: i64) -> Result<Option<Bytes>> {
        let client = self.client().await?;
        let sql = "SELECT data FROM archive_pages WHERE upload_id = $1 AND seq = $2";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let found = client
            .query_opt(&statement, &[&upload.0, &seq])
            .await
            .map_err(sql_error)?;
        Ok(found.map(|row| Bytes::from(row.get::<_, Vec<u8>>(0))))
    }

    async fn forget_archives(
        &self,
        kept: Duration,
        broken_kept: Duration,
        limit: i64,
    ) -> Result<u64> {
        let client = self.client().await?;
        let sql = "DELETE FROM archives WHERE upload_id IN (SELECT upload_id FROM archives a
            WHERE a.created_at < clock_timestamp() - interval '1 millisecond'
                * (CASE WHEN a.complete THEN $1::bigint ELSE least($1::bigint, $2::bigint) END)
            AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = a.run_id AND r.outcome IS NULL)
            ORDER BY a.created_at LIMIT $3)";
        let ages = (millis(kept), millis(broken_kept));
        let forgotten = client.execute(sql, &[&ages.0, &ages.1, &limit]).await;
        forgotten.map_err(sql_error)
    }
}
