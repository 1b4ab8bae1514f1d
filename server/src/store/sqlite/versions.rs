//! Lists of versions of resources.

use super::resources;
use super::rows::{Columns, json, micros, now};
use super::writer::Hints;
use crate::model::PipelineId;
use crate::model::selection::Found;
use crate::model::version::{
    Metadata, ResourceScope, StoredVersion, Version, VersionHash, canonical, contains, fragments,
};
use crate::store::{Result, Saved};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashSet;

/// Versions looked at together when a pin is searched.
const SEARCHED: i64 = 64;

/// Which list.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    pub(super) pipeline_id: PipelineId,
    pub(super) resource: &'a str,
    pub(super) scope: ResourceScope,
}

/// The list that a resource has now.
pub(super) fn list(
    connection: &Connection,
    id: PipelineId,
    resource: &str,
) -> Result<Option<ResourceScope>> {
    let sql = "SELECT scope FROM resources WHERE pipeline_id = ?1 AND name = ?2";
    let given = params![id.0.as_bytes(), resource];
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row(given, |row| row.get(0)).optional()?;
    Ok(found.map(ResourceScope))
}

/// The highest `check_order`, 0 for an empty list.
pub(super) fn end(connection: &Connection, list: List<'_>) -> Result<i64> {
    let sql = "SELECT coalesce(max(check_order), 0) FROM resource_versions \
         WHERE pipeline_id = ?1 AND resource = ?2 AND scope = ?3";
    let given = params![list.pipeline_id.0.as_bytes(), list.resource, list.scope.0];
    Ok(connection
        .prepare_cached(sql)?
        .query_row(given, |row| row.get(0))?)
}

/// Whether the list has a version.
pub(super) fn has(connection: &Connection, list: List<'_>, hash: VersionHash) -> Result<bool> {
    let sql = "SELECT 1 FROM resource_versions \
         WHERE pipeline_id = ?1 AND resource = ?2 AND scope = ?3 AND hash = ?4";
    let given = params![
        list.pipeline_id.0.as_bytes(),
        list.resource,
        list.scope.0,
        hash.0
    ];
    Ok(connection.prepare_cached(sql)?.exists(given)?)
}

/// Puts a version at a place of the list.
pub(super) fn place(
    connection: &Connection,
    list: List<'_>,
    version: &Version,
    check_order: i64,
) -> Result<()> {
    let sql = "INSERT INTO resource_versions \
         (pipeline_id, resource, scope, hash, version, check_order, first_seen_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT (pipeline_id, resource, scope, hash) DO UPDATE SET check_order = ?6";
    connection.prepare_cached(sql)?.execute(params![
        list.pipeline_id.0.as_bytes(),
        list.resource,
        list.scope.0,
        VersionHash::of(version).0,
        canonical(version),
        check_order,
        micros(now()),
    ])?;
    Ok(())
}

pub(super) fn save(
    connection: &Connection,
    list: List<'_>,
    versions: &[Version],
    hints: &mut Hints,
) -> Result<Saved> {
    if self::list(connection, list.pipeline_id, list.resource)? != Some(list.scope) {
        return Ok(Saved::Stale);
    }
    // Of a version that is named twice the later place counts.
    let mut seen = HashSet::new();
    let mut last: Vec<&Version> = versions.iter().rev().filter(|v| seen.insert(*v)).collect();
    last.reverse();
    let mut new = 0;
    for version in &last {
        new += usize::from(!has(connection, list, VersionHash::of(version))?);
    }
    if new > 0 {
        let end = end(connection, list)?;
        for (check_order, version) in (end + 1..).zip(last) {
            place(connection, list, version, check_order)?;
        }
        hints.schedule = Some(list.pipeline_id);
    }
    Ok(Saved::Stored { new })
}

pub(super) fn set_metadata(
    connection: &Connection,
    list: List<'_>,
    hash: VersionHash,
    metadata: &Metadata,
) -> Result<bool> {
    let sql = "UPDATE resource_versions SET metadata = ?5 \
         WHERE pipeline_id = ?1 AND resource = ?2 AND scope = ?3 AND hash = ?4";
    let changed = connection.prepare_cached(sql)?.execute(params![
        list.pipeline_id.0.as_bytes(),
        list.resource,
        list.scope.0,
        hash.0,
        json(metadata)?,
    ])?;
    Ok(changed > 0)
}

