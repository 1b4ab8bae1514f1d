//! The embedded storage: one SQLite file, one process, one writer thread, a few readers.
//!
//! Every change goes through the writer, which puts all that wait into one commit (`writer`); a commit returns when the
//! file is on the disk (`synchronous = FULL`), so "stored" survives a power cut. Reads take a read-only connection and
//! see the last commit (WAL). The clock is the process's wall clock.

mod admission;
mod agents;
mod archives;
mod bodies;
mod builds;
mod claims;
mod dedup;
mod error;
mod gates;
mod history;
mod hooks;
mod journal;
mod ledger;
mod lock;
mod messages;
mod migrate;
mod pipelines;
mod queue;
mod readers;
mod receipt_log;
mod receipts;
mod resources;
mod rows;
mod runs;
mod secrets;
mod values;
mod version_store;
mod versions;
mod writer;

use crate::store::wake::WakeBus;
use crate::store::{Result, Store, StoreError};
use async_trait::async_trait;
use error::{OpenError, store_error};
use lock::FileLock;
use readers::Readers;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use writer::Writer;

/// How long a statement waits for another connection of this process (a checkpoint, say) before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Prepared statements kept per connection; more than this program has, so none is prepared twice.
const STATEMENTS: usize = 256;

/// The SQLite storage; see the module.
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    wakes: Arc<WakeBus>,
    /// Answers that wait for the writer.
    unwritten: Arc<AtomicUsize>,
}

impl SqliteStore {
    /// Opens the file, creating it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the folder is missing, the file cannot be opened or another process uses it;
    /// [`StoreError::SchemaTooNew`] if a newer PocketCI wrote it; [`StoreError::Internal`] if it is no database of ours.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder
            && !folder.is_dir()
        {
            return Err(OpenError::NoFolder(folder.to_owned()).into());
        }
        let lock = FileLock::take(path)?;
        let mut connection = Connection::open(path).map_err(store_error)?;
        prepare_writer(&connection).map_err(store_error)?;
        migrate::migrate(&mut connection)?;
        let wakes = Arc::new(WakeBus::default());
        let readers = Readers::new(path);
        let writer = Writer::start(connection, lock, wakes.clone())?;
        Ok(Arc::new(Self {
            writer,
            readers,
            wakes,
            unwritten: Arc::default(),
        }))
    }
}

/// What holds for every connection.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    prepare(connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode FULL syncs the log at every commit; NORMAL would lose the last commits in a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // 64 MiB of pages, and a log that shrinks back to 64 MiB after a burst.
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    Ok(connection)
}

#[async_trait]
impl Store for SqliteStore {
    fn wakes(&self) -> &WakeBus {
        &self.wakes
    }

    async fn ping(&self) -> Result<()> {
        // Through the writer: a store that can only be read is not well.
        self.writer
            .call(|connection, _| {
                Ok(connection.query_row("SELECT jobs FROM queue", [], |_| Ok(()))?)
            })
            .await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The store was closed; no verb may be called any more.
fn closed() -> StoreError {
    OpenError::Closed.into()
}
