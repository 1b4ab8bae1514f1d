//! Where a store of a test lives: an own file or an own database, gone when the test is over.

use crate::home_postgres::Database;
use crate::story::Shared;
use futures_util::FutureExt as _;
use pocketci_server::store::sqlite::SqliteStore;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use tempfile::TempDir;

/// A place in which a store can be opened again and again.
#[derive(Clone)]
pub enum Home {
    Sqlite(Arc<TempDir>),
    Postgres(Arc<Database>),
}

impl Home {
    pub fn sqlite() -> Self {
        Self::Sqlite(Arc::new(TempDir::new().unwrap()))
    }

    pub async fn postgres() -> Self {
        Self::Postgres(Arc::new(Database::create().await))
    }

    pub async fn open(&self) -> Shared {
        match self {
            Self::Sqlite(folder) => SqliteStore::open(&folder.path().join("pocketci.db")).unwrap(),
            Self::Postgres(database) => database.open().await,
        }
    }

    /// Has these statements executed before a store is opened.
    pub async fn prepare(&self, sqlite: &[&str], postgres: &[&str]) {
        match self {
            Self::Sqlite(folder) => {
                let db = rusqlite::Connection::open(folder.path().join("pocketci.db")).unwrap();
                for statements in sqlite {
                    db.execute_batch(statements).unwrap();
                }
            }
            Self::Postgres(database) => {
                for statements in postgres {
                    database.execute(statements).await;
                }
            }
        }
    }

    /// Runs a rule on a fresh store and removes all traces, also of a failed rule.
    pub async fn hold<F>(self, rule: fn(Shared) -> F)
    where
        F: Future<Output = ()>,
    {
        let store = self.open().await;
        let result = AssertUnwindSafe(rule(store.clone())).catch_unwind().await;
        store.close().await;
        self.leave().await;
        if let Err(panic) = result {
            resume_unwind(panic);
        }
    }

    /// Runs a rule that opens and closes stores itself.
    pub async fn lend<F>(self, rule: fn(Home) -> F)
    where
        F: Future<Output = ()>,
    {
        let result = AssertUnwindSafe(rule(self.clone())).catch_unwind().await;
        self.leave().await;
        if let Err(panic) = result {
            resume_unwind(panic);
        }
    }

    async fn leave(self) {
        if let Self::Postgres(database) = self {
            database.remove().await;
        }
    }
}
