//! Verbs of archives: see [`crate::model::archive`]. They come and go page by page, never as a whole.

use super::Result;
use crate::model::RunId;
use crate::model::archive::{Archive, ArchiveKey, Direction, UploadId, Writer};
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;

/// What became of the wish to begin an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Send its pages.
    Upload(UploadId),
    /// The run exists already (a user), or the session does not hold the attempt.
    NotYours,
    /// The run has as many archives of this direction as it may.
    TooMany,
    /// All archives together are as large as they may be.
    Full,
}

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// Stored, also if it was before.
    Stored,
    /// The archive would be larger than [`crate::model::archive::MAX_ARCHIVE_BYTES`].
    TooLarge,
    /// The transfer is over: somebody began the archive again, it is complete, or it was forgotten. Or a page before
    /// this one is missing.
    Over,
}

/// Archives of one-off runs.
#[async_trait]
pub trait ArchiveStore: Send + Sync {
    /// Begins an archive; what is there of it is gone.
    async fn begin_archive(&self, key: ArchiveKey, writer: Writer) -> Result<Begun>;
    /// Adds a page, 1 to [`pocketci_proto::PAGE_BYTES`] bytes; pages count from 1 without holes.
    async fn add_page(&self, upload: UploadId, seq: i64, data: Bytes) -> Result<Added>;
    /// All pages are there: it can be read. `false` if the transfer is over or its writer may not write any more.
    async fn finish_archive(&self, upload: UploadId, writer: Writer) -> Result<bool>;
    /// An archive, if it is complete.
    async fn archive(&self, key: ArchiveKey) -> Result<Option<Archive>>;
    /// The complete archives of a run, by name.
    async fn archives(&self, run_id: RunId, direction: Direction) -> Result<Vec<Archive>>;
    /// A page; `None` if there is none, or the archive was begun again or forgotten.
    async fn archive_page(&self, upload: UploadId, seq: i64) -> Result<Option<Bytes>>;
    /// Forgets archives that began so long ago, or so long and were never completed, but not those of runs that are not
    /// over; at most `limit`. How many.
    async fn forget_archives(
        &self,
        kept: Duration,
        broken_kept: Duration,
        limit: i64,
    ) -> Result<u64>;
}
