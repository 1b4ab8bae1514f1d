//! Which of SQLite's failures pass by themselves, and what can be wrong with the file.

use crate::store::StoreError;
use rusqlite::ErrorCode;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("the folder {0:?} of the database file does not exist; create it or name another file")]
    NoFolder(PathBuf),
    #[error(
        "{0:?} is locked: another pocketci uses this database; stop it, or give this one its own file"
    )]
    InUse(PathBuf),
    #[error("the lock file {0:?} cannot be used")]
    Lock(PathBuf, #[source] std::io::Error),
    #[error("the writer thread cannot be started")]
    Thread(#[source] std::io::Error),
    #[error("the store was closed")]
    Closed,
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

/// What the database or a command said, before it is known who will hear it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Defect {
    #[error("the file holds tables but no schema_migrations: it is another program's database")]
    Foreign,
    #[error("the command panicked; the panic itself is in the log")]
    Panic,
    #[error("the run of a queued job is missing")]
    NoRun,
    #[error("the pipeline's newest revision is missing")]
    NoRevision,
}

impl From<Defect> for StoreError {
    fn from(defect: Defect) -> Self {
        Self::Internal(Box::new(defect))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        store_error(error)
    }
}

/// Sorts a failure by whether trying again later can help.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    if is_passing(&error) {
        StoreError::Unavailable(Box::new(error))
    } else {
        StoreError::Internal(Box::new(error))
    }
}

/// One failure that many callers hear of.
pub(super) fn shared_error(error: &Arc<rusqlite::Error>) -> StoreError {
    if is_passing(error) {
        StoreError::Unavailable(Box::new(error.clone()))
    } else {
        StoreError::Internal(Box::new(error.clone()))
    }
}

fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied
        )
    )
}
