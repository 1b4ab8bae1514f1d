//! Output on its way up: numbered chunks, bounded, kept until acknowledged.
//!
//! An attempt appends; the link takes what is not sent yet, marks what is acknowledged, and starts again after a
//! reconnect from the last acknowledgement. Nothing is ever dropped while the attempt lives: a full buffer holds the
//! writer back instead.

pub mod redact;

use bytes::{Bytes, BytesMut};
use pocketci_proto::LOG_CHUNK_BYTES;
use pocketci_proto::agent as pb;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc, watch};

/// Bytes of one attempt that may wait for their acknowledgement; a writer with more waits.
const ATTEMPT_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// The same for all attempts of an agent together.
pub const AGENT_BUFFER_BYTES: usize = 64 * 1024 * 1024;
/// Chunks sent in one message.
const BATCH_CHUNKS: usize = 16;

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
    /// Room in this attempt's buffer and in the agent's.
    room: Semaphore,
    shared_room: Arc<Semaphore>,
    /// Told when there is something to send; the link's task answers by [`AttemptLog::take`].
    ready: mpsc::UnboundedSender<pb::AttemptRef>,
    acked: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    next_seq: u64,
    offsets: HashMap<Source, u64>,
    unacked: VecDeque<Chunk>,
    sent_seq: u64,
    announced: bool,
    closed: bool,
    /// Bytes that are stored already and come again, from an earlier process of this agent.
    known: HashMap<Source, u64>,
}

struct Chunk {
    seq: u64,
    source: Source,
    offset: u64,
    data: BytesMut,
    at_unix_ms: u64,
}

impl AttemptLog {
    /// An empty log. `ready` gets the attempt's reference whenever there is something new to send.
    pub fn new(
        attempt: pb::AttemptRef,
        shared_room: Arc<Semaphore>,
        ready: mpsc::UnboundedSender<pb::AttemptRef>,
    ) -> Self {
        Self {
            attempt,
            state: Mutex::default(),
            room: Semaphore::new(ATTEMPT_BUFFER_BYTES),
            shared_room,
            ready,
            acked: watch::channel(0).0,
        }
    }

    /// The log of an attempt that another process began: chunks up to `seq` are stored, and output up to these ends, which
    /// comes again from its beginning. Not PocketCI's own words: those are other ones.
    pub fn resume(&self, seq: u64, ends: impl IntoIterator<Item = (Source, u64)>) {
        self.acked.send_modify(|acked| *acked = seq);
        let mut state = self.state();
        (state.next_seq, state.sent_seq) = (seq, seq);
        for (source, end) in ends {
            state.offsets.insert(source, end);
            if source.stream != pb::log_chunk::Stream::System {
                state.known.insert(source, end);
            }
        }
    }

