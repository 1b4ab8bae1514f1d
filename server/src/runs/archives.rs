//! Archives of one-off runs on their way: pieces of any size become pages, pages become a stream.

use super::Runs;
use crate::model::RunId;
use crate::model::archive::{
    Archive, ArchiveKey, Direction, MAX_ARCHIVE_BYTES, MAX_ARCHIVES, MAX_KEPT_BYTES, UploadId,
    Writer,
};
use crate::store::{Added, Begun, Store, StoreError};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use pocketci_proto::PAGE_BYTES;
use std::sync::Arc;

/// Why an archive is not taken, or ends too early. What was taken of it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// For a user: the run is there already.
    #[error("the run has begun: its inputs cannot be changed any more; take a new run id")]
    Begun,
    /// For an agent.
    #[error("this attempt is not (or no longer) yours")]
    NotHeld,
    /// See [`MAX_ARCHIVES`].
    #[error("a run has at most {MAX_ARCHIVES} inputs and {MAX_ARCHIVES} outputs")]
    TooMany,
    /// See [`MAX_KEPT_BYTES`].
    #[error(
        "the server keeps {} GiB of inputs and outputs already, each for a day; try again later",
        MAX_KEPT_BYTES >> 30
    )]
    Full,
    /// See [`MAX_ARCHIVE_BYTES`].
    #[error(
        "an input or output may have {} MiB as a tar; leave out what the task does not need",
        MAX_ARCHIVE_BYTES >> 20
    )]
    TooLarge,
    /// The same archive was begun again meanwhile.
    #[error("another transfer of the same name has taken the place of this one")]
    Replaced,
}

/// An archive that comes in. Dropped before [`Incoming::finish`] it is never complete.
pub struct Incoming {
    store: Arc<dyn Store>,
    upload: UploadId,
    writer: Writer,
    seq: i64,
    pending: BytesMut,
}

impl Runs {
    /// Begins to take an archive; what is there of the same name is gone.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn take_archive(
        &self,
        key: ArchiveKey,
        writer: Writer,
    ) -> Result<Incoming, ArchiveError> {
        let upload = match self.store().begin_archive(key, writer).await? {
            Begun::Upload(upload) => upload,
            Begun::NotYours => {
                return Err(match writer {
                    Writer::User => ArchiveError::Begun,
                    Writer::Attempt { .. } => ArchiveError::NotHeld,
                });
            }
            Begun::TooMany => return Err(ArchiveError::TooMany),
            Begun::Full => return Err(ArchiveError::Full),
        };
        Ok(Incoming {
            store: self.store().clone(),
            upload,
            writer,
            seq: 0,
            pending: BytesMut::new(),
        })
    }

    /// A complete archive.
    ///
    /// # Errors
    /// Of the storage.
    pub async fn archive(
        &self,
        run_id: RunId,
        direction: Direction,
        name: &str,
    ) -> crate::store::Result<Option<Archive>> {
        let key = ArchiveKey {
            run_id,
            direction,
            name: name.to_owned(),
        };
        self.store().archive(key).await
    }

    /// Its pages, read as they are wanted; ends with an error if it is replaced or forgotten meanwhile.
    pub fn pages(
        &self,
        archive: &Archive,
    ) -> impl Stream<Item = Result<Bytes, ArchiveError>> + Send + use<> {
        let (store, upload, pages) = (self.store().clone(), archive.upload, archive.pages);
        stream::try_unfold((store, 0), move |(store, seq)| async move {
            if seq == pages {
                return Ok(None);
            }
            let page = store.archive_page(upload, seq + 1).await?;
            let page = page.ok_or(ArchiveError::Replaced)?;
            Ok(Some((page, (store, seq + 1))))
        })
    }
}

impl Incoming {
    /// The next piece, of any size; returns when all whole pages of it are stored.
    ///
    /// # Errors
    /// See [`ArchiveError`]; nothing more is to be pushed then.
    pub async fn push(&mut self, piece: &[u8]) -> Result<(), ArchiveError> {
        self.pending.extend_from_slice(piece);
        while self.pending.len() >= PAGE_BYTES {
            let page = self.pending.split_to(PAGE_BYTES).freeze();
            self.store_page(page).await?;
        }
        Ok(())
    }

    /// The archive is complete.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn finish(mut self) -> Result<(), ArchiveError> {
        let rest = self.pending.split().freeze();
        if !rest.is_empty() {
            self.store_page(rest).await?;
        }
        match self.store.finish_archive(self.upload, self.writer).await? {
            true => Ok(()),
            false => Err(ArchiveError::Replaced),
        }
    }

    async fn store_page(&mut self, page: Bytes) -> Result<(), ArchiveError> {
        self.seq += 1;
        match self.store.add_page(self.upload, self.seq, page).await? {
            Added::Stored => Ok(()),
            Added::TooLarge => Err(ArchiveError::TooLarge),
            Added::Over => Err(ArchiveError::Replaced),
        }
    }
}
