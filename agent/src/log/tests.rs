//! Rules of a log as its writer and its link see it.

use super::*;
use room::AGENT_MEMORY_BYTES;
use std::time::Duration;

const OUT: Source = Source {
    step: 1,
    stream: pb::log_chunk::Stream::Stdout,
};
const ERR: Source = Source {
    step: 1,
    stream: pb::log_chunk::Stream::Stderr,
};

type Ready = mpsc::UnboundedReceiver<pb::AttemptRef>;

fn log_with(buffers: Buffers) -> (Arc<AttemptLog>, Ready) {
    let (ready, receiver) = mpsc::unbounded_channel();
    let log = AttemptLog::new(pb::AttemptRef::default(), Arc::new(buffers), ready);
    (Arc::new(log), receiver)
}

fn log() -> (Arc<AttemptLog>, Ready) {
    log_with(Buffers::in_memory())
}

fn spooled(dir: &std::path::Path, max_bytes: u64) -> Buffers {
    Buffers::new(&SpoolConfig {
        dir: dir.to_owned(),
        max_bytes,
        patience: DEFAULT_PATIENCE,
    })
}

/// Bytes that cannot be packed.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

/// A server that stores what comes and checks what it must.
#[derive(Default)]
struct Server {
    seq: u64,
    ends: std::collections::HashMap<(u32, i32), u64>,
    text: Vec<u8>,
    gaps: Vec<(u64, u64, String)>,
}

impl Server {
    fn store(&mut self, chunks: Vec<pb::LogChunk>) {
        for chunk in chunks {
            if chunk.seq <= self.seq {
                continue;
            }
            assert_eq!(chunk.seq, self.seq + 1, "no holes");
            self.seq = chunk.seq;
            let end = self.ends.entry((chunk.step, chunk.stream)).or_default();
            assert_eq!(chunk.offset, *end, "true offsets");
            if let Some(gap) = chunk.gap {
                *end += gap.bytes;
                self.gaps.push((chunk.offset, gap.bytes, gap.reason));
                continue;
            }
            let bytes = match chunk.encoding() {
                pb::log_chunk::Encoding::Raw => chunk.data.to_vec(),
                pb::log_chunk::Encoding::Zstd => {
                    pocketci_proto::log::unpack(&chunk.data, u64::from(chunk.size)).unwrap()
                }
            };
            *end += bytes.len() as u64;
            self.text.extend(bytes);
        }
    }

    /// Takes and acknowledges everything.
    async fn drain(&mut self, log: &AttemptLog) {
        loop {
            log.flush().await;
            let taken = log.take(true).await;
            if taken.chunks.is_empty() {
                return;
            }
            self.store(taken.chunks);
            log.acknowledge(self.seq);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sparse_output_goes_at_once_and_chatter_is_gathered_for_the_pause() {
    let (log, mut ready) = log();
    log.append(OUT, "first\n".into()).await;
    assert!(ready.try_recv().is_ok());
    let taken = log.take(true).await;
    assert_eq!((taken.chunks.len(), taken.due), (1, None), "at once");
    for _ in 0..500 {
        log.append(OUT, "chatter\n".into()).await;
    }
    assert!(
        ready.try_recv().is_ok() && ready.try_recv().is_err(),
        "asked once"
    );
    let taken = log.take(true).await;
    assert!(taken.chunks.is_empty());
    tokio::time::sleep_until(taken.due.unwrap()).await;
    let taken = log.take(true).await;
    assert_eq!(taken.chunks.len(), 1, "one chunk for 500 lines");
    let chunk = &taken.chunks[0];
    assert_eq!((chunk.seq, chunk.offset, chunk.size), (2, 6, 4000));
    assert!(chunk.data.len() < 200, "packed");
    tokio::time::sleep(PAUSE).await;
    log.append(OUT, "after a pause\n".into()).await;
    assert!(ready.try_recv().is_ok());
    assert_eq!(log.take(true).await.chunks.len(), 1, "at once again");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_step_and_a_full_chunk_do_not_wait_for_the_pause() {
    let (log, mut ready) = log();
    log.append(OUT, "a".into()).await;
    log.take(true).await;
    log.append(OUT, "b".into()).await;
    assert!(log.take(true).await.chunks.is_empty());
    while ready.try_recv().is_ok() {}
    log.flush().await;
    assert!(ready.try_recv().is_ok());
    assert_eq!(log.take(true).await.chunks.len(), 1);
    log.append(OUT, "c".into()).await;
    assert!(log.take(true).await.chunks.is_empty());
    while ready.try_recv().is_ok() {}
    log.append(OUT, noise(70_000).into()).await;
    assert!(ready.try_recv().is_ok());
    let taken = log.take(true).await;
    assert_eq!(taken.chunks.len(), 1);
    assert_eq!(taken.chunks[0].data.len(), 65_536);
}

#[tokio::test]
async fn a_server_that_knows_only_bytes_gets_bytes() {
    let (log, _ready) = log();
    let text = "a line\n".repeat(5000);
    log.append(OUT, text.clone().into()).await;
    log.gap(OUT, 12_345, "limit");
    log.flush().await;
    let chunks = log.take(false).await.chunks;
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.encoding == 0 && chunk.gap.is_none())
    );
    let shown: Vec<u8> = chunks
        .iter()
        .flat_map(|chunk| chunk.data.to_vec())
        .collect();
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.starts_with(&text) && shown.contains("[12,345 bytes of output"));
}

#[tokio::test]
async fn after_a_reconnect_everything_unacknowledged_comes_again_from_memory_and_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _ready) = log_with(spooled(dir.path(), 64 << 20));
    let text = noise(9_000_000);
    for piece in text.chunks(100_001) {
        log.append(OUT, Bytes::copy_from_slice(piece)).await;
    }
    log.flush().await;
    assert!(log.buffers.spool.used() > 6 << 20, "most is on disk");
    let mut server = Server::default();
    for round in 0.. {
        let taken = log.take(true).await;
        let lost = round % 4 == 3;
        if taken.chunks.is_empty() {
            break;
        }
        if !lost {
            server.store(taken.chunks);
        }
        match round % 4 {
            0 => log.acknowledge(server.seq),
            1 => {}
            // What was stored but not acknowledged is known to the server.
            _ => log.rewind(server.seq),
        }
    }
    log.acknowledge(server.seq);
    assert!(server.text == text && server.gaps.is_empty());
    assert_eq!(log.flushed().await, server.seq);
    assert_eq!(log.buffers.spool.used(), 0);
    assert_eq!(log.buffers.memory.available_permits(), AGENT_MEMORY_BYTES);
}

