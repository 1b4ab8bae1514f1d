//! Archives of one-off runs.

use super::SqliteStore;
use super::rows::{Columns, micros, now};
use crate::model::RunId;
use crate::model::archive::{
    Archive, ArchiveKey, Direction, MAX_ARCHIVE_BYTES, MAX_ARCHIVES, MAX_KEPT_BYTES, UploadId,
    Writer,
};
use crate::store::{Added, ArchiveStore, Begun, Result};
use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::time::Duration;
use uuid::Uuid;

/// Whether it may write for this run.
fn may_write(connection: &Connection, run_id: RunId, writer: Writer) -> Result<bool> {
    let (job_id, attempt, session_id) = match writer {
        Writer::User => {
            let mut known = connection.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?;
            return Ok(!known.exists([run_id.0.as_bytes()])?);
        }
        Writer::Attempt {
            job_id,
            attempt,
            session_id,
        } => (job_id, attempt, session_id),
    };
    let sql = "SELECT 1 FROM jobs WHERE id = ?1 AND run_id = ?2 AND attempt = ?3 AND session_id = ?4 \
         AND lease_until IS NOT NULL";
    let given = params![
        job_id.0.as_bytes(),
        run_id.0.as_bytes(),
        attempt,
        session_id.0.as_bytes()
    ];
    Ok(connection.prepare_cached(sql)?.exists(given)?)
}