    /// What of the output is not stored already.
    fn unknown(&self, source: Source, mut data: Bytes) -> Bytes {
        let mut state = self.state();
        if let Some(known) = state.known.get_mut(&source) {
            let skip = data
                .len()
                .min(usize::try_from(*known).unwrap_or(usize::MAX));
            *known -= skip as u64;
            bytes::Buf::advance(&mut data, skip);
        }
        data
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends output; waits while the buffer is full, discards once the attempt is no longer ours.
    pub async fn append(&self, source: Source, data: Bytes) {
        let mut data = self.unknown(source, data);
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(LOG_CHUNK_BYTES));
            let permits = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let Ok(mine) = self.room.acquire_many(permits).await else {
                return;
            };
            let Ok(shared) = self.shared_room.acquire_many(permits).await else {
                return;
            };
            // Given back when the bytes are acknowledged.
            mine.forget();
            shared.forget();
            self.push(source, &piece);
        }
    }

    /// Adds a piece to the last chunk if that is from the same source and not sent yet, else as a new one.
    fn push(&self, source: Source, piece: &[u8]) {
        let mut state = self.state();
        if state.closed {
            self.shared_room.add_permits(piece.len());
            return;
        }
        let offset = state.offsets.entry(source).or_default();
        let at = *offset;
        *offset += piece.len() as u64;
        let sent = state.sent_seq;
        match state.unacked.back_mut() {
            Some(last)
                if last.source == source
                    && last.seq > sent
                    && last.data.len() + piece.len() <= LOG_CHUNK_BYTES =>
            {
                last.data.extend_from_slice(piece);
            }
            _ => {
                state.next_seq += 1;
                let seq = state.next_seq;
                state.unacked.push_back(Chunk {
                    seq,
                    source,
                    offset: at,
                    data: BytesMut::from(piece),
                    at_unix_ms: now_unix_ms(),
                });
            }
        }
        if !state.announced {
            state.announced = true;
            // The link ends with the agent; then nobody waits for output any more.
            let _ = self.ready.send(self.attempt.clone());
        }
    }

    /// Chunks that were not sent yet, in order, and whether there are more.
    pub fn take(&self) -> (Vec<pb::LogChunk>, bool) {
        let mut state = self.state();
        let sent = state.sent_seq;
        let first = state.unacked.partition_point(|chunk| chunk.seq <= sent);
        let chunks: Vec<pb::LogChunk> = state
            .unacked
            .iter()
            .skip(first)
            .take(BATCH_CHUNKS)
            .map(|chunk| chunk.to_wire(&self.attempt))
            .collect();
        if let Some(last) = chunks.last() {
            state.sent_seq = last.seq;
        }
        let more = state
            .unacked
            .back()
            .is_some_and(|last| last.seq > state.sent_seq);
        state.announced = more;
        (chunks, more)
    }

    /// The server has everything up to `seq`.
    pub fn acknowledge(&self, seq: u64) {
        let mut freed = 0;
        {
            let mut state = self.state();
            while state.unacked.front().is_some_and(|chunk| chunk.seq <= seq) {
                if let Some(chunk) = state.unacked.pop_front() {
                    freed += chunk.data.len();
                }
            }
            state.sent_seq = state.sent_seq.max(seq);
        }
        self.room.add_permits(freed);
        self.shared_room.add_permits(freed);
        self.acked.send_modify(|acked| *acked = (*acked).max(seq));
    }

    /// A new connection: the server has everything up to `seq`, the rest is to be sent (again).
    pub fn rewind(&self, seq: u64) {
        self.acknowledge(seq);
        let mut state = self.state();
        state.sent_seq = seq;
        state.announced = !state.unacked.is_empty();
        if state.announced {
            let _ = self.ready.send(self.attempt.clone());
        }
    }

    /// Waits until everything appended so far is acknowledged; returns the last sequence.
    pub async fn flushed(&self) -> u64 {
        let last = self.state().next_seq;
        let mut acked = self.acked.subscribe();
        // The sender lives in self, so waiting cannot fail.
        let _ = acked.wait_for(|acked| *acked >= last).await;
        last
    }

    /// The attempt is no longer ours: forgets what waits and lets writers go.
    pub fn close(&self) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.closed = true;
        let freed: usize = state.unacked.drain(..).map(|chunk| chunk.data.len()).sum();
        drop(state);
        self.room.close();
        self.shared_room.add_permits(freed);
    }
}

impl Drop for AttemptLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Chunk {
    fn to_wire(&self, attempt: &pb::AttemptRef) -> pb::LogChunk {
        pb::LogChunk {
            r#ref: Some(attempt.clone()),
            seq: self.seq,
            step: self.source.step,
            stream: self.source.stream.into(),
            offset: self.offset,
            data: Bytes::copy_from_slice(&self.data),
            at_unix_ms: self.at_unix_ms,
        }
    }
}