#[tokio::test]
async fn without_room_the_writer_waits_and_nothing_is_lost_if_it_comes_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _ready) = log_with(spooled(dir.path(), 1 << 20));
    let text = noise(12_000_000);
    let (writer, bytes) = (log.clone(), Bytes::from(text.clone()));
    let writing = tokio::spawn(async move { writer.append(OUT, bytes).await });
    let mut server = Server::default();
    while !writing.is_finished() {
        server.drain(&log).await;
        tokio::task::yield_now().await;
    }
    server.drain(&log).await;
    assert!(server.text == text && server.gaps.is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_long_patience_output_is_given_up_and_the_gap_is_exact() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _ready) = log_with(spooled(dir.path(), 1 << 20));
    let started = Instant::now();
    let text = noise(8_000_000);
    for piece in text.chunks(50_000) {
        log.append(OUT, Bytes::copy_from_slice(piece)).await;
    }
    let waited = started.elapsed();
    assert!(
        waited >= DEFAULT_PATIENCE && waited < 2 * DEFAULT_PATIENCE,
        "once: {waited:?}"
    );
    let mut server = Server::default();
    server.drain(&log).await;
    log.append(OUT, "and on".into()).await;
    log.append(ERR, "err".into()).await;
    server.drain(&log).await;
    let (at, bytes, reason) = server.gaps.pop().unwrap();
    assert_eq!((server.gaps.len(), reason.as_str()), (0, "spool_full"));
    let at = at as usize;
    assert!(at > 3_000_000, "memory and spool were used: {at}");
    assert_eq!(at + bytes as usize, text.len());
    assert!(server.text[..at] == text[..at]);
    assert_eq!(&server.text[at..], b"and onerr");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_written_holds_back_and_then_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let (log, _ready) = log_with(spooled(&file, 64 << 20));
    let text = noise(6_000_000);
    log.append(OUT, text.clone().into()).await;
    let mut server = Server::default();
    server.drain(&log).await;
    let (at, bytes, reason) = server.gaps.pop().unwrap();
    assert_eq!((server.gaps.len(), reason.as_str()), (0, "spool_failed"));
    assert_eq!(at + bytes, text.len() as u64);
    assert!(server.text == text[..at as usize] && at > 2_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_closed_log_lets_its_writer_go_and_gives_everything_back() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _ready) = log_with(spooled(dir.path(), 1 << 20));
    let writer = log.clone();
    let mut writing =
        tokio::spawn(async move { writer.append(OUT, noise(9_000_000).into()).await });
    let soon = tokio::time::timeout(Duration::from_secs(1), &mut writing);
    assert!(soon.await.is_err(), "it waits");
    log.close();
    writing.await.unwrap();
    assert_eq!(log.buffers.memory.available_permits(), AGENT_MEMORY_BYTES);
    assert_eq!(log.buffers.spool.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_attempts_flood_does_not_take_what_another_one_says() {
    let (flood, _ready) = log();
    let (ready, _other_ready) = mpsc::unbounded_channel();
    let reference = pb::AttemptRef::default();
    let other = AttemptLog::new(reference, flood.buffers.clone(), ready);
    flood.append(OUT, noise(6_000_000).into()).await;
    other.append(OUT, "still heard".into()).await;
    let mut server = Server::default();
    server.drain(&other).await;
    assert_eq!(server.text, b"still heard");
}

#[tokio::test]
async fn a_log_goes_on_where_another_process_ended() {
    let (log, _ready) = log();
    let system = Source {
        step: 0,
        stream: pb::log_chunk::Stream::System,
    };
    let mixed = Source { step: 8, ..OUT };
    log.resume(41, [(OUT, 4), (system, 9), (mixed, 2)]);
    log.comes_again(OUT.step);
    // A step's output comes again from its beginning, what is said of it does not.
    for piece in ["ab", "cde"] {
        log.append(OUT, piece.into()).await;
    }
    log.append(system, "new".into()).await;
    // Of a step that is not gone on with, nothing comes again.
    log.append(mixed, "xyz".into()).await;
    log.flush().await;
    let chunks = log.take(true).await.chunks;
    let told: Vec<(u64, u64)> = chunks
        .iter()
        .map(|chunk| (chunk.seq, chunk.offset))
        .collect();
    assert_eq!(told, [(42, 4), (43, 9), (44, 2)]);
    assert_eq!(chunks[2].data, "xyz");
    log.acknowledge(44);
    assert_eq!(log.flushed().await, 44);
}
