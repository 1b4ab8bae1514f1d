//! Journals of jobs. Whoever appends or clears holds the lock of the job's row, as the ledger does.

use super::super::{JournalStore, Result};
use super::{Failable, PostgresStore, sql_error};
use crate::model::journal::{
    JournalEntry, JournalHolder, Journaled, MAX_JOURNAL_BYTES, MAX_JOURNAL_ENTRIES,
};
use async_trait::async_trait;
use futures_util::TryStreamExt;
use tokio_postgres::Row;

/// Number and size of the journal, if the session holds the attempt.
const HELD: &str = "SELECT journal_seq, journal_bytes FROM jobs
    WHERE id = $1 AND attempt = $2 AND session_id = $3 AND lease_until IS NOT NULL";

fn entry(row: &Row) -> Failable<JournalEntry> {
    Ok(JournalEntry {
        seq: row.try_get("seq")?,
        attempt: row.try_get("attempt")?,
        call: row.try_get("call")?,
        kind: row.try_get("kind")?,
        content_hash: row.try_get("content_hash")?,
        result: row.try_get::<_, Vec<u8>>("result")?.into(),
    })
}

/// The entries that are not stored, with the number and size of the journal then.
fn follow(
    entries: Vec<JournalEntry>,
    stored: i64,
    mut bytes: i64,
) -> std::result::Result<(Vec<JournalEntry>, i64, i64), Journaled> {
    let new: Vec<JournalEntry> = entries.into_iter().filter(|e| e.seq > stored).collect();
    let mut seq = stored;
    for entry in &new {
        seq += 1;
        bytes += entry.result.len() as i64;
        if entry.seq != seq {
            return Err(Journaled::Gap);
        }
    }
    if new.is_empty() {
        return Err(Journaled::Stored(stored));
    }
    if bytes > MAX_JOURNAL_BYTES || seq > MAX_JOURNAL_ENTRIES {
        return Err(Journaled::Full);
    }
    Ok((new, seq, bytes))
}

#[async_trait]
impl JournalStore for PostgresStore {
    async fn append_journal(
        &self,
        holder: JournalHolder,
        entries: Vec<JournalEntry>,
    ) -> Result<Journaled> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        let sql = format!("{HELD} FOR UPDATE");
        let statement = transaction.prepare_cached(&sql).await.map_err(sql_error)?;
        let found = transaction
            .query_opt(
                &statement,
                &[&holder.job_id.0, &holder.attempt, &holder.session_id.0],
            )
            .await
            .map_err(sql_error)?;
        let Some(row) = found else {
            return Ok(Journaled::NotHeld);
        };
        let (new, seq, bytes) = match follow(entries, row.get(0), row.get(1)) {
            Ok(following) => following,
            Err(answer) => return Ok(answer),
        };
        let seqs: Vec<i64> = new.iter().map(|entry| entry.seq).collect();
        let calls: Vec<i64> = new.iter().map(|entry| entry.call).collect();
        let kinds: Vec<&str> = new.iter().map(|entry| entry.kind.as_str()).collect();
        let hashes: Vec<&[u8]> = new.iter().map(|e| e.content_hash.as_slice()).collect();
        let results: Vec<&[u8]> = new.iter().map(|entry| entry.result.as_ref()).collect();
        let sql = "INSERT INTO journal (job_id, seq, attempt, call, kind, content_hash, result)
            SELECT $1, t.seq, $2, t.call, t.kind, t.hash, t.result
            FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::bytea[], $7::bytea[])
                AS t (seq, call, kind, hash, result)";
        let statement = transaction.prepare_cached(sql).await.map_err(sql_error)?;
        transaction
            .execute(
                &statement,
                &[
                    &holder.job_id.0,
                    &holder.attempt,
                    &seqs,
                    &calls,
                    &kinds,
                    &hashes,
                    &results,
                ],
            )
            .await
            .map_err(sql_error)?;
        let sql = "UPDATE jobs SET journal_seq = $2, journal_bytes = $3 WHERE id = $1";
        let statement = transaction.prepare_cached(sql).await.map_err(sql_error)?;
        transaction
            .execute(&statement, &[&holder.job_id.0, &seq, &bytes])
            .await
            .map_err(sql_error)?;
        transaction.commit().await.map_err(sql_error)?;
        Ok(Journaled::Stored(seq))
    }

    async fn journal(
        &self,
        holder: JournalHolder,
        after: i64,
        limit: i64,
        max_bytes: usize,
    ) -> Result<Option<Vec<JournalEntry>>> {
        let client = self.client().await?;
        let statement = client.prepare_cached(HELD).await.map_err(sql_error)?;
        let held = client
            .query_opt(
                &statement,
                &[&holder.job_id.0, &holder.attempt, &holder.session_id.0],
            )
            .await
            .map_err(sql_error)?;
        if held.is_none() {
            return Ok(None);
        }
        // No more than the page is sent: what is not read would have to be thrown away.
        let sql = "SELECT * FROM (
                SELECT j.*, sum(octet_length(result)) OVER (ORDER BY seq) AS total FROM journal j
                WHERE job_id = $1 AND seq > $2 ORDER BY seq LIMIT $3) page
            WHERE total <= $4 OR total = octet_length(result) ORDER BY seq";
        let statement = client.prepare_cached(sql).await.map_err(sql_error)?;
        let most = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        let found = client
            .query_raw(
                &statement,
                [
                    &holder.job_id.0 as &(dyn tokio_postgres::types::ToSql + Sync),
                    &after,
                    &limit.max(1),
                    &most,
                ],
            )
            .await
            .map_err(sql_error)?;
        let mut found = std::pin::pin!(found);
        let (mut entries, mut bytes): (Vec<JournalEntry>, usize) = (Vec::new(), 0);
        while let Some(row) = found.try_next().await.map_err(sql_error)? {
            let entry = entry(&row)?;
            bytes += entry.result.len();
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(Some(entries))
    }

    async fn clear_journal(&self, holder: JournalHolder) -> Result<bool> {
        let client = self.client().await?;
        // One statement: the rows go only if the job is the session's.
        let sql = "WITH held AS (
                UPDATE jobs SET journal_seq = 0, journal_bytes = 0
                WHERE id = $1 AND attempt = $2 AND session_id = $3 AND lease_until IS NOT NULL RETURNING id
            ), gone AS (DELETE FROM journal j USING held WHERE j.job_id = held.id)
            SELECT count(*) FROM held";
        let row = client
            .query_one(
                sql,
                &[&holder.job_id.0, &holder.attempt, &holder.session_id.0],
            )
            .await
            .map_err(sql_error)?;
        Ok(row.get::<_, i64>(0) > 0)
    }
}
