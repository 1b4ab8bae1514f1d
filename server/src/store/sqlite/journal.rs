//! Journals of jobs.

use super::SqliteStore;
use super::rows::Columns;
use crate::model::JobId;
use crate::model::journal::{
    JournalEntry, JournalHolder, Journaled, MAX_JOURNAL_BYTES, MAX_JOURNAL_ENTRIES,
};
use crate::store::{JournalStore, Result};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

/// Number and size of the journal, if the session holds the attempt.
fn held(connection: &Connection, holder: JournalHolder) -> Result<Option<(i64, i64)>> {
    let sql = "SELECT journal_seq, journal_bytes FROM jobs \
         WHERE id = ?1 AND attempt = ?2 AND session_id = ?3 AND lease_until IS NOT NULL";
    let given = params![
        holder.job_id.0.as_bytes(),
        holder.attempt,
        holder.session_id.0.as_bytes()
    ];
    let found = connection
        .prepare_cached(sql)?
        .query_row(given, |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(found.optional()?)
}

fn set(connection: &Connection, job_id: JobId, seq: i64, bytes: i64) -> Result<()> {
    let sql = "UPDATE jobs SET journal_seq = ?2, journal_bytes = ?3 WHERE id = ?1";
    let given = params![job_id.0.as_bytes(), seq, bytes];
    connection.prepare_cached(sql)?.execute(given)?;
    Ok(())
}

fn append(
    connection: &Connection,
    holder: JournalHolder,
    entries: Vec<JournalEntry>,
) -> Result<Journaled> {
    let Some((mut seq, mut bytes)) = held(connection, holder)? else {
        return Ok(Journaled::NotHeld);
    };
    let stored = seq;
    let new: Vec<JournalEntry> = entries.into_iter().filter(|e| e.seq > stored).collect();
    for entry in &new {
        seq += 1;
        bytes += entry.result.len() as i64;
        if entry.seq != seq {
            return Ok(Journaled::Gap);
        }
    }
    if new.is_empty() {
        return Ok(Journaled::Stored(stored));
    }
    if bytes > MAX_JOURNAL_BYTES || seq > MAX_JOURNAL_ENTRIES {
        return Ok(Journaled::Full);
    }
    let sql = "INSERT INTO journal (job_id, seq, attempt, call, kind, content_hash, result) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let mut insert = connection.prepare_cached(sql)?;
    for entry in &new {
        insert.execute(params![
            holder.job_id.0.as_bytes(),
            entry.seq,
            holder.attempt,
            entry.call,
            entry.kind,
            entry.content_hash,
            entry.result.as_ref(),
        ])?;
    }
    set(connection, holder.job_id, seq, bytes)?;
    Ok(Journaled::Stored(seq))
}

fn read(
    connection: &Connection,
    holder: JournalHolder,
    after: i64,
    limit: i64,
    max_bytes: usize,
) -> Result<Option<Vec<JournalEntry>>> {
    if held(connection, holder)?.is_none() {
        return Ok(None);
    }
    let sql = "SELECT seq, attempt, call, kind, content_hash, result FROM journal \
         WHERE job_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let given = params![holder.job_id.0.as_bytes(), after, limit.max(1)];
    let found = statement.query_map(given, |row| {
        let mut columns = Columns::of(row);
        Ok(JournalEntry {
            seq: columns.take()?,
            attempt: columns.take()?,
            call: columns.take()?,
            kind: columns.take()?,
            content_hash: columns.take()?,
            result: columns.take::<Vec<u8>>()?.into(),
        })
    })?;
    let (mut entries, mut bytes): (Vec<JournalEntry>, usize) = (Vec::new(), 0);
    for entry in found {
        let entry = entry?;
        bytes += entry.result.len();
        if bytes > max_bytes && !entries.is_empty() {
            break;
        }
        entries.push(entry);
    }
    Ok(Some(entries))
}

fn clear(connection: &Connection, holder: JournalHolder) -> Result<bool> {
    if held(connection, holder)?.is_none() {
        return Ok(false);
    }
    let sql = "DELETE FROM journal WHERE job_id = ?1";
    connection
        .prepare_cached(sql)?
        .execute([holder.job_id.0.as_bytes()])?;
    set(connection, holder.job_id, 0, 0)?;
    Ok(true)
}

#[async_trait]
impl JournalStore for SqliteStore {
    async fn append_journal(
        &self,
        holder: JournalHolder,
        entries: Vec<JournalEntry>,
    ) -> Result<Journaled> {
        self.writer
            .call(move |connection, _| append(connection, holder, entries))
            .await
    }

    async fn journal(
        &self,
        holder: JournalHolder,
        after: i64,
        limit: i64,
        max_bytes: usize,
    ) -> Result<Option<Vec<JournalEntry>>> {
        self.readers
            .read(move |connection| read(connection, holder, after, limit, max_bytes))
            .await
    }

    async fn clear_journal(&self, holder: JournalHolder) -> Result<bool> {
        self.writer
            .call(move |connection, _| clear(connection, holder))
            .await
    }
}