/// The newest version that contains these fields.
pub(super) fn containing(
    connection: &Connection,
    list: List<'_>,
    fields: &Version,
) -> Result<Option<Found>> {
    let sql = "SELECT hash, version, check_order FROM resource_versions v \
         WHERE pipeline_id = ?1 AND resource = ?2 AND scope = ?3 AND check_order < ?4 \
         AND NOT EXISTS (SELECT 1 FROM json_each(?5) piece WHERE instr(v.version, piece.value) = 0) \
         ORDER BY check_order DESC LIMIT ?6";
    let mut statement = connection.prepare_cached(sql)?;
    let pieces = json(&fragments(fields))?;
    let mut before = i64::MAX;
    loop {
        let given = params![
            list.pipeline_id.0.as_bytes(),
            list.resource,
            list.scope.0,
            before,
            pieces,
            SEARCHED
        ];
        let mut rows = 0;
        let mut found = statement.query(given)?;
        while let Some(row) = found.next()? {
            rows += 1;
            let mut columns = Columns::of(row);
            let hash = VersionHash(columns.take()?);
            let version: Version = columns.json()?;
            before = columns.take()?;
            if contains(&version, fields) {
                return Ok(Some(Found { hash, version }));
            }
        }
        if rows < SEARCHED {
            return Ok(None);
        }
    }
}

pub(super) fn page(
    connection: &Connection,
    id: PipelineId,
    resource: &str,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredVersion>> {
    let Some(scope) = list(connection, id, resource)? else {
        return Ok(Vec::new());
    };
    let list = List {
        pipeline_id: id,
        resource,
        scope,
    };
    let pinned = match resources::pin(connection, id, resource)? {
        Some(pin) => containing(connection, list, &pin)?.map(|found| found.hash),
        None => None,
    };
    let sql = "SELECT hash, version, metadata, check_order, enabled, first_seen_at FROM resource_versions \
         WHERE pipeline_id = ?1 AND resource = ?2 AND scope = ?3 AND check_order < ?4 \
         ORDER BY check_order DESC LIMIT ?5";
    let mut statement = connection.prepare_cached(sql)?;
    let before = before.unwrap_or(i64::MAX);
    let given = params![id.0.as_bytes(), resource, scope.0, before, limit.max(0)];
    let found = statement.query_map(given, |row| {
        let mut columns = Columns::of(row);
        let hash = VersionHash(columns.take()?);
        Ok(StoredVersion {
            hash,
            version: columns.json()?,
            metadata: columns.json()?,
            check_order: columns.take()?,
            enabled: columns.take()?,
            pinned: pinned == Some(hash),
            first_seen_at: columns.time()?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn set_enabled(
    connection: &Connection,
    id: PipelineId,
    resource: &str,
    hash: VersionHash,
    enabled: bool,
    hints: &mut Hints,
) -> Result<bool> {
    let sql = "UPDATE resource_versions SET enabled = ?4 WHERE pipeline_id = ?1 AND resource = ?2 AND hash = ?3 \
         AND scope = (SELECT scope FROM resources WHERE pipeline_id = ?1 AND name = ?2)";
    let given = params![id.0.as_bytes(), resource, hash.0, enabled];
    let changed = connection.prepare_cached(sql)?.execute(given)? > 0;
    hints.schedule = changed.then_some(id);
    Ok(changed)
}

pub(super) fn clear(
    connection: &Connection,
    id: PipelineId,
    resource: &str,
    hints: &mut Hints,
) -> Result<u64> {
    let sql = "DELETE FROM resource_versions WHERE pipeline_id = ?1 AND resource = ?2";
    let given = params![id.0.as_bytes(), resource];
    let gone = connection.prepare_cached(sql)?.execute(given)?;
    hints.schedule = (gone > 0).then_some(id);
    Ok(gone as u64)
}
