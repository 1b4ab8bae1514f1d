//! Migrations: embedded, in order, forward only, under a lock so that several servers may start at once.

use super::super::{Result, StoreError};
use super::sql_error;
use deadpool_postgres::Object;

/// `(version, name, SQL)` in order.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "initial",
        include_str!("../../../../migrations/postgres/0001_initial.sql"),
    ),
    (
        2,
        "pipeline_api",
        include_str!("../../../../migrations/postgres/0002_pipeline_api.sql"),
    ),
    (
        3,
        "queue",
        include_str!("../../../../migrations/postgres/0003_queue.sql"),
    ),
    (
        4,
        "journal",
        include_str!("../../../../migrations/postgres/0004_journal.sql"),
    ),
    (
        5,
        "logs",
        include_str!("../../../../migrations/postgres/0005_logs.sql"),
    ),
    (
        6,
        "versions",
        include_str!("../../../../migrations/postgres/0006_versions.sql"),
    ),
    (
        7,
        "dags",
        include_str!("../../../../migrations/postgres/0007_dags.sql"),
    ),
    (
        8,
        "archives",
        include_str!("../../../../migrations/postgres/0008_archives.sql"),
    ),
    (
        9,
        "hooks",
        include_str!("../../../../migrations/postgres/0009_hooks.sql"),
    ),
    (
        10,
        "bodies",
        include_str!("../../../../migrations/postgres/0010_bodies.sql"),
    ),
    (
        11,
        "deliveries",
        include_str!("../../../../migrations/postgres/0011_deliveries.sql"),
    ),
];

/// Any number that nobody else uses for an advisory lock in this database.
const LOCK: i64 = 0x706f_636b_6574_6369;

/// Brings the schema to this program's version; a newer one is refused.
pub(super) async fn apply(client: &mut Object) -> Result<()> {
    let transaction = client.transaction().await.map_err(sql_error)?;
    // A long history takes its time, and so does waiting for another server that is at it.
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0")
        .await
        .map_err(sql_error)?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await
        .map_err(sql_error)?;
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                version bigint PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await
        .map_err(sql_error)?;
    let found: i64 = transaction
        .query_one(
            "SELECT coalesce(max(version), 0) FROM schema_migrations",
            &[],
        )
        .await
        .map_err(sql_error)?
        .get(0);
    let known = MIGRATIONS.last().map_or(0, |(version, _, _)| *version);
    if found > known {
        return Err(StoreError::SchemaTooNew { found, known });
    }
    for (version, name, sql) in MIGRATIONS.iter().filter(|(version, _, _)| *version > found) {
        transaction.batch_execute(sql).await.map_err(sql_error)?;
        transaction
            .execute(
                "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)",
                &[version, name],
            )
            .await
            .map_err(sql_error)?;
    }
    transaction.commit().await.map_err(sql_error)
}
