//! Resources that pipelines declare: their scopes, checks and pins.

use super::rows::{Columns, micros, now};
use super::versions::{List, containing};
use super::writer::Hints;
use crate::model::version::{Pin, ResourceScope, ResourceState, Version, canonical};
use crate::model::{PipelineId, RevisionId};
use crate::store::{Pinned, Result};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn declare(
    connection: &Connection,
    id: PipelineId,
    revision_id: RevisionId,
    resources: &[(String, ResourceScope)],
    hints: &mut Hints,
) -> Result<bool> {
    let sql = "SELECT 1 FROM pipelines p JOIN revisions v ON v.pipeline_id = p.id AND v.number = p.revision \
         WHERE p.id = ?1 AND v.id = ?2";
    let given = params![id.0.as_bytes(), revision_id.0.as_bytes()];
    if !connection.prepare_cached(sql)?.exists(given)? {
        return Ok(false);
    }
    let sql = "SELECT name, scope FROM resources WHERE pipeline_id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let stored = statement.query_map([id.0.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut stored: BTreeMap<String, [u8; 32]> = stored.collect::<rusqlite::Result<_>>()?;
    // A name that is given twice has the last scope.
    let wanted: BTreeMap<&String, ResourceScope> = resources
        .iter()
        .map(|(name, scope)| (name, *scope))
        .collect();
    for (name, scope) in wanted {
        if stored.remove(name) == Some(scope.0) {
            continue;
        }
        let sql = "INSERT INTO resources (pipeline_id, name, scope) VALUES (?1, ?2, ?3) \
             ON CONFLICT (pipeline_id, name) DO UPDATE SET scope = ?3, check_seq = check_seq + 1, \
             check_ended_seq = check_seq + 1, check_started_at = NULL, check_finished_at = NULL, checked_at = NULL, check_error = NULL";
        let given = params![id.0.as_bytes(), name, scope.0];
        connection.prepare_cached(sql)?.execute(given)?;
        hints.schedule = Some(id);
    }
    for name in stored.keys() {
        let sql = "DELETE FROM resources WHERE pipeline_id = ?1 AND name = ?2";
        let given = params![id.0.as_bytes(), name];
        connection.prepare_cached(sql)?.execute(given)?;
        hints.schedule = Some(id);
    }
    Ok(true)
}

pub(super) fn states(
    connection: &Connection,
    id: PipelineId,
    name: Option<&str>,
) -> Result<Vec<ResourceState>> {
    let sql = "SELECT name, scope, check_seq, check_ended_seq < check_seq, check_started_at, check_finished_at, \
         checked_at, check_error, pin, pin_comment, pin_actor, (SELECT v.version FROM resource_versions v \
             WHERE v.pipeline_id = r.pipeline_id AND v.resource = r.name AND v.scope = r.scope \
             ORDER BY v.check_order DESC LIMIT 1) \
         FROM resources r WHERE pipeline_id = ?1 AND (?2 IS NULL OR name = ?2) ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![id.0.as_bytes(), name], |row| {
        state(&mut Columns::of(row))
    })?;
    let mut states: Vec<ResourceState> = found.collect::<rusqlite::Result<_>>()?;
    for state in &mut states {
        let list = List {
            pipeline_id: id,
            resource: &state.name,
            scope: state.scope,
        };
        if let Some(pin) = &state.pin {
            state.pin_found = containing(connection, list, &pin.fields)?.is_some();
        }
    }
    Ok(states)
}

fn state(columns: &mut Columns) -> rusqlite::Result<ResourceState> {
    let mut state = ResourceState {
        name: columns.take()?,
        scope: ResourceScope(columns.take()?),
        check_seq: columns.take()?,
        checking: columns.take()?,
        check_started_at: columns.time_opt()?,
        check_finished_at: columns.time_opt()?,
        checked_at: columns.time_opt()?,
        check_error: columns.take()?,
        pin: None,
        pin_found: false,
        newest: None,
    };
    let fields: Option<Version> = columns.json_opt()?;
    let (comment, actor): (String, String) = (columns.take()?, columns.take()?);
    state.pin = fields.map(|fields| Pin {
        fields,
        comment,
        actor,
    });
    state.newest = columns.json_opt()?;
    Ok(state)
}

pub(super) fn begin_check(
    connection: &Connection,
    list: List<'_>,
    pause: Duration,
) -> Result<Option<i64>> {
    let now = now();
    let sql = "UPDATE resources SET check_seq = check_seq + 1, check_started_at = ?4 \
         WHERE pipeline_id = ?1 AND name = ?2 AND scope = ?3 \
         AND (?6 OR max(coalesce(check_started_at, 0), coalesce(check_finished_at, 0)) <= ?5) RETURNING check_seq";
    let given = params![
        list.pipeline_id.0.as_bytes(),
        list.resource,
        list.scope.0,
        micros(now),
        micros(now - pause),
        pause.is_zero(),
    ];
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(given, |row| row.get(0)).optional()?)
}

pub(super) fn end_check(
    connection: &Connection,
    id: PipelineId,
    resource: &str,
    seq: i64,
    error: Option<&str>,
) -> Result<bool> {
    let sql = "UPDATE resources SET check_ended_seq = ?3, check_finished_at = ?4, checked_at = check_started_at, check_error = ?5 \
         WHERE pipeline_id = ?1 AND name = ?2 AND check_seq = ?3 AND check_ended_seq < ?3";
    let given = params![id.0.as_bytes(), resource, seq, micros(now()), error];
    Ok(connection.prepare_cached(sql)?.execute(given)? > 0)
}

/// The fields that somebody pinned.
pub(super) fn pin(
    connection: &Connection,
    id: PipelineId,
    resource: &str,
) -> Result<Option<Version>> {
    let sql = "SELECT pin FROM resources WHERE pipeline_id = ?1 AND name = ?2";
    let given = params![id.0.as_bytes(), resource];
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row(given, |row| Columns::of(row).json_opt());
    Ok(found.optional()?.flatten())
}

pub(super) fn set_pin(
    connection: &Connection,
    list: List<'_>,
    pin: &Pin,
    hints: &mut Hints,
) -> Result<Pinned> {
    if containing(connection, list, &pin.fields)?.is_none() {
        return Ok(Pinned::NoVersion);
    }
    let sql = "UPDATE resources SET pin = ?3, pin_comment = ?4, pin_actor = ?5 WHERE pipeline_id = ?1 AND name = ?2";
    connection.prepare_cached(sql)?.execute(params![
        list.pipeline_id.0.as_bytes(),
        list.resource,
        canonical(&pin.fields),
        pin.comment,
        pin.actor,
    ])?;
    hints.schedule = Some(list.pipeline_id);
    Ok(Pinned::Done)
}

pub(super) fn unpin(
    connection: &Connection,
    id: PipelineId,
    resource: &str,
    hints: &mut Hints,
) -> Result<bool> {
    let sql = "UPDATE resources SET pin = NULL, pin_comment = '', pin_actor = '' \
         WHERE pipeline_id = ?1 AND name = ?2 AND pin IS NOT NULL";
    let given = params![id.0.as_bytes(), resource];
    let changed = connection.prepare_cached(sql)?.execute(given)? > 0;
    hints.schedule = changed.then_some(id);
    Ok(changed)
}
