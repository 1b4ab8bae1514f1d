//! One process a file: a second one is refused before it touches the database.

use super::error::OpenError;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// Held as long as the value lives; the system releases it when the process dies, however it dies.
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Locks `<database>-lock`. The file stays behind: removing it would let two processes lock two files of one name.
    pub(super) fn take(database: &Path) -> Result<Self, OpenError> {
        let mut name = database.as_os_str().to_owned();
        name.push("-lock");
        let path = PathBuf::from(name);
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = opened.map_err(|error| OpenError::Lock(path.clone(), error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(database.to_owned())),
            Err(TryLockError::Error(error)) => Err(OpenError::Lock(path, error)),
        }
    }
}
