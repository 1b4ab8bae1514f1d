//! Lists of versions of resources.

use super::rows::{Columns, json, micros, now};
use super::writer::Hints;
use super::{SqliteStore, builds, history, resources};
use crate::model::selection::{ChosenInput, Found, InputConfig, Selection};
use crate::model::version::{
    BuildVersions, Metadata, Pin, ResourceScope, ResourceState, StoredVersion, Version,
    VersionHash, canonical, contains, fragments,
};
use crate::model::{JobId, PipelineId, RevisionId};
use crate::store::{Pinned, Result, Saved, Taken, VersionStore};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashSet;
use std::time::Duration;

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
fn list(connection: &Connection, id: PipelineId, resource: &str) -> Result<Option<ResourceScope>> {
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

fn save(
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

fn page(
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

fn set_enabled(
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

fn clear(
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

#[async_trait]
impl VersionStore for SqliteStore {
    async fn declare_resources(
        &self,
        pipeline_id: PipelineId,
        revision_id: RevisionId,
        resources: Vec<(String, ResourceScope)>,
    ) -> Result<bool> {
        self.writer
            .call(move |connection, hints| {
                resources::declare(connection, pipeline_id, revision_id, &resources, hints)
            })
            .await
    }

    async fn resources(&self, pipeline_id: PipelineId) -> Result<Vec<ResourceState>> {
        self.readers
            .read(move |connection| resources::states(connection, pipeline_id, None))
            .await
    }

    async fn resource(&self, pipeline_id: PipelineId, name: &str) -> Result<Option<ResourceState>> {
        let name = name.to_owned();
        self.readers
            .read(move |connection| {
                Ok(resources::states(connection, pipeline_id, Some(&name))?.pop())
            })
            .await
    }

    async fn check_begun(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        pause: Duration,
    ) -> Result<Option<i64>> {
        let resource = resource.to_owned();
        self.writer
            .call(move |connection, _| {
                let list = List {
                    pipeline_id,
                    resource: &resource,
                    scope,
                };
                resources::begin_check(connection, list, pause)
            })
            .await
    }

    async fn check_ended(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        seq: i64,
        error: Option<&str>,
    ) -> Result<bool> {
        let (resource, error) = (resource.to_owned(), error.map(str::to_owned));
        self.writer
            .call(move |connection, _| {
                resources::end_check(connection, pipeline_id, &resource, seq, error.as_deref())
            })
            .await
    }

    async fn save_versions(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        versions: Vec<Version>,
    ) -> Result<Saved> {
        let resource = resource.to_owned();
        self.writer
            .call(move |connection, hints| {
                let list = List {
                    pipeline_id,
                    resource: &resource,
                    scope,
                };
                save(connection, list, &versions, hints)
            })
            .await
    }

    async fn save_output(
        &self,
        job_id: JobId,
        resource: &str,
        scope: ResourceScope,
        version: Version,
        metadata: Metadata,
    ) -> Result<Saved> {
        let resource = resource.to_owned();
        self.writer
            .call(move |connection, hints| {
                let output = builds::Output {
                    resource: &resource,
                    scope,
                    version: &version,
                    metadata: &metadata,
                };
                builds::save_output(connection, job_id, &output, hints)
            })
            .await
    }

    async fn save_metadata(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        hash: VersionHash,
        metadata: Metadata,
    ) -> Result<bool> {
        let resource = resource.to_owned();
        self.writer
            .call(move |connection, _| {
                let list = List {
                    pipeline_id,
                    resource: &resource,
                    scope,
                };
                set_metadata(connection, list, hash, &metadata)
            })
            .await
    }

    async fn versions(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<StoredVersion>> {
        let resource = resource.to_owned();
        self.readers
            .read(move |connection| page(connection, pipeline_id, &resource, before, limit))
            .await
    }

    async fn set_version_enabled(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        hash: VersionHash,
        enabled: bool,
    ) -> Result<bool> {
        let resource = resource.to_owned();
        self.writer
            .call(move |connection, hints| {
                set_enabled(connection, pipeline_id, &resource, hash, enabled, hints)
            })
            .await
    }

    async fn pin_resource(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        pin: Pin,
    ) -> Result<Pinned> {
        let resource = resource.to_owned();
        self.writer
            .call(move |connection, hints| {
                let Some(scope) = list(connection, pipeline_id, &resource)? else {
                    return Ok(Pinned::NoResource);
                };
                let list = List {
                    pipeline_id,
                    resource: &resource,
                    scope,
                };
                resources::set_pin(connection, list, &pin, hints)
            })
            .await
    }

    async fn unpin_resource(&self, pipeline_id: PipelineId, resource: &str) -> Result<bool> {
        let resource = resource.to_owned();
        self.writer
            .call(move |connection, hints| {
                resources::unpin(connection, pipeline_id, &resource, hints)
            })
            .await
    }

    async fn clear_versions(&self, pipeline_id: PipelineId, resource: &str) -> Result<u64> {
        let resource = resource.to_owned();
        self.writer
            .call(move |connection, hints| clear(connection, pipeline_id, &resource, hints))
            .await
    }

    async fn select_inputs(
        &self,
        pipeline_id: PipelineId,
        job_name: &str,
        inputs: Vec<InputConfig>,
    ) -> Result<Selection> {
        let job_name = job_name.to_owned();
        self.readers
            .read(move |connection| history::select(connection, pipeline_id, &job_name, inputs))
            .await
    }

    async fn take_inputs(&self, job_id: JobId, inputs: Vec<ChosenInput>) -> Result<Taken> {
        self.writer
            .call(move |connection, _| builds::take(connection, job_id, &inputs))
            .await
    }

    async fn adopt_inputs(&self, job_id: JobId, original: JobId) -> Result<Taken> {
        self.writer
            .call(move |connection, _| builds::adopt(connection, job_id, original))
            .await
    }

    async fn build_versions(&self, job_id: JobId) -> Result<BuildVersions> {
        self.readers
            .read(move |connection| builds::versions(connection, job_id))
            .await
    }
}
