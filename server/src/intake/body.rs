//! A request's body: in memory while it is small, else in a file without a name while the request is looked at.

use super::admit::DiskBudget;
use crate::model::body::MAX_INLINE_BYTES;
use crate::store::StoreError;
use bytes::{Bytes, BytesMut};
use pocketci_proto::PAGE_BYTES;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;

/// A whole body, with its digest; clones share the bytes. The bytes may be secret: no Debug.
#[derive(Clone)]
pub struct Body {
    place: Place,
    len: u64,
    sha256: [u8; 32],
}

#[derive(Clone)]
enum Place {
    Memory(Bytes),
    Spilled(Arc<Spilled>),
}

/// Gone with its last holder: nothing else has its name.
struct Spilled {
    file: File,
    unreadable: AtomicBool,
    _room: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// SHA-256 of all of it.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// All of it, if it is in memory.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.place {
            Place::Memory(bytes) => Some(bytes),
            Place::Spilled(_) => None,
        }
    }

    /// All of it, at most [`PAGE_BYTES`] at a time; reads the disk where it was spilled, which blocks for a moment.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks { body: self, at: 0 }
    }

    /// All of it at once, for what cannot be done piece by piece.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        if let Place::Memory(bytes) = &self.place {
            return Ok(bytes.clone());
        }
        let mut whole = BytesMut::new();
        for chunk in self.chunks() {
            whole.extend_from_slice(&chunk?);
        }
        Ok(whole.freeze())
    }

    /// Whether some of it could not be read back: nothing that was concluded from its bytes holds.
    pub fn is_unreadable(&self) -> bool {
        match &self.place {
            Place::Memory(_) => false,
            Place::Spilled(spilled) => spilled.unreadable.load(Ordering::Relaxed),
        }
    }

    /// Does `work`, which reads the body: where others may wait, if the body is on the disk.
    ///
    /// # Errors
    /// The work panicked.
    pub async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.place {
            Place::Memory(_) => Ok(work()),
            Place::Spilled(_) => tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| StoreError::Internal(error.into())),
        }
    }

    /// At most [`PAGE_BYTES`] from there on; empty at the end.
    fn read(&self, at: u64) -> io::Result<Bytes> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let count = left.min(PAGE_BYTES);
        match &self.place {
            Place::Memory(bytes) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(at..at + count))
            }
            Place::Spilled(spilled) => {
                let mut page = vec![0; count];
                if let Err(error) = spilled.file.read_exact_at(&mut page, at) {
                    spilled.unreadable.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                Ok(page.into())
            }
        }
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Self {
        let bytes = bytes.into();
        Self {
            len: bytes.len() as u64,
            sha256: Sha256::digest(&bytes).into(),
            place: Place::Memory(bytes),
        }
    }
}

/// See [`Body::chunks`].
pub struct Chunks<'a> {
    body: &'a Body,
    at: u64,
}

impl Iterator for Chunks<'_> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.body.read(self.at) {
            Ok(page) if page.is_empty() => None,
            Ok(page) => {
                self.at += page.len() as u64;
                Some(Ok(page))
            }
            Err(error) => {
                self.at = self.body.len;
                Some(Err(error))
            }
        }
    }
}

/// Why a body is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// All bodies on disk together are as large as they may be.
    #[error("too many bytes of request bodies are on the disk; try again")]
    Full,
    /// The temporary folder does not take it.
    #[error("cannot keep a request's body in the temporary folder (see TMPDIR)")]
    Disk(#[source] io::Error),
}

/// A body on its way. Dropped, nothing is left of it.
pub struct Collector {
    budget: DiskBudget,
    digest: Sha256,
    len: u64,
    /// Most bodies come in one piece, which needs no copy.
    first: Option<Bytes>,
    gathered: BytesMut,
    spilling: Option<Spilling>,
}

struct Spilling {
    file: tokio::fs::File,
    room: Option<OwnedSemaphorePermit>,
    counted: u64,
}

impl Collector {
    /// What does not fit in memory takes from this budget.
    pub fn new(budget: DiskBudget) -> Self {
        Self {
            budget,
            digest: Sha256::new(),
            len: 0,
            first: None,
            gathered: BytesMut::new(),
            spilling: None,
        }
    }

    /// Whether further bytes go to the disk.
    pub fn is_spilling(&self) -> bool {
        self.spilling.is_some()
    }

