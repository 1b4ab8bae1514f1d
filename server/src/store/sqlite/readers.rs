//! A few read-only connections, opened when first needed, used on threads that may block.

use super::error::store_error;
use super::{closed, open_reader};
use crate::store::{Result, StoreError};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Reads at the same time; more would wait for the processors, not for the disk.
const READERS: u32 = 4;

/// The pool.
pub(super) struct Readers {
    path: PathBuf,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            permits: Arc::new(Semaphore::new(READERS as usize)),
            idle: Arc::default(),
        }
    }

    /// Reads one consistent snapshot that holds everything committed before the call.
    pub(super) async fn read<T, F>(&self, look: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| closed())?;
        let (idle, path) = (self.idle.clone(), self.path.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let waiting = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match waiting {
                Some(connection) => connection,
                None => open_reader(&path).map_err(store_error)?,
            };
            let result = snapshot(&connection, look);
            idle.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
            // The caller may have gone; the place is free only now.
            drop(permit);
            result
        });
        reading
            .await
            .map_err(|error| StoreError::Internal(Box::new(error)))?
    }

    /// Waits for the reads under way, then closes all connections.
    pub(super) async fn close(&self) {
        if let Ok(all) = self.permits.acquire_many(READERS).await {
            all.forget();
        }
        self.permits.close();
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

fn snapshot<T>(connection: &Connection, look: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    let transaction = connection.unchecked_transaction()?;
    let result = look(&transaction);
    // Nothing was written; ending the snapshot lets the log be checkpointed.
    transaction.rollback()?;
    result
}
