//! Output on its way up: gathered, numbered, packed, bounded, kept until acknowledged.
//!
//! An attempt appends; the link takes what is not sent yet, marks what is acknowledged, and starts again after a
//! reconnect from the last acknowledgement. What the memory cannot hold goes to the disk; when that is full as well the
//! writer is held back, and only after long patience output is given up, which the log then says to the byte.
//!
//! Output is numbered when it is full, when a step begins or ends, or when the link takes it: at once after a pause,
//! else [`PAUSE`] after the last time, so that sparse output is seen at once and chatter travels in large chunks.

mod chunk;
mod gather;
mod place;
pub mod redact;
mod room;
mod spool;
pub mod tail;

pub use room::{Buffers, DEFAULT_PATIENCE};
pub use spool::{DEFAULT_SPOOL_BYTES, SpoolConfig, default_dir};

use bytes::Bytes;
use chunk::{Body, Chunk};
use gather::Gather;
use pocketci_proto::agent as pb;
use room::ATTEMPT_MEMORY_BYTES;
use spool::Segment;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

/// Chunks sent in one message.
const BATCH_CHUNKS: usize = 16;
/// Small writes are gathered for so long.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Which output of a step (0 is the job itself).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// From 1; 0 is the job itself.
    pub step: u32,
    /// Standard output, standard error, or PocketCI's own words.
    pub stream: pb::log_chunk::Stream,
}

/// The log of one attempt.
pub struct AttemptLog {
    attempt: pb::AttemptRef,
    state: Mutex<State>,
    /// Memory for this attempt's chunks.
    memory: Semaphore,
    buffers: Arc<Buffers>,
    /// Told when there is something to send; the link's task answers by [`AttemptLog::take`].
    ready: mpsc::UnboundedSender<pb::AttemptRef>,
    acked: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    next_seq: u64,
    gather: Gather,
    unacked: VecDeque<Chunk>,
    segment: Option<Arc<Segment>>,
    sent_seq: u64,
    /// A call of `take` is asked for.
    announced: bool,
    /// When `take` will be called without being asked for.
    due: Option<Instant>,
    /// When gathered output was last numbered.
    numbered: Option<Instant>,
    /// Chunks in memory that have no permits, as the disk failed; until they have gone nothing more goes that way.
    overdrafts: usize,
    /// Patience has run out; output is given up until there is room.
    giving_up: bool,
    closed: bool,
    /// Bytes that are stored already and come again, from an earlier process of this agent.
    known: HashMap<Source, u64>,
    /// Bytes of steps that it stored; they come again where the step is gone on with.
    stored: HashMap<Source, u64>,
}

/// What there is to send.
pub struct Taken {
    /// In order.
    pub chunks: Vec<pb::LogChunk>,
    /// There are more, now.
    pub more: bool,
    /// When to take again although nobody asks.
    pub due: Option<Instant>,
}

impl AttemptLog {
    /// An empty log. `ready` gets the attempt's reference whenever there is something new to send.
    pub fn new(
        attempt: pb::AttemptRef,
        buffers: Arc<Buffers>,
        ready: mpsc::UnboundedSender<pb::AttemptRef>,
    ) -> Self {
        Self {
            attempt,
            state: Mutex::default(),
            memory: Semaphore::new(ATTEMPT_MEMORY_BYTES),
            buffers,
            ready,
            acked: watch::channel(0).0,
        }
    }

    /// The log of an attempt that another process began: chunks up to `seq` are stored, and output up to these ends. The
    /// program's own comes again from its beginning, a step's if it [comes again](Self::comes_again). Not PocketCI's own
    /// words: those are other ones.
    pub fn resume(&self, seq: u64, ends: impl IntoIterator<Item = (Source, u64)>) {
        self.acked.send_modify(|acked| *acked = (*acked).max(seq));
        let mut state = self.state();
        (state.next_seq, state.sent_seq) = (seq, seq);
        let ends: Vec<_> = ends.into_iter().collect();
        state.gather.continue_at(ends.iter().copied());
        let output = ends
            .into_iter()
            .filter(|(source, _)| source.stream != pb::log_chunk::Stream::System);
        let (program, steps): (Vec<_>, Vec<_>) = output.partition(|(source, _)| source.step == 0);
        state.known.extend(program);
        state.stored.extend(steps);
    }