    /// Whether this many more bytes would be kept in memory.
    pub fn fits_memory(&self, more: usize) -> bool {
        self.spilling.is_none() && self.len + more as u64 <= MAX_INLINE_BYTES as u64
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next bytes.
    ///
    /// # Errors
    /// See [`SpillError`].
    pub async fn push(&mut self, data: Bytes) -> Result<(), SpillError> {
        self.digest.update(&data);
        let in_memory = self.fits_memory(data.len());
        self.len += data.len() as u64;
        if in_memory {
            self.gather(data);
            return Ok(());
        }
        if self.spilling.is_none() {
            let file = tempfile::tempfile().map_err(SpillError::Disk)?;
            self.spilling = Some(Spilling {
                file: tokio::fs::File::from_std(file),
                room: None,
                counted: 0,
            });
            let earlier = match self.first.take() {
                Some(first) => first,
                None => std::mem::take(&mut self.gathered).freeze(),
            };
            self.spill(&earlier).await?;
        }
        self.spill(&data).await
    }

    fn gather(&mut self, data: Bytes) {
        match self.first.take() {
            None if self.gathered.is_empty() => self.first = Some(data),
            None => self.gathered.extend_from_slice(&data),
            Some(earlier) => {
                self.gathered.extend_from_slice(&earlier);
                self.gathered.extend_from_slice(&data);
            }
        }
    }

    async fn spill(&mut self, data: &[u8]) -> Result<(), SpillError> {
        let Some(spilling) = &mut self.spilling else {
            return Ok(());
        };
        spilling.counted += data.len() as u64;
        let grown = self.budget.grow(&mut spilling.room, spilling.counted);
        if !grown {
            return Err(SpillError::Full);
        }
        let written = spilling.file.write_all(data).await;
        written.map_err(SpillError::Disk)
    }

    /// All bytes have come.
    ///
    /// # Errors
    /// See [`SpillError`].
    pub async fn finish(self) -> Result<Body, SpillError> {
        let place = match self.spilling {
            None => Place::Memory(self.first.unwrap_or_else(|| self.gathered.freeze())),
            Some(mut spilling) => {
                spilling.file.flush().await.map_err(SpillError::Disk)?;
                Place::Spilled(Arc::new(Spilled {
                    file: spilling.file.into_std().await,
                    unreadable: AtomicBool::new(false),
                    _room: spilling.room,
                }))
            }
        };
        Ok(Body {
            place,
            len: self.len,
            sha256: self.digest.finalize().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collected(pieces: &[&[u8]], budget: &DiskBudget) -> Result<Body, SpillError> {
        let mut collector = Collector::new(budget.clone());
        for piece in pieces {
            collector.push(Bytes::copy_from_slice(piece)).await?;
        }
        collector.finish().await
    }

    #[tokio::test]
    async fn a_body_is_the_same_wherever_it_is_kept() {
        let budget = DiskBudget::new(4 << 20);
        let bytes: Vec<u8> = (0..(1 << 20) + 13)
            .map(|at: u32| (at % 251) as u8)
            .collect();
        for (len, spills) in [
            (0, false),
            (5, false),
            (MAX_INLINE_BYTES, false),
            (MAX_INLINE_BYTES + 1, true),
            (bytes.len(), true),
        ] {
            for piece in [1000, 70_000, bytes.len()] {
                let pieces: Vec<&[u8]> = bytes[..len].chunks(piece).collect();
                let body = collected(&pieces, &budget).await.unwrap();
                assert_eq!(body.in_memory().is_none(), spills, "{len} by {piece}");
                assert_eq!(body.to_bytes().unwrap(), &bytes[..len]);
                assert_eq!(body.len(), len as u64);
                assert_eq!(
                    body.sha256(),
                    <[u8; 32]>::from(Sha256::digest(&bytes[..len]))
                );
                let longest = body.chunks().map(|chunk| chunk.unwrap().len()).max();
                assert!(longest.unwrap_or(0) <= PAGE_BYTES);
            }
        }
    }

    #[tokio::test]
    async fn the_disk_is_bounded_and_given_back() {
        let budget = DiskBudget::new(1 << 20);
        let large = vec![7; 700 << 10];
        let held = collected(&[&large], &budget).await.unwrap();
        let refused = collected(&[&large], &budget).await;
        assert!(matches!(refused, Err(SpillError::Full)));
        drop(held);
        assert!(collected(&[&large], &budget).await.is_ok());
    }
}
