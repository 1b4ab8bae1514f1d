//! The journal of a job: what entered its program, in that order. Its content is the agents' own.

use super::{JobId, SessionId};
use bytes::Bytes;

/// Largest entry: two outputs of a step with what surrounds them. One call carries at least one.
pub const MAX_ENTRY_BYTES: usize = 3 << 20;
/// Largest journal of one job, counted by its entries' results.
pub const MAX_JOURNAL_BYTES: i64 = 32 << 20;
/// Most entries of one job.
pub const MAX_JOURNAL_ENTRIES: i64 = 100_000;

/// Who may write and read a job's journal: the session that holds the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalHolder {
    /// The job.
    pub job_id: JobId,
    /// The attempt it was given.
    pub attempt: i32,
    /// The session that speaks.
    pub session_id: SessionId,
}

/// One entry.
#[derive(Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// From 1, over all attempts of the job, without holes.
    pub seq: i64,
    /// Which attempt wrote it; ignored when appending.
    pub attempt: i32,
    /// The how-manieth call of the program it is about.
    pub call: i64,
    /// The agents' word for what it is.
    pub kind: String,
    /// SHA-256 of kind and arguments, or empty.
    pub content_hash: Vec<u8>,
    /// The agents' own encoding. May be long: never shown.
    pub result: Bytes,
}

impl std::fmt::Debug for JournalEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "JournalEntry({} {} of call {})",
            self.seq, self.kind, self.call
        )
    }
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journaled {
    /// Stored, now or before; the last entry that is stored.
    Stored(i64),
    /// The session does not hold the attempt. Nothing was stored.
    NotHeld,
    /// Entries before the first one are missing. Nothing was stored.
    Gap,
    /// The journal would be larger than it may be. Nothing was stored.
    Full,
}
