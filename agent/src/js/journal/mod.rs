//! The journal of a job: what enters its program, so that another attempt can be brought to where this one is.
//!
//! A program is deterministic but for what comes from outside: ends of calls, output, timers, time, randomness. Each is
//! an entry, in the order in which the program saw it. The end of a call is stored before the program sees it; the
//! rest is stored with the next one, and before the next call that has an effect begins. `tape` is a journal being read,
//! `record` decides for each call whether it is taken from there, `entry` is what an entry looks like.

pub(super) mod entry;
mod random;
pub(super) mod record;
pub(super) mod tape;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::Arc;
pub use tape::Tape;

/// One entry, as it is stored.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Which attempt wrote it; 0 while it is being written.
    pub attempt: u32,
    /// The how-manieth call of the program, from 1; 0 where there is none.
    pub call: u32,
    /// What it is: see `entry`.
    pub kind: String,
    /// SHA-256 of the call's kind and arguments; empty where there are none.
    pub hash: Vec<u8>,
    /// What entered the program (JSON).
    pub data: Bytes,
}

impl Entry {
    /// The call whose end this is, if it is one.
    pub fn ended_call(&self) -> Option<u32> {
        matches!(self.kind.as_str(), entry::DONE | entry::NOW).then_some(self.call)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({} of call {})", self.kind, self.call)
    }
}

/// The kind of an entry that names secrets that were resolved: what they are is asked anew.
pub const SECRETS: &str = "secrets";

/// What became of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// They are stored.
    Stored,
    /// They could not be; the job goes on without a journal.
    Ended,
}

/// Where entries go.
pub trait Sink: Send + Sync {
    /// Stores entries after those stored before.
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'static, Kept>;
    /// The text without secrets.
    fn redact(&self, text: &str) -> String;
    /// The bytes without secrets.
    fn redact_bytes(&self, bytes: &Bytes) -> Bytes;
}

/// A job's journal: what was written before, and where to write.
pub struct Journal {
    /// Of earlier attempts.
    pub tape: Tape,
    /// Of this one.
    pub sink: Arc<dyn Sink>,
}
