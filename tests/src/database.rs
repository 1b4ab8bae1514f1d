//! A fresh PostgreSQL database for one test, dropped at its end.

use crate::required;

/// See the module.
pub struct TestDatabase {
    /// For `--storage`.
    pub url: String,
    name: String,
    admin_url: String,
}

impl TestDatabase {
    /// Creates it on the server of POCKETCI_TEST_POSTGRES.
    pub async fn create() -> Self {
        let admin_url = required("POCKETCI_TEST_POSTGRES");
        let name = format!("e2e_{}", uuid::Uuid::new_v4().simple());
        execute(&admin_url, &format!("CREATE DATABASE {name}")).await;
        let (base, _) = admin_url.rsplit_once('/').expect("a URL with a database");
        Self {
            url: format!("{base}/{name}"),
            name,
            admin_url,
        }
    }

    /// Runs a statement as superuser in the maintenance database.
    pub async fn admin(&self, sql: &str) {
        execute(&self.admin_url, sql).await;
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

async fn execute(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .expect("PostgreSQL answers");
    let connection = tokio::spawn(connection);
    client
        .batch_execute(sql)
        .await
        .expect("the statement works");
    drop(client);
    // The connection ends with its client.
    let _ = connection.await;
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (url, sql) = (
            self.admin_url.clone(),
            format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
        );
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(execute(&url, &sql));
        });
        // A failing test may have taken the database down; there is nothing left to clean then.
        let _ = dropping.join();
    }
}
