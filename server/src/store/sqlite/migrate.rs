//! The schema: migrations in order, forward only, each in one transaction.

use super::error::Defect;
use super::rows::{micros, now};
use crate::store::{Result, StoreError};
use rusqlite::{Connection, TransactionBehavior};

/// `(version, SQL)` in order. A published one never changes.
const MIGRATIONS: &[(i64, &str)] = &[
    (
        1,
        include_str!("../../../../migrations/sqlite/0001_begin.sql"),
    ),
    (
        2,
        include_str!("../../../../migrations/sqlite/0002_pipeline_api.sql"),
    ),
    (
        3,
        include_str!("../../../../migrations/sqlite/0003_queue.sql"),
    ),
    (
        4,
        include_str!("../../../../migrations/sqlite/0004_journal.sql"),
    ),
    (
        5,
        include_str!("../../../../migrations/sqlite/0005_logs.sql"),
    ),
    (
        6,
        include_str!("../../../../migrations/sqlite/0006_versions.sql"),
    ),
    (
        7,
        include_str!("../../../../migrations/sqlite/0007_dags.sql"),
    ),
    (
        8,
        include_str!("../../../../migrations/sqlite/0008_archives.sql"),
    ),
    (
        9,
        include_str!("../../../../migrations/sqlite/0009_hooks.sql"),
    ),
    (
        10,
        include_str!("../../../../migrations/sqlite/0010_bodies.sql"),
    ),
    (
        11,
        include_str!("../../../../migrations/sqlite/0011_deliveries.sql"),
    ),
];

/// Brings the schema up to this program's version.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let ours =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations'";
    let any = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    if count(ours)? == 0 && count(any)? > 0 {
        return Err(Defect::Foreign.into());
    }
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
             version    INTEGER NOT NULL PRIMARY KEY,
             applied_at INTEGER NOT NULL
         ) STRICT",
    )?;
    let newest = "SELECT coalesce(max(version), 0) FROM schema_migrations";
    let found: i64 = connection.query_row(newest, [], |row| row.get(0))?;
    let known = MIGRATIONS.last().map_or(0, |(version, _)| *version);
    if found > known {
        return Err(StoreError::SchemaTooNew { found, known });
    }
    for (version, migration) in MIGRATIONS {
        if *version > found {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(migration)?;
            transaction.execute(
                "INSERT INTO schema_migrations (version, applied_at) VALUES (?1, ?2)",
                (version, micros(now())),
            )?;
            transaction.commit()?;
        }
    }
    Ok(())
}
