//! Resources that pipelines declare: their scopes, checks and pins.

use super::super::{Pinned, codec};
use super::versions::{self, List, rows_of};
use super::{Failable, millis};
use crate::model::version::{Pin, ResourceScope, ResourceState, Version, canonical};
use crate::model::{PipelineId, RevisionId};
use deadpool_postgres::Transaction;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Row;

/// Whether the revision is the newest one, and whether anything changed.
pub(super) async fn declare(
    transaction: &Transaction<'_>,
    id: PipelineId,
    revision_id: RevisionId,
    resources: &[(String, ResourceScope)],
) -> Failable<(bool, bool)> {
    let sql = "SELECT 1 FROM pipelines WHERE id = $1 AND revision_id = $2 FOR NO KEY UPDATE";
    let current = rows_of(transaction, sql, &[&id.0, &revision_id.0]).await?;
    if current.is_empty() {
        return Ok((false, false));
    }
    // A name that is given twice has the last scope.
    let wanted: BTreeMap<&str, &[u8]> = resources
        .iter()
        .map(|(name, scope)| (name.as_str(), scope.0.as_slice()))
        .collect();
    let (names, scopes): (Vec<&str>, Vec<&[u8]>) = wanted.into_iter().unzip();
    let sql = "DELETE FROM resources WHERE pipeline_id = $1 AND name <> ALL ($2)";
    let statement = transaction.prepare_cached(sql).await?;
    let gone = transaction.execute(&statement, &[&id.0, &names]).await?;
    let sql = "INSERT INTO resources AS r (pipeline_id, name, scope)
        SELECT $1, t.name, t.scope FROM unnest($2::text[], $3::bytea[]) AS t (name, scope)
        ON CONFLICT (pipeline_id, name) DO UPDATE SET scope = excluded.scope, check_seq = r.check_seq + 1,
            check_ended_seq = r.check_seq + 1, check_started_at = NULL, check_finished_at = NULL, checked_at = NULL, check_error = NULL
        WHERE r.scope <> excluded.scope";
    let statement = transaction.prepare_cached(sql).await?;
    let new = transaction
        .execute(&statement, &[&id.0, &names, &scopes])
        .await?;
    Ok((true, gone + new > 0))
}

pub(super) async fn states(
    transaction: &Transaction<'_>,
    id: PipelineId,
    name: Option<&str>,
) -> Failable<Vec<ResourceState>> {
    let sql = "SELECT r.*, (SELECT v.version FROM resource_versions v
            WHERE v.pipeline_id = r.pipeline_id AND v.resource = r.name AND v.scope = r.scope
            ORDER BY v.check_order DESC LIMIT 1) AS newest
        FROM resources r WHERE pipeline_id = $1 AND ($2::text IS NULL OR name = $2) ORDER BY name";
    let rows = rows_of(transaction, sql, &[&id.0, &name]).await?;
    let mut states: Vec<ResourceState> = rows.iter().map(state).collect::<Failable<_>>()?;
    for state in &mut states {
        let list = List {
            pipeline_id: id,
            resource: &state.name,
            scope: state.scope,
        };
        if let Some(pin) = &state.pin {
            let found = versions::containing(transaction, list, &pin.fields).await?;
            state.pin_found = found.is_some();
        }
    }
    Ok(states)
}

fn version_opt(row: &Row, column: &'static str) -> Failable<Option<Version>> {
    match row.try_get::<_, Option<&str>>(column)? {
        Some(text) => Ok(Some(codec::from_json(column, text)?)),
        None => Ok(None),
    }
}

fn state(row: &Row) -> Failable<ResourceState> {
    let pin = match version_opt(row, "pin")? {
        Some(fields) => Some(Pin {
            fields,
            comment: row.try_get("pin_comment")?,
            actor: row.try_get("pin_actor")?,
        }),
        None => None,
    };
    let check_seq: i64 = row.try_get("check_seq")?;
    Ok(ResourceState {
        name: row.try_get("name")?,
        scope: versions::scope(row, "scope")?,
        check_seq,
        checking: row.try_get::<_, i64>("check_ended_seq")? < check_seq,
        check_started_at: row.try_get("check_started_at")?,
        check_finished_at: row.try_get("check_finished_at")?,
        checked_at: row.try_get("checked_at")?,
        check_error: row.try_get("check_error")?,
        pin,
        pin_found: false,
        newest: version_opt(row, "newest")?,
    })
}

pub(super) async fn begin_check(
    transaction: &Transaction<'_>,
    list: List<'_>,
    pause: Duration,
) -> Failable<Option<i64>> {
    let sql = "UPDATE resources SET check_seq = check_seq + 1, check_started_at = clock_timestamp()
        WHERE pipeline_id = $1 AND name = $2 AND scope = $3 AND ($4::bigint = 0 OR coalesce(
            greatest(check_started_at, check_finished_at) <= clock_timestamp() - $4 * interval '1 millisecond', true))
        RETURNING check_seq";
    let scope = list.scope.0.as_slice();
    let params = [
        &list.pipeline_id.0 as &(dyn tokio_postgres::types::ToSql + Sync),
        &list.resource,
        &scope,
        &millis(pause),
    ];
    let row = rows_of(transaction, sql, &params).await?.pop();
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn end_check(
    transaction: &Transaction<'_>,
    id: PipelineId,
    resource: &str,
    seq: i64,
    error: Option<&str>,
) -> Failable<bool> {
    let sql = "UPDATE resources SET check_ended_seq = $3, check_finished_at = clock_timestamp(),
            checked_at = check_started_at, check_error = $4
        WHERE pipeline_id = $1 AND name = $2 AND check_seq = $3 AND check_ended_seq < $3";
    let statement = transaction.prepare_cached(sql).await?;
    let changed = transaction
        .execute(&statement, &[&id.0, &resource, &seq, &error])
        .await?;
    Ok(changed > 0)
}

pub(super) async fn set_pin(
    transaction: &Transaction<'_>,
    id: PipelineId,
    resource: &str,
    pin: &Pin,
) -> Failable<Pinned> {
    let sql = "SELECT scope FROM resources WHERE pipeline_id = $1 AND name = $2 FOR UPDATE";
    let Some(row) = rows_of(transaction, sql, &[&id.0, &resource]).await?.pop() else {
        return Ok(Pinned::NoResource);
    };
    let list = List {
        pipeline_id: id,
        resource,
        scope: versions::scope(&row, "scope")?,
    };
    let found = versions::containing(transaction, list, &pin.fields).await?;
    if found.is_none() {
        return Ok(Pinned::NoVersion);
    }
    let sql = "UPDATE resources SET pin = $3, pin_comment = $4, pin_actor = $5 WHERE pipeline_id = $1 AND name = $2";
    let fields = canonical(&pin.fields);
    let statement = transaction.prepare_cached(sql).await?;
    transaction
        .execute(
            &statement,
            &[&id.0, &resource, &fields, &pin.comment, &pin.actor],
        )
        .await?;
    Ok(Pinned::Done)
}

pub(super) async fn unpin(
    transaction: &Transaction<'_>,
    id: PipelineId,
    resource: &str,
) -> Failable<bool> {
    let sql = "UPDATE resources SET pin = NULL, pin_comment = '', pin_actor = ''
        WHERE pipeline_id = $1 AND name = $2 AND pin IS NOT NULL";
    let statement = transaction.prepare_cached(sql).await?;
    let changed = transaction.execute(&statement, &[&id.0, &resource]).await?;
    Ok(changed > 0)
}
