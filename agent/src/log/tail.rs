//! The output of one stream of a step within `--max-step-output`: the first half at once, of the rest the last half,
//! when the step has ended, with a declared gap between them.

use super::Buffers;
use super::spool::Slot;
use bytes::Bytes;
use pocketci_proto::LOG_CHUNK_BYTES;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of a tail that stay in memory; a longer one is on the disk, or is no longer than this if there is none.
const MEMORY_BYTES: u64 = 1 << 20;

/// See the module.
pub struct HeadAndTail {
    head_left: u64,
    tail: Tail,
    buffers: Arc<Buffers>,
}

/// The last bytes of what was put in.
struct Tail {
    capacity: u64,
    written: u64,
    place: Place,
}

enum Place {
    Memory(VecDeque<u8>),
    /// A ring: the byte that was put in as number n is at n modulo the capacity.
    Disk(Slot),
}

/// The output that was held back.
pub struct Rest {
    /// Bytes that are lost, before it.
    pub gap: u64,
    tail: Tail,
    at: u64,
}

impl HeadAndTail {
    /// For a limit in bytes.
    pub fn new(limit: u64, buffers: Arc<Buffers>) -> Self {
        let head = limit.div_ceil(2);
        Self {
            head_left: head,
            tail: Tail {
                capacity: limit - head,
                written: 0,
                place: Place::Memory(VecDeque::new()),
            },
            buffers,
        }
    }

    /// Takes output; returns what is to be shown now, and whether this is where output begins to be held back.
    pub async fn push(&mut self, mut bytes: Bytes) -> (Bytes, bool) {
        let fits = usize::try_from(self.head_left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let head = bytes.split_to(fits);
        self.head_left -= fits as u64;
        let begins = !bytes.is_empty() && self.tail.written == 0;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(LOG_CHUNK_BYTES));
            self.tail.put(piece, &self.buffers).await;
        }
        (head, begins)
    }

    /// The step has ended.
    pub fn finish(self) -> Rest {
        let kept = self.tail.kept();
        let gap = self.tail.written - kept;
        Rest {
            gap,
            at: gap,
            tail: self.tail,
        }
    }
}

impl Rest {
    /// The next piece of the tail; `None` at its end. Bytes that the disk does not give back are an error with their
    /// number: they are lost too.
    pub async fn next(&mut self) -> Option<Result<Bytes, u64>> {
        let left = self.tail.written - self.at;
        if left == 0 {
            return None;
        }
        let mut size = left.min(LOG_CHUNK_BYTES as u64);
        let read = match &mut self.tail.place {
            Place::Memory(bytes) => {
                let piece: Vec<u8> = bytes.drain(..usize::try_from(size).unwrap_or(0)).collect();
                Ok(piece)
            }
            Place::Disk(slot) => {
                let from = self.at % self.tail.capacity;
                size = size.min(self.tail.capacity - from);
                let (slot, len) = (slot.clone(), usize::try_from(size).unwrap_or(0));
                blocking(move || slot.read(from, len)).await
            }
        };
        self.at += size;
        Some(read.map(Bytes::from).map_err(|error| {
            tracing::error!(%error, "cannot read a step's output from the spool");
            size
        }))
    }
}

impl Tail {
    fn kept(&self) -> u64 {
        match &self.place {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::Disk(_) => self.written.min(self.capacity),
        }
    }

    async fn put(&mut self, piece: Bytes, buffers: &Buffers) {
        if self.capacity == 0 {
            self.written += piece.len() as u64;
            return;
        }
        if let Place::Memory(bytes) = &mut self.place {
            let full = bytes.len() as u64 + piece.len() as u64 > MEMORY_BYTES;
            if !(full && self.capacity > MEMORY_BYTES && self.move_to_disk(buffers).await) {
                self.put_in_memory(&piece);
                return;
            }
        }
        if self.put_on_disk(piece.clone()).await.is_err() {
            // What it holds is lost, and counted as such.
            self.place = Place::Memory(VecDeque::new());
            self.capacity = MEMORY_BYTES;
            self.put_in_memory(&piece);
        }
    }

    fn put_in_memory(&mut self, piece: &[u8]) {
        if let Place::Memory(bytes) = &mut self.place {
            bytes.extend(piece);
            let surplus = (bytes.len() as u64).saturating_sub(self.capacity);
            bytes.drain(..usize::try_from(surplus).unwrap_or(0));
            self.written += piece.len() as u64;
        }
    }

