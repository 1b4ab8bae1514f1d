//! Lists of versions of resources. Whoever changes a list holds the lock of its resource's row.

use super::super::{Result, codec};
use super::{Failable, PostgresStore, resources, sql_error};
use crate::model::PipelineId;
use crate::model::selection::Found;
use crate::model::version::{
    Metadata, ResourceScope, StoredVersion, Version, VersionHash, canonical, contains, fragments,
};
use crate::store::wake::Wake;
use deadpool_postgres::{Object, Transaction};
use std::collections::HashSet;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Versions looked at together when a pin is searched.
const SEARCHED: i64 = 64;

/// Which list.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    pub(super) pipeline_id: PipelineId,
    pub(super) resource: &'a str,
    pub(super) scope: ResourceScope,
}

/// The rows of a statement that is prepared once.
pub(super) async fn rows_of(
    transaction: &Transaction<'_>,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Failable<Vec<Row>> {
    let statement = transaction.prepare_cached(sql).await?;
    Ok(transaction.query(&statement, params).await?)
}

fn bytes(row: &Row, column: &'static str) -> Failable<[u8; 32]> {
    let bytes: &[u8] = row.try_get(column)?;
    let corrupt = |_| codec::Corrupt {
        column,
        detail: format!("{} bytes", bytes.len()),
    };
    Ok(bytes.try_into().map_err(corrupt)?)
}

/// A column of 32 bytes as a version's name.
pub(super) fn hash(row: &Row, column: &'static str) -> Failable<VersionHash> {
    bytes(row, column).map(VersionHash)
}

/// A column of 32 bytes as a scope.
pub(super) fn scope(row: &Row, column: &'static str) -> Failable<ResourceScope> {
    bytes(row, column).map(ResourceScope)
}

/// A column with a version.
pub(super) fn version(row: &Row, column: &'static str) -> Failable<Version> {
    Ok(codec::from_json(column, row.try_get::<_, &str>(column)?)?)
}

/// Locks the list against changes; `false` if the resource does not have it now.
pub(super) async fn lock(transaction: &Transaction<'_>, list: List<'_>) -> Failable<bool> {
    let sql = "SELECT scope FROM resources WHERE pipeline_id = $1 AND name = $2 FOR UPDATE";
    let found = rows_of(transaction, sql, &[&list.pipeline_id.0, &list.resource]).await?;
    match found.first() {
        Some(row) => Ok(scope(row, "scope")? == list.scope),
        None => Ok(false),
    }
}

/// How many of these are new in a locked list. If one is, all of them go to its end (`move_known`), or only the new
/// ones.
pub(super) async fn append(
    transaction: &Transaction<'_>,
    list: List<'_>,
    versions: &[Version],
    move_known: bool,
) -> Failable<usize> {
    // Of a version that is named twice the later place counts.
    let mut seen = HashSet::new();
    let mut last: Vec<&Version> = versions.iter().rev().filter(|v| seen.insert(*v)).collect();
    last.reverse();
    let mut hashes: Vec<[u8; 32]> = last.iter().map(|v| VersionHash::of(v).0).collect();
    let scope = list.scope.0.as_slice();
    let sql = "SELECT hash FROM resource_versions
        WHERE pipeline_id = $1 AND resource = $2 AND scope = $3 AND hash = ANY ($4)";
    let asked: Vec<&[u8]> = hashes.iter().map(<[u8; 32]>::as_slice).collect();
    let params: [&(dyn ToSql + Sync); 4] = [&list.pipeline_id.0, &list.resource, &scope, &asked];
    let rows = rows_of(transaction, sql, &params).await?;
    let known: HashSet<[u8; 32]> = rows
        .iter()
        .map(|row| bytes(row, "hash"))
        .collect::<Failable<_>>()?;
    let new = hashes.iter().filter(|hash| !known.contains(*hash)).count();
    if new == 0 {
        return Ok(0);
    }
    if !move_known {
        last.retain(|version| !known.contains(&VersionHash::of(version).0));
        hashes.retain(|hash| !known.contains(hash));
    }
    let hashes: Vec<&[u8]> = hashes.iter().map(<[u8; 32]>::as_slice).collect();
    let texts: Vec<String> = last.iter().map(|version| canonical(version)).collect();
    let sql = "INSERT INTO resource_versions (pipeline_id, resource, scope, hash, version, check_order, first_seen_at)
        SELECT $1, $2, $3, t.hash, t.version, t.nth + (SELECT coalesce(max(check_order), 0) FROM resource_versions
            WHERE pipeline_id = $1 AND resource = $2 AND scope = $3), clock_timestamp()
        FROM unnest($4::bytea[], $5::text[]) WITH ORDINALITY AS t (hash, version, nth)
        ON CONFLICT (pipeline_id, resource, scope, hash) DO UPDATE SET check_order = excluded.check_order";
    let statement = transaction.prepare_cached(sql).await?;
    transaction
        .execute(
            &statement,
            &[&list.pipeline_id.0, &list.resource, &scope, &hashes, &texts],
        )
        .await?;
    Ok(new)
}

