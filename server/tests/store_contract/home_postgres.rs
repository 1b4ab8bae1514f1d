//! An own, randomly named Postgres database for each test.

use crate::story::Shared;
use pocketci_server::store::postgres::{Options, PostgresStore};
use tokio_postgres::NoTls;
use url::Url;
use uuid::Uuid;

/// A database that exists from [`Database::create`] to [`Database::remove`].
pub struct Database {
    name: String,
    maintenance: Url,
}

/// The maintenance database's address; its user must be allowed to create databases.
fn maintenance() -> Url {
    let Ok(text) = std::env::var("POCKETCI_TEST_POSTGRES") else {
        panic!("run `make test`, or set POCKETCI_TEST_POSTGRES");
    };
    Url::parse(&text).expect("POCKETCI_TEST_POSTGRES is a URL like postgres://user@host/postgres")
}

/// Runs one statement on the maintenance database.
async fn execute(url: &Url, statement: &str) {
    let (client, connection) = tokio_postgres::connect(url.as_str(), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

impl Database {
    pub async fn create() -> Self {
        let maintenance = maintenance();
        let name = format!("contract_{}", Uuid::new_v4().simple());
        execute(&maintenance, &format!("CREATE DATABASE {name}")).await;
        Self { name, maintenance }
    }

    pub async fn open(&self) -> Shared {
        let mut url = self.maintenance.clone();
        url.set_path(&self.name);
        PostgresStore::connect(url.as_str(), Options::default())
            .await
            .unwrap()
    }

    pub async fn execute(&self, statements: &str) {
        let mut url = self.maintenance.clone();
        url.set_path(&self.name);
        execute(&url, statements).await;
    }

    pub async fn remove(&self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        execute(&self.maintenance, &statement).await;
    }
}
