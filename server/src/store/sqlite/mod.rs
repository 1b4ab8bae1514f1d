//! Storage in one SQLite file, for one process: a writer thread that groups commits, a few readers.
//!
//! WAL with `synchronous = FULL`: what was answered survives a power loss. A second process is kept out by a lock file.

mod agents;
mod claims;
mod enqueue;
mod ledger;
mod migrate;
mod pipelines;
mod receipts;
mod rows;
mod runs;
mod writer;

use super::codec::Corrupt;
use super::wake::WakeBus;
use super::{Result, Store, StoreError};
use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use writer::Writer;

/// Connections for reading; more readers wait.
const READERS: usize = 4;
/// How long SQLite waits for a lock (a checkpoint, a backup tool) before giving up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub struct SqliteStore {
    writer: Writer,
    readers: Arc<Readers>,
    wakes: Arc<WakeBus>,
    /// Held as long as the store is open.
    _lock: File,
}

/// Connections for reading, opened when first needed.
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl SqliteStore {
    /// Opens or creates the file and applies the migrations.
    pub async fn open(path: &Path) -> Result<Arc<Self>> {
        let path = path.to_path_buf();
        blocking(move || Self::open_now(path)).await
    }

    fn open_now(path: PathBuf) -> Result<Arc<Self>> {
        let lock = lock_file(&path)?;
        let mut connection = connect(&path, OpenFlags::default())?;
        migrate::apply(&mut connection)?;
        let wakes = Arc::new(WakeBus::default());
        Ok(Arc::new(Self {
            writer: Writer::start(connection)?,
            readers: Arc::new(Readers {
                path,
                idle: Mutex::default(),
                permits: Semaphore::new(READERS),
            }),
            wakes,
            _lock: lock,
        }))
    }

    /// Reads with a connection of its own, off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Failable<T> + Send + 'static,
    ) -> Result<T> {
        let readers = self.readers.clone();
        let _permit = self.readers.permits.acquire().await.map_err(|_| closed())?;
        blocking(move || {
            let idle = readers.idle().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => connect(&readers.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
            };
            let result = work(&connection);
            readers.idle().push(connection);
            Ok(result?)
        })
        .await
    }
}

impl Readers {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a second process out: two writers with a cache each would answer from stale facts.
fn lock_file(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let file = File::create(&name).map_err(|error| {
        unavailable(format!(
            "cannot create {}: {error}",
            Path::new(&name).display()
        ))
    })?;
    file.try_lock().map_err(|error| {
        unavailable(format!(
            "{} is used by another pocketci server ({error}); stop it, or use postgres:// for several servers",
            path.display()
        ))
    })?;
    Ok(file)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags).map_err(Failure::Sql)?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .map_err(Failure::Sql)?;
    connection.set_prepared_statement_cache_capacity(64);
    if !flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        for (pragma, value) in [
            ("journal_mode", "WAL"),
            ("synchronous", "FULL"),
            ("foreign_keys", "ON"),
        ] {
            connection
                .pragma_update_and_check(None, pragma, value, |_| Ok(()))
                .or_else(|error| match error {
                    // Most pragmas answer nothing when set.
                    rusqlite::Error::QueryReturnedNoRows => Ok(()),
                    other => Err(other),
                })
                .map_err(Failure::Sql)?;
        }
    }
    Ok(connection)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => Err(StoreError::Internal(panic.into())),
    }
}

fn unavailable(text: String) -> StoreError {
    StoreError::Unavailable(text.into())
}

fn closed() -> StoreError {
    unavailable("the store is closed".into())
}

/// What can go wrong inside a piece of SQL work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

type Failable<T> = std::result::Result<T, Failure>;

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let temporary = match &failure {
            Failure::Sql(rusqlite::Error::SqliteFailure(error, _)) => matches!(
                error.code,
                ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
                    | ErrorCode::OutOfMemory
            ),
            _ => false,
        };
        if temporary {
            Self::Unavailable(failure.into())
        } else {
            Self::Internal(failure.into())
        }
    }
}

/// Now, to the microsecond that is stored.
fn now() -> OffsetDateTime {
    rows::time(rows::micros(OffsetDateTime::now_utc()))
}

#[async_trait]
impl Store for SqliteStore {
    fn wakes(&self) -> &WakeBus {
        &self.wakes
    }

    async fn ping(&self) -> Result<()> {
        self.read(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?))
            .await
    }

    async fn close(&self) {
        self.writer.close().await;
    }
}