pub(super) async fn set_metadata(
    transaction: &Transaction<'_>,
    list: List<'_>,
    hash: VersionHash,
    metadata: &Metadata,
) -> Failable<bool> {
    let sql = "UPDATE resource_versions SET metadata = $5
        WHERE pipeline_id = $1 AND resource = $2 AND scope = $3 AND hash = $4";
    let statement = transaction.prepare_cached(sql).await?;
    let (scope, hash) = (list.scope.0.as_slice(), hash.0.as_slice());
    let text = codec::json(metadata);
    let changed = transaction
        .execute(
            &statement,
            &[&list.pipeline_id.0, &list.resource, &scope, &hash, &text],
        )
        .await?;
    Ok(changed > 0)
}

/// The newest version that contains these fields.
pub(super) async fn containing(
    transaction: &Transaction<'_>,
    list: List<'_>,
    fields: &Version,
) -> Failable<Option<Found>> {
    let sql = "SELECT hash, version, check_order FROM resource_versions v
        WHERE pipeline_id = $1 AND resource = $2 AND scope = $3 AND check_order < $4
        AND NOT EXISTS (SELECT FROM unnest($5::text[]) piece WHERE strpos(v.version, piece) = 0)
        ORDER BY check_order DESC LIMIT $6";
    let pieces = fragments(fields);
    let scope = list.scope.0.as_slice();
    let mut before = i64::MAX;
    loop {
        let params: [&(dyn ToSql + Sync); 6] = [
            &list.pipeline_id.0,
            &list.resource,
            &scope,
            &before,
            &pieces,
            &SEARCHED,
        ];
        let rows = rows_of(transaction, sql, &params).await?;
        for row in &rows {
            let version = version(row, "version")?;
            before = row.try_get("check_order")?;
            if contains(&version, fields) {
                let hash = hash(row, "hash")?;
                return Ok(Some(Found { hash, version }));
            }
        }
        if (rows.len() as i64) < SEARCHED {
            return Ok(None);
        }
    }
}

pub(super) async fn page(
    transaction: &Transaction<'_>,
    id: PipelineId,
    resource: &str,
    before: Option<i64>,
    limit: i64,
) -> Failable<Vec<StoredVersion>> {
    let states = resources::states(transaction, id, Some(resource)).await?;
    let Some(state) = states.first() else {
        return Ok(Vec::new());
    };
    let list = List {
        pipeline_id: id,
        resource,
        scope: state.scope,
    };
    let pinned = match &state.pin {
        Some(pin) => containing(transaction, list, &pin.fields).await?,
        None => None,
    };
    let pinned = pinned.map(|found| found.hash);
    let sql = "SELECT * FROM resource_versions
        WHERE pipeline_id = $1 AND resource = $2 AND scope = $3 AND check_order < $4
        ORDER BY check_order DESC LIMIT $5";
    let (scope, before) = (list.scope.0.as_slice(), before.unwrap_or(i64::MAX));
    let params: [&(dyn ToSql + Sync); 5] = [&id.0, &resource, &scope, &before, &limit.max(0)];
    let rows = rows_of(transaction, sql, &params).await?;
    let read = |row: &Row| -> Failable<StoredVersion> {
        let hash = hash(row, "hash")?;
        Ok(StoredVersion {
            hash,
            version: version(row, "version")?,
            metadata: codec::from_json("metadata", row.try_get::<_, &str>("metadata")?)?,
            check_order: row.try_get("check_order")?,
            enabled: row.try_get("enabled")?,
            pinned: pinned == Some(hash),
            first_seen_at: row.try_get("first_seen_at")?,
        })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn set_enabled(
    transaction: &Transaction<'_>,
    id: PipelineId,
    resource: &str,
    hash: VersionHash,
    enabled: bool,
) -> Failable<bool> {
    let sql = "UPDATE resource_versions SET enabled = $4 WHERE pipeline_id = $1 AND resource = $2 AND hash = $3
        AND scope = (SELECT scope FROM resources WHERE pipeline_id = $1 AND name = $2)";
    let statement = transaction.prepare_cached(sql).await?;
    let hash = hash.0.as_slice();
    let changed = transaction
        .execute(&statement, &[&id.0, &resource, &hash, &enabled])
        .await?;
    Ok(changed > 0)
}

pub(super) async fn clear(
    transaction: &Transaction<'_>,
    id: PipelineId,
    resource: &str,
) -> Failable<u64> {
    let sql = "SELECT 1 FROM resources WHERE pipeline_id = $1 AND name = $2 FOR UPDATE";
    rows_of(transaction, sql, &[&id.0, &resource]).await?;
    let sql = "DELETE FROM resource_versions WHERE pipeline_id = $1 AND resource = $2";
    let statement = transaction.prepare_cached(sql).await?;
    Ok(transaction.execute(&statement, &[&id.0, &resource]).await?)
}

impl PostgresStore {
    /// Tells every server that other inputs may be right for a pipeline's jobs.
    pub(super) fn wake_scheduler(&self, id: PipelineId) {
        self.wakes.publish(Wake::Schedule(id));
        self.notifier.wake(Wake::Schedule(id));
    }
}

/// Begins a transaction that reads one consistent snapshot.
pub(super) async fn snapshot(client: &mut Object) -> Result<Transaction<'_>> {
    client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(sql_error)
}
