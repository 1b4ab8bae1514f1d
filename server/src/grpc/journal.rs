//! Journals over the wire: append, read a page, clear.

use super::convert::{Ref, broken};
use super::{Link, store_status};
use crate::model::SessionId;
use crate::model::journal::{JournalEntry, JournalHolder, Journaled, MAX_ENTRY_BYTES};
use pb::call_reply::Kind as Reply;
use pocketci_proto::agent as pb;
use tonic::Status;

/// Most entries in one message.
const MAX_ENTRIES: usize = 1_000;
/// Bytes of results in one page, unless one entry alone has more.
const PAGE_BYTES: usize = 1 << 20;
/// Longest kind.
const MAX_KIND_BYTES: usize = 64;

fn not_held() -> Status {
    Status::failed_precondition("this attempt is not (or no longer) yours")
}

fn holder(attempt: Ref, session_id: SessionId) -> JournalHolder {
    JournalHolder {
        job_id: attempt.job_id,
        attempt: attempt.attempt,
        session_id,
    }
}

/// Stores entries.
pub(super) async fn append(
    link: &Link,
    attempt: Ref,
    session_id: SessionId,
    ask: pb::AppendJournal,
) -> Result<Reply, Status> {
    if ask.entries.len() > MAX_ENTRIES {
        return Err(broken("too many journal entries in one message"));
    }
    let entries = ask.entries.into_iter().map(entry);
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let store = link.runs().store();
    let appended = store.append_journal(holder(attempt, session_id), entries);
    match appended.await.map_err(|error| store_status(&error))? {
        Journaled::Stored(seq) => Ok(Reply::JournalSeq(u64::try_from(seq).unwrap_or(0))),
        Journaled::NotHeld => Err(not_held()),
        // Not `Aborted`, which is worth a repetition: this one never ends otherwise.
        Journaled::Gap => Err(Status::out_of_range("journal entries are missing")),
        Journaled::Full => Err(Status::resource_exhausted("the job's journal is full")),
    }
}

fn entry(wire: pb::JournalEntry) -> Result<JournalEntry, Status> {
    if wire.result.len() > MAX_ENTRY_BYTES {
        return Err(Status::resource_exhausted("a journal entry is too large"));
    }
    if !matches!(wire.content_hash.len(), 0 | 32) {
        return Err(broken("journal hash"));
    }
    if wire.kind.len() > MAX_KIND_BYTES || wire.kind.contains('\0') {
        return Err(broken("journal kind"));
    }
    Ok(JournalEntry {
        seq: i64::try_from(wire.seq)
            .ok()
            .filter(|seq| *seq > 0)
            .ok_or_else(|| broken("journal sequence"))?,
        attempt: 0,
        call: i64::from(wire.call),
        kind: wire.kind,
        content_hash: wire.content_hash.to_vec(),
        result: wire.result,
    })
}

/// A page.
pub(super) async fn read(
    link: &Link,
    attempt: Ref,
    session_id: SessionId,
    ask: &pb::ReadJournal,
) -> Result<Reply, Status> {
    let after = i64::try_from(ask.after).map_err(|_| broken("journal sequence"))?;
    let store = link.runs().store();
    let holder = holder(attempt, session_id);
    let found = store
        .journal(holder, after, MAX_ENTRIES as i64, PAGE_BYTES)
        .await
        .map_err(|error| store_status(&error))?
        .ok_or_else(not_held)?;
    let entries: Vec<pb::JournalEntry> = found.into_iter().map(wire).collect();
    // The reader asks until a page is empty; a short one may have been cut by its size.
    let more = !entries.is_empty();
    Ok(Reply::Journal(pb::JournalPage { entries, more }))
}

fn wire(entry: JournalEntry) -> pb::JournalEntry {
    pb::JournalEntry {
        seq: u64::try_from(entry.seq).unwrap_or(0),
        attempt: u32::try_from(entry.attempt).unwrap_or(0),
        call: u32::try_from(entry.call).unwrap_or(u32::MAX),
        kind: entry.kind,
        content_hash: entry.content_hash.into(),
        result: entry.result,
    }
}

/// Removes all.
pub(super) async fn clear(
    link: &Link,
    attempt: Ref,
    session_id: SessionId,
) -> Result<Reply, Status> {
    let store = link.runs().store();
    let cleared = store.clear_journal(holder(attempt, session_id)).await;
    match cleared.map_err(|error| store_status(&error))? {
        true => Ok(Reply::JournalSeq(0)),
        false => Err(not_held()),
    }
}