    /// `false` if there is no disk; then the tail stays short.
    async fn move_to_disk(&mut self, buffers: &Buffers) -> bool {
        let Place::Memory(bytes) = &mut self.place else {
            return true;
        };
        let first = Bytes::from(Vec::from(std::mem::take(bytes)));
        let Some(slot) = buffers.spool.whole(self.capacity) else {
            self.stay_in_memory(&first);
            return false;
        };
        // Nothing was dropped so far, so the ring begins with byte 0.
        self.place = Place::Disk(slot);
        self.written = 0;
        if self.put_on_disk(first.clone()).await.is_err() {
            self.stay_in_memory(&first);
            return false;
        }
        true
    }

    fn stay_in_memory(&mut self, kept: &[u8]) {
        self.place = Place::Memory(kept.iter().copied().collect());
        self.capacity = MEMORY_BYTES;
        self.written = kept.len() as u64;
    }

    async fn put_on_disk(&mut self, piece: Bytes) -> std::io::Result<()> {
        let Place::Disk(slot) = &self.place else {
            return Ok(());
        };
        let (slot, capacity, written) = (slot.clone(), self.capacity, self.written);
        let len = piece.len() as u64;
        blocking(move || {
            let surplus = len.saturating_sub(capacity);
            let mut at = written + surplus;
            let mut rest = &piece[usize::try_from(surplus).unwrap_or(0)..];
            while !rest.is_empty() {
                let from = at % capacity;
                let room = usize::try_from(capacity - from).unwrap_or(usize::MAX);
                let (now, later) = rest.split_at(rest.len().min(room));
                slot.write(from, now)?;
                at += now.len() as u64;
                rest = later;
            }
            Ok(())
        })
        .await?;
        self.written += len;
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => Err(std::io::Error::other(ended)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DEFAULT_PATIENCE, SpoolConfig};
    use super::*;

    fn on_disk(max_bytes: u64) -> (tempfile::TempDir, Arc<Buffers>) {
        let dir = tempfile::tempdir().unwrap();
        let config = SpoolConfig {
            dir: dir.path().to_owned(),
            max_bytes,
            patience: DEFAULT_PATIENCE,
        };
        (dir, Arc::new(Buffers::new(&config)))
    }

    /// What is shown at once, the gap, and what is shown in the end.
    async fn through(limit: u64, text: &[u8], buffers: Arc<Buffers>) -> (Vec<u8>, u64, Vec<u8>) {
        let mut kept = HeadAndTail::new(limit, buffers);
        let mut head = Vec::new();
        for piece in text.chunks(50_000) {
            head.extend(kept.push(Bytes::copy_from_slice(piece)).await.0);
        }
        let mut rest = kept.finish();
        let mut tail = Vec::new();
        while let Some(piece) = rest.next().await {
            tail.extend(piece.unwrap());
        }
        (head, rest.gap, tail)
    }

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n / 251) as u8).collect()
    }

    #[tokio::test]
    async fn output_within_the_limit_is_whole() {
        for len in [0, 1, 9, 10] {
            let text = text(len);
            let (head, gap, tail) = through(10, &text, Arc::new(Buffers::in_memory())).await;
            assert_eq!(([head, tail].concat(), gap), (text, 0));
        }
    }

    #[tokio::test]
    async fn beyond_it_head_and_tail_are_kept_to_the_byte_in_memory_and_on_disk() {
        let text = text(9_999_999);
        for limit in [0, 1, 1001, 900_000, 5_000_001] {
            let (_dir, buffers) = on_disk(1 << 30);
            let (head, gap, tail) = through(limit, &text, buffers.clone()).await;
            let half = (limit / 2) as usize;
            assert!(head == text[..(limit as usize) - half], "{limit}");
            assert!(tail == text[text.len() - half..], "{limit}");
            assert_eq!(gap, text.len() as u64 - limit);
            assert_eq!(buffers.spool.used(), 0);
        }
    }

    #[tokio::test]
    async fn without_a_disk_the_tail_is_shorter_and_the_gap_says_so() {
        let text = text(9_999_999);
        let (_dir, small) = on_disk(1000);
        for buffers in [small, Arc::new(Buffers::in_memory())] {
            let (head, gap, tail) = through(6_000_000, &text, buffers).await;
            assert_eq!(head.len(), 3_000_000);
            assert_eq!(tail.len() as u64, MEMORY_BYTES);
            assert!(tail == text[text.len() - tail.len()..]);
            assert_eq!(head.len() as u64 + gap + tail.len() as u64, 9_999_999);
        }
    }
}
