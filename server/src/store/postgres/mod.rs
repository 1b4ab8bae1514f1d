//! Storage in PostgreSQL, for any number of servers: group commits, `SKIP LOCKED` claims, LISTEN/NOTIFY as wake-ups.

mod admission;
mod agents;
mod answers;
mod archives;
mod bodies;
mod builds;
mod claims;
mod connect;
mod dedup;
mod deliveries;
mod enqueue;
mod gates;
mod history;
mod hooks;
mod journal;
mod ledger;
mod messages;
mod migrate;
mod notify;
mod outbox;
mod pipelines;
mod queue;
mod receipt_log;
mod receipts;
mod resources;
mod room;
mod rows;
mod runs;
mod secrets;
mod subscriptions;
mod values;
mod version_store;
mod versions;

pub use connect::Options;

use super::batch::Batch;
use super::codec::Corrupt;
use super::wake::WakeBus;
use super::{Enqueued, NewRun, Result, Store, StoreError};
use crate::model::RunId;
use crate::model::transition::{Applied, Change};
use answers::Answers;
use async_trait::async_trait;
use deadpool_postgres::{Object, Pool, PoolError};
use deliveries::{TryResult, TryWrite};
use notify::Notifier;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;

/// Tries of a transaction that lost a deadlock or a serialization conflict.
const MAX_TRIES: usize = 5;

/// See the module.
pub struct PostgresStore {
    pool: Pool,
    wakes: Arc<WakeBus>,
    notifier: Notifier,
    queues: Mutex<Option<Queues>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Queues {
    enqueue: Batch<NewRun, Enqueued>,
    /// One, not several: changes of a run keep their order, and the groups are as large as can be.
    ledger: Batch<(RunId, Change), Applied>,
    answers: Answers,
    tries: Batch<TryWrite, TryResult>,
}

impl PostgresStore {
    /// Connects, applies the migrations and starts listening. `url` is libpq's form; see [`Options`] for TLS.
    pub async fn connect(url: &str, options: Options) -> Result<Arc<Self>> {
        let config = connect::config(url)?;
        let pool = connect::pool(&config, &options)?;
        migrate::apply(&mut pool.get().await.map_err(pool_error)?).await?;
        let wakes = Arc::new(WakeBus::default());
        let (notifier, mut tasks) = Notifier::start(config, pool.clone(), wakes.clone());
        let (enqueue, task) = enqueue::start(pool.clone(), wakes.clone(), notifier.clone());
        tasks.push(task);
        let (ledger, task) = ledger::start(pool.clone(), wakes.clone(), notifier.clone());
        tasks.push(task);
        let (answers, task) = Answers::start(pool.clone());
        tasks.push(task);
        let (tries, task) = deliveries::start(pool.clone());
        tasks.push(task);
        Ok(Arc::new(Self {
            pool,
            wakes,
            notifier,
            queues: Mutex::new(Some(Queues {
                enqueue,
                ledger,
                answers,
                tries,
            })),
            tasks: Mutex::new(tasks),
        }))
    }

    async fn client(&self) -> Result<Object> {
        self.pool.get().await.map_err(pool_error)
    }

    fn with_queues<T>(&self, with: impl FnOnce(&Queues) -> T) -> Option<T> {
        self.queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(with)
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn wakes(&self) -> &WakeBus {
        &self.wakes
    }

    async fn ping(&self) -> Result<()> {
        self.client()
            .await?
            .simple_query("SELECT 1")
            .await
            .map_err(sql_error)?;
        Ok(())
    }

    async fn close(&self) {
        // Without senders the flushers end when their queues are empty.
        drop(
            self.queues
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.notifier.stop();
        let tasks: Vec<_> =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the store panicked");
            }
        }
        self.pool.close();
    }
}

fn pool_error(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => sql_error(error),
        other => StoreError::Unavailable(other.into()),
    }
}

/// Classes of SQLSTATE that say that we asked for something wrong: cardinality, data, integrity, syntax or access, and
/// PostgreSQL's own internal errors. Everything else (connections, resources, shutdown, state) may pass.
const OUR_FAULT: &[&str] = &["0A", "21", "22", "23", "42", "XX"];

/// Whether the database may do better in a moment.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn sql_error(error: tokio_postgres::Error) -> StoreError {
    let ours = match error.code() {
        Some(code) => OUR_FAULT.contains(&&code.code()[..2]),
        // Without a code it is the connection, or a value that we could not convert.
        None => {
            let source = std::error::Error::source(&error);
            !error.is_closed() && !source.is_some_and(|source| source.is::<std::io::Error>())
        }
    };
    if ours {
        StoreError::Internal(error.into())
    } else {
        StoreError::Unavailable(error.into())
    }
}

fn is_conflict(code: &SqlState) -> bool {
    *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::T_R_SERIALIZATION_FAILURE
}

/// What can go wrong inside a piece of SQL work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Sql(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

type Failable<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Whether the same work may succeed when tried again at once.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Sql(error) if error.code().is_some_and(is_conflict))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sql(error) => sql_error(error),
            Failure::Corrupt(corrupt) => Self::Internal(corrupt.into()),
        }
    }
}
