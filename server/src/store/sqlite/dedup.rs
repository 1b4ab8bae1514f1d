//! Keys of requests: claimed beside what they start.

use super::rows::{Columns, key, micros, now};
use crate::model::dedup::{Again, Claimed, DedupKey, First};
use crate::model::run::Outcome;
use crate::model::{ReceiptId, RunId};
use crate::store::Result;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::time::Duration;

/// Who has claimed the key, and whether it stands. A run that is gone does not; of a message see `messages`.
pub(super) fn claimed(connection: &Connection, of: &DedupKey) -> Result<Option<Claimed>> {
    let sql = "SELECT k.receipt_id, k.run_id, k.body_sha256, r.id IS NOT NULL, r.outcome \
         FROM hook_keys k LEFT JOIN runs r ON r.id = k.run_id WHERE k.hook_id = ?1 AND k.key = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row(params![of.hook.as_bytes(), of.key], |row| {
        let mut columns = Columns::of(row);
        let first = First {
            receipt_id: columns.id(ReceiptId)?,
            run_id: columns.id_opt(RunId)?,
        };
        let body_sha256 = columns.take()?;
        let exists: bool = columns.take()?;
        let outcome: Option<String> = columns.take()?;
        Ok(Claimed {
            first,
            body_sha256,
            stands: exists && stands(outcome.as_deref()),
        })
    });
    Ok(found.optional()?)
}

/// Whether a run that ended so (or goes on) has done what was asked.
pub(super) fn stands(outcome: Option<&str>) -> bool {
    match outcome.and_then(Outcome::parse) {
        None | Some(Outcome::Succeeded | Outcome::Skipped) => true,
        Some(Outcome::Failed | Outcome::Errored | Outcome::Aborted) => false,
    }
}

/// Claims the key for a receipt and its run, from whoever had it.
pub(super) fn claim(
    connection: &Connection,
    of: &DedupKey,
    receipt_id: ReceiptId,
    run_id: Option<RunId>,
) -> Result<()> {
    let sql = "INSERT INTO hook_keys (hook_id, key, body_sha256, receipt_id, run_id, seen_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (hook_id, key) DO UPDATE SET \
         body_sha256 = ?3, receipt_id = ?4, run_id = ?5, seen_at = ?6";
    connection.prepare_cached(sql)?.execute(params![
        of.hook.as_bytes(),
        of.key,
        of.body_sha256,
        receipt_id.0.as_bytes(),
        key(run_id.map(|run| run.0)),
        micros(now()),
    ])?;
    Ok(())
}

/// What a request with this key is to the one that had it first.
pub(super) fn again(connection: &Connection, of: &DedupKey) -> Result<Option<(Claimed, Again)>> {
    Ok(claimed(connection, of)?.map(|claimed| (claimed, claimed.again(of))))
}

pub(super) fn forget(connection: &Connection, kept: Duration, limit: i64) -> Result<u64> {
    let sql = "DELETE FROM hook_keys WHERE (hook_id, key) IN \
         (SELECT hook_id, key FROM hook_keys WHERE seen_at < ?1 ORDER BY seen_at LIMIT ?2)";
    let before = micros(now() - kept);
    let gone = connection
        .prepare_cached(sql)?
        .execute(params![before, limit])?;
    Ok(gone as u64)
}