    /// The step is gone on with: its output comes again from its beginning.
    pub fn comes_again(&self, step: u32) {
        let mut state = self.state();
        let State { known, stored, .. } = &mut *state;
        known.extend(stored.extract_if(|source, _| source.step == step));
    }

    /// The program starts from the top: what comes is new.
    pub fn comes_anew(&self) {
        let mut state = self.state();
        state.known.clear();
        state.stored.clear();
    }

    /// What of the output is not stored already.
    fn unknown(&self, source: Source, mut data: Bytes) -> Bytes {
        let skipped = self.skip_known(source, data.len() as u64);
        bytes::Buf::advance(&mut data, usize::try_from(skipped).unwrap_or(0));
        data
    }

    /// How many of the next bytes of a stream are stored already.
    fn skip_known(&self, source: Source, bytes: u64) -> u64 {
        let mut state = self.state();
        let Some(known) = state.known.get_mut(&source) else {
            return 0;
        };
        let skipped = bytes.min(*known);
        *known -= skipped;
        skipped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, state: &mut State) {
        if !state.announced {
            state.announced = true;
            // The link ends with the agent; then nobody waits for output any more.
            let _ = self.ready.send(self.attempt.clone());
        }
    }

    /// The room that it shares with other attempts.
    pub fn buffers(&self) -> &Arc<Buffers> {
        &self.buffers
    }

    /// Appends output. Waits while there is no room for it, gives it up when that takes too long, discards it once the
    /// attempt is no longer ours.
    pub async fn append(&self, source: Source, data: Bytes) {
        let mut data = self.unknown(source, data);
        while !data.is_empty() {
            if !self.room().await {
                let mut state = self.state();
                let reason = self.buffers.spool.why();
                state.gather.gap(source, data.len() as u64, reason);
                return;
            }
            let spills = {
                let mut state = self.state();
                if state.closed {
                    return;
                }
                state.gather.push(source, &mut data);
                let ready = state.gather.ready();
                let spills = self.number(&mut state, ready);
                if ready > 0 || state.due.is_none() {
                    self.announce(&mut state);
                }
                spills
            };
            self.spill(spills).await;
        }
    }

    /// `bytes` of the stream are lost; what is appended next comes behind them.
    pub fn gap(&self, source: Source, bytes: u64, reason: &'static str) {
        let bytes = bytes - self.skip_known(source, bytes);
        let mut state = self.state();
        if !state.closed && bytes > 0 {
            state.gather.gap(source, bytes, reason);
            self.announce(&mut state);
        }
    }

    /// Everything appended so far is to be seen now: a step begins or ends.
    pub async fn flush(&self) {
        let spills = {
            let mut state = self.state();
            let all = state.gather.len();
            let spills = self.number(&mut state, all);
            if state.next_seq > state.sent_seq {
                self.announce(&mut state);
            }
            spills
        };
        self.spill(spills).await;
    }

    /// Chunks that were not sent yet. `packed`: the server understands packed chunks and gaps.
    pub async fn take(&self, packed: bool) -> Taken {
        let spills = {
            let mut state = self.state();
            let now = Instant::now();
            if state.due.is_some_and(|due| due <= now) {
                state.due = None;
            }
            state.announced = false;
            let is_due = state.numbered.is_none_or(|last| last + PAUSE <= now);
            let count = if is_due {
                state.gather.len()
            } else {
                state.gather.ready()
            };
            self.number(&mut state, count)
        };
        self.spill(spills).await;
        let (chunks, more, due) = self.next_batch();
        let chunks = load(chunks).await;
        let wire = |chunk: Chunk| chunk.into_wire(&self.attempt, packed);
        Taken {
            chunks: chunks.into_iter().map(wire).collect(),
            more,
            due,
        }
    }