fn begin(connection: &Connection, key: &ArchiveKey, writer: Writer) -> Result<Begun> {
    if !may_write(connection, key.run_id, writer)? {
        return Ok(Begun::NotYours);
    }
    let (run_id, direction) = (key.run_id.0, key.direction.as_str());
    let sql = "DELETE FROM archives WHERE run_id = ?1 AND direction = ?2 AND name = ?3";
    connection
        .prepare_cached(sql)?
        .execute(params![run_id.as_bytes(), direction, key.name])?;
    let sql = "SELECT (SELECT count(*) FROM archives WHERE run_id = ?1 AND direction = ?2), \
         (SELECT coalesce(sum(bytes), 0) FROM archives)";
    let (count, bytes): (i64, i64) = connection
        .prepare_cached(sql)?
        .query_row(params![run_id.as_bytes(), direction], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if count >= MAX_ARCHIVES {
        return Ok(Begun::TooMany);
    }
    if bytes >= MAX_KEPT_BYTES {
        return Ok(Begun::Full);
    }
    let upload = UploadId::new();
    let sql = "INSERT INTO archives (run_id, direction, name, upload_id, pages, bytes, complete, created_at) \
         VALUES (?1, ?2, ?3, ?4, 0, 0, 0, ?5)";
    connection.prepare_cached(sql)?.execute(params![
        run_id.as_bytes(),
        direction,
        key.name,
        upload.0.as_bytes(),
        micros(now())
    ])?;
    Ok(Begun::Upload(upload))
}

fn add(connection: &Connection, upload: UploadId, seq: i64, data: &[u8]) -> Result<Added> {
    let sql = "SELECT pages, bytes, complete FROM archives WHERE upload_id = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([upload.0.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
    let (pages, bytes): (i64, i64) = match found.optional()? {
        Some((pages, bytes, false)) => (pages, bytes),
        Some((_, _, true)) | None => return Ok(Added::Over),
    };
    if (1..=pages).contains(&seq) {
        return Ok(Added::Stored);
    }
    if seq != pages + 1 {
        return Ok(Added::Over);
    }
    if bytes + data.len() as i64 > MAX_ARCHIVE_BYTES {
        return Ok(Added::TooLarge);
    }
    let sql = "UPDATE archives SET pages = ?2, bytes = bytes + ?3 WHERE upload_id = ?1";
    connection.prepare_cached(sql)?.execute(params![
        upload.0.as_bytes(),
        seq,
        data.len() as i64
    ])?;
    let sql = "INSERT INTO archive_pages (upload_id, seq, data) VALUES (?1, ?2, ?3)";
    connection
        .prepare_cached(sql)?
        .execute(params![upload.0.as_bytes(), seq, data])?;
    Ok(Added::Stored)
}

fn finish(connection: &Connection, upload: UploadId, writer: Writer) -> Result<bool> {
    let sql = "SELECT run_id FROM archives WHERE upload_id = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([upload.0.as_bytes()], |row| row.get::<_, [u8; 16]>(0))
        .optional()?;
    let Some(run_id) = found else {
        return Ok(false);
    };
    if !may_write(connection, RunId(Uuid::from_bytes(run_id)), writer)? {
        return Ok(false);
    }
    let sql = "UPDATE archives SET complete = 1 WHERE upload_id = ?1";
    connection
        .prepare_cached(sql)?
        .execute([upload.0.as_bytes()])?;
    Ok(true)
}

/// The complete ones, or the one of that name.
fn complete(
    connection: &Connection,
    run_id: RunId,
    direction: Direction,
    name: Option<&str>,
) -> Result<Vec<Archive>> {
    let sql = "SELECT name, upload_id, pages, bytes FROM archives WHERE run_id = ?1 AND direction = ?2 \
         AND complete AND (?3 IS NULL OR name = ?3) ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let given = params![run_id.0.as_bytes(), direction.as_str(), name];
    let found = statement.query_map(given, |row| {
        let mut columns = Columns::of(row);
        Ok(Archive {
            name: columns.take()?,
            upload: UploadId(Uuid::from_bytes(columns.take()?)),
            pages: columns.take()?,
            bytes: columns.take()?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

fn forget(
    connection: &Connection,
    kept: Duration,
    broken_kept: Duration,
    limit: i64,
) -> Result<u64> {
    let sql = "DELETE FROM archives WHERE upload_id IN (SELECT upload_id FROM archives a \
         WHERE (a.created_at < ?1 OR (a.created_at < ?2 AND NOT a.complete)) AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = a.run_id AND r.outcome IS NULL) \
         ORDER BY a.created_at LIMIT ?3)";
    let given = params![micros(now() - kept), micros(now() - broken_kept), limit];
    Ok(connection.prepare_cached(sql)?.execute(given)? as u64)
}

#[async_trait]
impl ArchiveStore for SqliteStore {
    async fn begin_archive(&self, key: ArchiveKey, writer: Writer) -> Result<Begun> {
        self.writer
            .call(move |connection, _| begin(connection, &key, writer))
            .await
    }

    async fn add_page(&self, upload: UploadId, seq: i64, data: Bytes) -> Result<Added> {
        self.writer
            .call(move |connection, _| add(connection, upload, seq, &data))
            .await
    }

    async fn finish_archive(&self, upload: UploadId, writer: Writer) -> Result<bool> {
        self.writer
            .call(move |connection, _| finish(connection, upload, writer))
            .await
    }

    async fn archive(&self, key: ArchiveKey) -> Result<Option<Archive>> {
        self.readers
            .read(move |connection| {
                let name = Some(key.name.as_str());
                Ok(complete(connection, key.run_id, key.direction, name)?.pop())
            })
            .await
    }

    async fn archives(&self, run_id: RunId, direction: Direction) -> Result<Vec<Archive>> {
        self.readers
            .read(move |connection| complete(connection, run_id, direction, None))
            .await
    }

    async fn archive_page(&self, upload: UploadId, seq: i64) -> Result<Option<Bytes>> {
        self.readers
            .read(move |connection| {
                let sql = "SELECT data FROM archive_pages WHERE upload_id = ?1 AND seq = ?2";
                let mut statement = connection.prepare_cached(sql)?;
                let given = params![upload.0.as_bytes(), seq];
                let data = statement.query_row(given, |row| row.get::<_, Vec<u8>>(0));
                Ok(data.optional()?.map(Bytes::from))
            })
            .await
    }

    async fn forget_archives(
        &self,
        kept: Duration,
        broken_kept: Duration,
        limit: i64,
    ) -> Result<u64> {
        self.writer
            .call(move |connection, _| forget(connection, kept, broken_kept, limit))
            .await
    }
}
