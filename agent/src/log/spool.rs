//! Output on disk: segments that are written once, read in any order and gone when their last reader is.
//!
//! A segment's file has no name from the moment it is made, so nothing of it outlives the process, however that ends.
//! The bytes count against the spool's limit until the segment goes.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of all attempts that an agent keeps on disk unless the operator says otherwise.
pub const DEFAULT_SPOOL_BYTES: u64 = 1 << 30;
/// Bytes in one file; the space of a file comes back when all of it is acknowledged.
const SEGMENT_BYTES: u64 = 8 << 20;
/// A small spool has at least so many segments, so that its space comes back in parts.
const MIN_SEGMENTS: u64 = 8;
/// After a failure the disk is left alone for so long.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Names of files begin with it, then the process id, for the moment that they have one.
const PREFIX: &str = "pocketci-spool-";

/// What the operator says about the spool.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    /// The folder; made if it is missing.
    pub dir: PathBuf,
    /// Most bytes in it; 0 for none.
    pub max_bytes: u64,
    /// How long a step is held back when memory and spool are full, before its output is given up.
    pub patience: Duration,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            dir: default_dir(),
            max_bytes: DEFAULT_SPOOL_BYTES,
            patience: super::DEFAULT_PATIENCE,
        }
    }
}

/// A folder of this user's on a disk: `/tmp` is memory on many machines.
pub fn default_dir() -> PathBuf {
    let parent = match std::env::var_os("TMPDIR") {
        Some(dir) => PathBuf::from(dir),
        None => Some(PathBuf::from("/var/tmp"))
            .filter(|dir| dir.is_dir())
            .unwrap_or_else(std::env::temp_dir),
    };
    parent.join(format!("{PREFIX}{}", nix::unistd::getuid()))
}

/// The disk of one agent.
#[derive(Clone)]
pub(super) struct Spool {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    max_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    /// The disk failed and is not asked before this.
    failed_until: Option<Instant>,
    /// The last write failed.
    failing: bool,
}

/// A file of the spool, and its place in the limit.
pub(super) struct Segment {
    shared: Arc<Shared>,
    file: OnceLock<File>,
    capacity: u64,
    /// Bytes given away.
    given: Mutex<u64>,
}

/// A place in a segment.
#[derive(Clone)]
pub(super) struct Slot {
    segment: Arc<Segment>,
    at: u64,
    len: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spool {
    pub(super) fn open(config: &SpoolConfig) -> Self {
        if config.max_bytes > 0 {
            sweep(&config.dir);
        }
        Self {
            shared: Arc::new(Shared {
                dir: config.dir.clone(),
                max_bytes: config.max_bytes,
                state: Mutex::default(),
            }),
        }
    }

    /// A place for `len` bytes behind those in `current`, or in a new segment; `None` if the spool is full or failed.
    pub(super) fn slot(&self, current: &mut Option<Arc<Segment>>, len: usize) -> Option<Slot> {
        if !self.shared.reserve(len as u64) {
            return None;
        }
        if let Some(slot) = current.as_ref().and_then(|segment| segment.give(len)) {
            return Some(slot);
        }
        let capacity = (self.shared.max_bytes / MIN_SEGMENTS).min(SEGMENT_BYTES);
        let segment = Arc::new(Segment {
            shared: self.shared.clone(),
            file: OnceLock::new(),
            capacity: capacity.max(len as u64),
            given: Mutex::new(0),
        });
        let slot = segment.give(len);
        *current = Some(segment);
        slot
    }

    /// A segment of its own with all of its bytes given: the caller says what stands where.
    pub(super) fn whole(&self, len: u64) -> Option<Slot> {
        let len = usize::try_from(len).ok()?;
        self.slot(&mut None, len)
    }

    /// Why there is no slot.
    pub(super) fn why(&self) -> &'static str {
        if lock(&self.shared.state).failing {
            "spool_failed"
        } else {
            "spool_full"
        }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        lock(&self.shared.state).used
    }
}

impl Shared {
    fn is_failed(&self) -> bool {
        lock(&self.state)
            .failed_until
            .is_some_and(|until| Instant::now() < until)
    }

    fn reserve(&self, len: u64) -> bool {
        if self.is_failed() {
            return false;
        }
        let mut state = lock(&self.state);
        let fits = state.used.saturating_add(len) <= self.max_bytes;
        if fits {
            state.used += len;
        }
        fits
    }