    fn next_batch(&self) -> (Vec<Chunk>, bool, Option<Instant>) {
        let mut state = self.state();
        let sent = state.sent_seq;
        let first = state.unacked.partition_point(|chunk| chunk.seq <= sent);
        let unsent = state.unacked.iter().skip(first).take(BATCH_CHUNKS);
        let chunks: Vec<Chunk> = unsent.cloned().collect();
        if let Some(last) = chunks.last() {
            state.sent_seq = last.seq;
        }
        let newest = state.unacked.back().map_or(0, |last| last.seq);
        let more = newest > state.sent_seq;
        // The caller comes again by itself.
        state.announced |= more;
        let now = Instant::now();
        let waits = state.due.is_none() && !more && !state.gather.is_empty();
        let due = waits.then(|| match state.numbered.map(|last| last + PAUSE) {
            Some(due) if due > now => due,
            // There was no room.
            _ => now + PAUSE,
        });
        state.due = state.due.or(due);
        (chunks, more, due)
    }

    /// The server has everything up to `seq`.
    pub fn acknowledge(&self, seq: u64) {
        let mut freed = 0;
        {
            let mut state = self.state();
            while state.unacked.front().is_some_and(|chunk| chunk.seq <= seq) {
                if let Some(chunk) = state.unacked.pop_front() {
                    freed += chunk.charge;
                    state.overdrafts -= usize::from(chunk.overdraft);
                }
            }
            if state.unacked.is_empty() {
                state.segment = None;
            }
            state.sent_seq = state.sent_seq.max(seq);
            if !state.gather.is_empty() && state.due.is_none() {
                self.announce(&mut state);
            }
        }
        self.free(freed);
        self.acked.send_modify(|acked| *acked = (*acked).max(seq));
    }

    fn free(&self, charge: usize) {
        self.memory.add_permits(charge);
        self.buffers.memory.add_permits(charge);
        self.buffers.freed.notify_waiters();
    }

    /// A new connection: the server has everything up to `seq`, the rest is to be sent (again).
    pub fn rewind(&self, seq: u64) {
        self.acknowledge(seq);
        let mut state = self.state();
        state.sent_seq = seq;
        state.due = None;
        state.announced = false;
        if !state.unacked.is_empty() || !state.gather.is_empty() {
            self.announce(&mut state);
        }
    }

    /// Waits until everything appended so far is acknowledged; returns the last sequence.
    pub async fn flushed(&self) -> u64 {
        let mut acked = self.acked.subscribe();
        loop {
            let freed = self.buffers.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            self.flush().await;
            let (last, whole) = {
                let state = self.state();
                (state.next_seq, state.gather.is_empty() && !state.closed)
            };
            if whole {
                // The sender lives in self, so waiting cannot fail.
                let _ = acked.wait_for(|acked| *acked >= last).await;
                return last;
            }
            freed.await;
        }
    }

    /// The attempt is no longer ours: forgets what waits and lets writers go.
    pub fn close(&self) {
        let freed = {
            let mut state = self.state();
            if state.closed {
                return;
            }
            state.closed = true;
            state.overdrafts = 0;
            state.gather.clear();
            state.segment = None;
            state
                .unacked
                .drain(..)
                .map(|chunk| chunk.charge)
                .sum::<usize>()
        };
        self.free(freed);
    }
}

impl State {
    /// An unacknowledged chunk; they are numbered without holes.
    fn chunk(&mut self, seq: u64) -> Option<&mut Chunk> {
        let first = self.unacked.front()?.seq;
        let at = usize::try_from(seq.checked_sub(first)?).ok()?;
        self.unacked.get_mut(at)
    }
}

impl Drop for AttemptLog {
    fn drop(&mut self) {
        self.close();
    }
}

/// The chunks with their bytes in memory.
async fn load(mut chunks: Vec<Chunk>) -> Vec<Chunk> {
    let on_disk = chunks
        .iter()
        .any(|chunk| matches!(chunk.body, Body::Disk(_)));
    if !on_disk {
        return chunks;
    }
    let loading = tokio::task::spawn_blocking(move || {
        chunks.iter_mut().for_each(Chunk::load);
        chunks
    });
    // It fails only when the process ends.
    loading.await.unwrap_or_default()
}

#[cfg(test)]
mod tests;
