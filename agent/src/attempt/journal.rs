//! The job's journal at the server: written for this attempt, read from those before it.

use super::backend::Backend;
use super::secrets::Secrets;
use super::{Attempt, SYSTEM};
use crate::js::journal::{Entry, Kept, SECRETS, Sink, Tape};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

/// Largest entry; the server takes no larger one.
const MAX_ENTRY_BYTES: usize = 3 << 20;
/// Most entries in one message, and most bytes unless one alone has more.
const MAX_MESSAGE_ENTRIES: usize = 500;
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// See the module.
pub(super) struct JobJournal {
    attempt: Arc<Attempt>,
    backend: Arc<dyn Backend>,
    secrets: Arc<Secrets>,
    /// Number of the last entry that is stored.
    seq: Arc<Mutex<u64>>,
    ended: Arc<AtomicBool>,
}

/// What earlier attempts left, and the number of the last entry.
///
/// # Errors
/// It cannot be read: for people.
pub(super) async fn read(backend: &dyn Backend) -> Result<(Tape, u64), String> {
    let entries = backend.read_journal().await?;
    let tape = Tape::read(&entries).map_err(|error| error.to_string())?;
    Ok((tape, entries.len() as u64))
}

impl JobJournal {
    /// Goes on after entry `seq`.
    pub(super) fn new(
        attempt: Arc<Attempt>,
        backend: Arc<dyn Backend>,
        secrets: Arc<Secrets>,
        seq: u64,
    ) -> Self {
        Self {
            attempt,
            backend,
            secrets,
            seq: Arc::new(Mutex::new(seq)),
            ended: Arc::default(),
        }
    }
}

impl Sink for JobJournal {
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'static, Kept> {
        let mut all = Vec::with_capacity(entries.len() + 1);
        let names = self.secrets.take_new();
        if !names.is_empty() {
            all.push(Entry {
                kind: SECRETS.to_owned(),
                data: Bytes::from(json!({ "names": names }).to_string()),
                ..Entry::default()
            });
        }
        all.extend(entries);
        let (attempt, backend) = (self.attempt.clone(), self.backend.clone());
        let (seq, ended) = (self.seq.clone(), self.ended.clone());
        async move {
            if ended.load(Ordering::SeqCst) {
                return Kept::Ended;
            }
            if let Some(file) = &attempt.file {
                file.keep();
            }
            let ended_calls: Vec<u32> = all.iter().filter_map(Entry::ended_call).collect();
            let stored = tokio::select! {
                stored = store(&attempt, &*backend, &seq, all) => stored,
                () = attempt.lost() => return Kept::Ended,
            };
            match stored {
                Ok(()) => {
                    if let Some(file) = &attempt.file {
                        file.settle(ended_calls);
                    }
                    Kept::Stored
                }
                Err(why) => {
                    ended.store(true, Ordering::SeqCst);
                    give_up(&attempt, &*backend, &why).await;
                    Kept::Ended
                }
            }
        }
        .boxed()
    }

    fn redact(&self, text: &str) -> String {
        self.attempt.redactor.text(text)
    }

    fn redact_bytes(&self, bytes: &Bytes) -> Bytes {
        self.attempt.redactor.bytes(bytes)
    }
}

/// Stores entries; before them what they rest on: what the steps told and printed so far is told once only.
async fn store(
    attempt: &Attempt,
    backend: &dyn Backend,
    seq: &Mutex<u64>,
    entries: Vec<Entry>,
) -> Result<(), String> {
    if let Some(large) = entries.iter().find(|e| e.data.len() > MAX_ENTRY_BYTES) {
        return Err(format!(
            "the result of one call has {} bytes, more than {MAX_ENTRY_BYTES}",
            large.data.len()
        ));
    }
    let mut last = seq.lock().await;
    attempt.reports.settled().await;
    attempt.log.flushed().await;
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let (mut message, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = entries.next_if(|entry| {
            message.is_empty()
                || (message.len() < MAX_MESSAGE_ENTRIES
                    && bytes + entry.data.len() <= MAX_MESSAGE_BYTES)
        }) {
            bytes += entry.data.len();
            message.push(entry);
        }
        let count = message.len() as u64;
        backend.append_journal(*last + 1, message).await?;
        *last += count;
    }
    Ok(())
}

/// The job goes on without a journal: what is stored is removed, as a part of it would be worse than nothing.
async fn give_up(attempt: &Attempt, backend: &dyn Backend, why: &str) {
    if let Some(file) = &attempt.file {
        file.interrupt();
    }
    if let Err(error) = backend.clear_journal().await {
        tracing::warn!(%error, "cannot clear the journal of a job that goes on without it");
    }
    let said = format!(
        "the job goes on without a journal ({why}); if it is attempted again, it starts from the top\n"
    );
    attempt.log.append(SYSTEM, Bytes::from(said)).await;
}