fn now_unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const OUT: Source = Source {
        step: 1,
        stream: pb::log_chunk::Stream::Stdout,
    };

    fn log() -> (Arc<AttemptLog>, mpsc::UnboundedReceiver<pb::AttemptRef>) {
        let (ready, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Semaphore::new(AGENT_BUFFER_BYTES));
        (
            Arc::new(AttemptLog::new(pb::AttemptRef::default(), shared, ready)),
            receiver,
        )
    }

    fn bytes(chunks: &[pb::LogChunk]) -> Vec<u8> {
        chunks
            .iter()
            .flat_map(|chunk| chunk.data.to_vec())
            .collect()
    }

    #[tokio::test]
    async fn small_writes_share_a_chunk_until_it_is_sent() {
        let (log, mut ready) = log();
        log.append(OUT, "a".into()).await;
        log.append(OUT, "b".into()).await;
        assert!(
            ready.try_recv().is_ok() && ready.try_recv().is_err(),
            "announced once"
        );
        let (chunks, more) = log.take();
        assert_eq!(
            (chunks.len(), chunks[0].seq, bytes(&chunks).as_slice(), more),
            (1, 1, &b"ab"[..], false)
        );
        log.append(OUT, "c".into()).await;
        let (chunks, _) = log.take();
        assert_eq!((chunks[0].seq, chunks[0].offset), (2, 2));
    }

    #[tokio::test]
    async fn after_a_reconnect_everything_unacknowledged_comes_again_without_holes() {
        let (log, _ready) = log();
        let text: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
        let writer = {
            let (log, text) = (log.clone(), text.clone());
            tokio::spawn(async move { log.append(OUT, text.into()).await })
        };
        writer.await.unwrap();
        let mut received = Vec::new();
        let mut last = 0;
        for round in 0.. {
            let (chunks, _) = log.take();
            if chunks.is_empty() {
                break;
            }
            for chunk in chunks {
                // What came before is dropped, as the server does.
                if chunk.seq > last {
                    assert_eq!((chunk.seq, chunk.offset), (last + 1, received.len() as u64));
                    last = chunk.seq;
                    received.extend_from_slice(&chunk.data);
                }
            }
            match round % 3 {
                0 => log.acknowledge(last),
                1 => log.rewind(last.saturating_sub(3).max(1).min(last)),
                _ => {}
            }
        }
        assert_eq!(received, text);
        log.acknowledge(last);
        assert_eq!(log.flushed().await, last);
    }

    #[tokio::test]
    async fn output_that_an_earlier_process_had_stored_is_passed_over() {
        let (log, _ready) = log();
        let system = Source {
            step: 0,
            stream: pb::log_chunk::Stream::System,
        };
        log.resume(7, [(OUT, 4), (system, 9)]);
        for piece in ["ab", "cde", "f"] {
            log.append(OUT, piece.into()).await;
        }
        log.append(system, "new".into()).await;
        let (chunks, _) = log.take();
        let told: Vec<(u64, u64, &[u8])> = chunks
            .iter()
            .map(|chunk| (chunk.seq, chunk.offset, chunk.data.as_ref()))
            .collect();
        assert_eq!(told, [(8, 4, &b"ef"[..]), (9, 9, &b"new"[..])]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_buffer_holds_the_writer_back_until_it_is_acknowledged_or_closed() {
        let (log, _ready) = log();
        let big = Bytes::from(vec![1u8; ATTEMPT_BUFFER_BYTES + 1]);
        let writer = log.clone();
        let mut writing = tokio::spawn(async move { writer.append(OUT, big).await });
        assert!(
            tokio::time::timeout(Duration::from_secs(1), &mut writing)
                .await
                .is_err()
        );
        let (chunks, _) = log.take();
        log.acknowledge(chunks.last().unwrap().seq);
        writing.await.unwrap();
        let big = Bytes::from(vec![1u8; 2 * ATTEMPT_BUFFER_BYTES]);
        let writer = log.clone();
        let writing = tokio::spawn(async move { writer.append(OUT, big).await });
        log.close();
        writing.await.unwrap();
        assert_eq!(log.shared_room.available_permits(), AGENT_BUFFER_BYTES);
    }
}