    fn failed(&self, error: &io::Error) {
        let mut state = lock(&self.state);
        state.failed_until = Some(Instant::now() + RETRY_AFTER);
        if !std::mem::replace(&mut state.failing, true) {
            tracing::warn!(
                %error,
                dir = %self.dir.display(),
                "cannot use the spool; output that does not fit into memory holds its step back, then is given up"
            );
        }
    }

    fn create(&self) -> io::Result<File> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let made = tempfile::Builder::new()
            .prefix(&prefix)
            .tempfile_in(&self.dir)?;
        let (file, path) = made.into_parts();
        path.close()?;
        Ok(file)
    }
}

impl Segment {
    fn give(self: &Arc<Self>, len: usize) -> Option<Slot> {
        let mut given = lock(&self.given);
        let at = *given;
        if at + len as u64 > self.capacity {
            return None;
        }
        *given += len as u64;
        Some(Slot {
            segment: self.clone(),
            at,
            len,
        })
    }

    fn file(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let made = self.shared.create()?;
        // Whoever made another one meanwhile was first.
        Ok(self.file.get_or_init(|| made))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let given = *lock(&self.given);
        let mut state = lock(&self.shared.state);
        state.used = state.used.saturating_sub(given);
    }
}

impl Slot {
    /// Writes `bytes` at `from` within the slot; blocks. A failure is the whole spool's.
    pub(super) fn write(&self, from: u64, bytes: &[u8]) -> io::Result<()> {
        let written = self
            .segment
            .file()
            .and_then(|file| file.write_all_at(bytes, self.at + from));
        match &written {
            Ok(()) => lock(&self.segment.shared.state).failing = false,
            Err(error) => self.segment.shared.failed(error),
        }
        written
    }

    /// Reads `len` bytes at `from` within the slot; blocks.
    pub(super) fn read(&self, from: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let file = self.segment.file()?;
        file.read_exact_at(&mut bytes, self.at + from)?;
        Ok(bytes)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// Removes files of processes that were killed while they made them.
fn sweep(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok());
        let is_dead = pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
        if is_dead && let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::debug!(%error, %name, "cannot remove a left file of a spool");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(dir: &Path, max_bytes: u64) -> Spool {
        Spool::open(&SpoolConfig {
            dir: dir.to_owned(),
            max_bytes,
            patience: Duration::ZERO,
        })
    }

    #[test]
    fn bytes_come_back_from_where_they_were_written_and_leave_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(&dir.path().join("made"), 1 << 20);
        let mut current = None;
        let slots: Vec<Slot> = (0..40u8)
            .map(|n| {
                let slot = spool.slot(&mut current, 10_000).unwrap();
                slot.write(0, &[n; 10_000]).unwrap();
                slot
            })
            .collect();
        assert_eq!(spool.used(), 400_000);
        for (n, slot) in slots.iter().enumerate().rev() {
            assert_eq!(slot.read(0, slot.len()).unwrap(), [n as u8; 10_000]);
        }
        let named = std::fs::read_dir(dir.path().join("made")).unwrap();
        assert_eq!(named.count(), 0);
        drop((slots, current));
        assert_eq!(spool.used(), 0);
    }

    #[test]
    fn the_limit_holds_and_space_comes_back_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(dir.path(), 80_000);
        let mut current = None;
        let mut slots: Vec<Slot> = std::iter::from_fn(|| spool.slot(&mut current, 5_000)).collect();
        assert_eq!(slots.len(), 16);
        assert_eq!(spool.why(), "spool_full");
        slots.drain(..2);
        assert_eq!(spool.used(), 70_000, "a segment has a part of the limit");
        assert!(spool.slot(&mut current, 5_000).is_some());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_a_failed_spool() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let spool = spool(&file, 80_000);
        let slot = spool.slot(&mut None, 10).unwrap();
        assert!(slot.write(0, &[1; 10]).is_err());
        assert_eq!(spool.why(), "spool_failed");
        assert!(spool.slot(&mut None, 10).is_none());
    }

    #[test]
    fn files_of_dead_processes_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        // No process has the highest number that the kernel can give.
        let dead = dir.path().join("pocketci-spool-4194305-x");
        let living = dir
            .path()
            .join(format!("pocketci-spool-{}-x", std::process::id()));
        let foreign = dir.path().join("notes");
        for file in [&dead, &living, &foreign] {
            std::fs::write(file, "x").unwrap();
        }
        spool(dir.path(), 1);
        assert!(!dead.exists() && living.exists() && foreign.exists());
    }
}
