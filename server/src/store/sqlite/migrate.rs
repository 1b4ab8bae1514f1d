//! Migrations: embedded, in order, forward only, one transaction each.

use super::{Failure, Result, StoreError};
use rusqlite::Connection;

/// `(version, name, SQL)` in order.
const MIGRATIONS: &[(i64, &str, &str)] = &[(
    1,
    "initial",
    include_str!("../../../../migrations/sqlite/0001_initial.sql"),
)];

/// Brings the schema to this program's version; a newer one is refused.
pub(super) fn apply(connection: &mut Connection) -> Result<()> {
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT",
        )
        .map_err(Failure::Sql)?;
    let found: i64 = connection
        .query_row(
            "SELECT coalesce(max(version), 0) FROM schema_migrations",
            [],
            |row| row.get(0),
        )
        .map_err(Failure::Sql)?;
    let known = MIGRATIONS.last().map_or(0, |(version, _, _)| *version);
    if found > known {
        return Err(StoreError::SchemaTooNew { found, known });
    }
    for (version, name, sql) in MIGRATIONS.iter().filter(|(version, _, _)| *version > found) {
        let transaction = connection.transaction().map_err(Failure::Sql)?;
        transaction.execute_batch(sql).map_err(Failure::Sql)?;
        transaction
            .execute(
                "INSERT INTO schema_migrations VALUES (?, ?, unixepoch() * 1000000)",
                (version, name),
            )
            .map_err(Failure::Sql)?;
        transaction.commit().map_err(Failure::Sql)?;
    }
    Ok(())
}
