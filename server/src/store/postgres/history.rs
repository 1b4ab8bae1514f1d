//! The history of a pipeline for the choice of inputs, in one snapshot.
//!
//! The choice is plain code that asks for one thing after the other. It runs on a thread that may block and waits there
//! for each answer of the database.

use super::super::codec;
use super::versions::{self, List, rows_of};
use super::{Failable, Failure};
use crate::model::selection::{
    Build, Found, History, InputConfig, Position, Selection, Standing, Used, apply_pins,
    resource_names, select as choose,
};
use crate::model::version::{ResourceScope, Version, VersionHash};
use crate::model::{JobId, PipelineId};
use crate::store::{Result, StoreError};
use deadpool_postgres::{Object, Transaction};
use std::collections::BTreeMap;
use tokio::runtime::Handle;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Chooses the inputs of a job.
pub(super) async fn select(
    mut client: Object,
    pipeline_id: PipelineId,
    job_name: String,
    mut inputs: Vec<InputConfig>,
) -> Result<Selection> {
    let runtime = Handle::current();
    let choosing = tokio::task::spawn_blocking(move || {
        let transaction = runtime.block_on(versions::snapshot(&mut client))?;
        let resources = runtime.block_on(resources(&transaction, pipeline_id, &mut inputs))?;
        let mut history = Snapshot {
            runtime: &runtime,
            transaction: &transaction,
            pipeline_id,
            job_name: &job_name,
            names: resources.iter().map(|(name, _)| name.clone()).collect(),
            scopes: resources
                .iter()
                .map(|(_, scope)| scope.0.to_vec())
                .collect(),
        };
        Ok(choose(&mut history, &inputs)?)
    });
    choosing
        .await
        .map_err(|error| StoreError::Internal(Box::new(error)))?
}

/// The inputs' resources with their scopes; pins by command are put into the inputs.
async fn resources(
    transaction: &Transaction<'_>,
    id: PipelineId,
    inputs: &mut [InputConfig],
) -> Failable<Vec<(String, ResourceScope)>> {
    let sql = "SELECT name, scope, pin FROM resources WHERE pipeline_id = $1";
    let (mut scopes, mut pins) = (BTreeMap::new(), BTreeMap::new());
    for row in rows_of(transaction, sql, &[&id.0]).await? {
        let name: String = row.try_get("name")?;
        scopes.insert(name.clone(), versions::scope(&row, "scope")?);
        if let Some(text) = row.try_get::<_, Option<&str>>("pin")? {
            pins.insert(name, codec::from_json("resources.pin", text)?);
        }
    }
    apply_pins(inputs, &pins);
    let with_scope = |name: String| {
        // Of what is not declared there is an empty list.
        let scope = scopes.get(&name).copied();
        (name, scope.unwrap_or(ResourceScope([0; 32])))
    };
    Ok(resource_names(inputs).into_iter().map(with_scope).collect())
}

struct Snapshot<'a> {
    runtime: &'a Handle,
    transaction: &'a Transaction<'a>,
    pipeline_id: PipelineId,
    job_name: &'a str,
    names: Vec<String>,
    scopes: Vec<Vec<u8>>,
}

/// The columns of builds `p` with what they made and used of the resources $3 with the scopes $4, in order.
const WITH_VERSIONS: &str = "SELECT p.id, p.number, p.rerun, (u.place - 1)::int AS place, u.hash, v.check_order, v.enabled
    FROM page p
    LEFT JOIN LATERAL (
        SELECT s.place, s.resource, s.scope, o.hash, 0 AS kind, o.saved_at, '' AS name FROM build_outputs o
        JOIN unnest($3::text[], $4::bytea[]) WITH ORDINALITY AS s (resource, scope, place) ON s.resource = o.resource
        WHERE o.job_id = p.id
        UNION ALL
        SELECT s.place, s.resource, s.scope, i.hash, 1, NULL, i.name FROM build_inputs i
        JOIN unnest($3::text[], $4::bytea[]) WITH ORDINALITY AS s (resource, scope, place) ON s.resource = i.resource
        WHERE i.job_id = p.id
    ) u ON true
    LEFT JOIN resource_versions v
        ON v.pipeline_id = $1 AND v.resource = u.resource AND v.scope = u.scope AND v.hash = u.hash
    ORDER BY p.number DESC, p.rerun DESC, u.place, u.kind, u.saved_at, u.name, u.hash";

/// Successful builds of the job $2 of the pipeline $1 before ($5, $6).
const SUCCEEDED: &str = "SELECT j.id, j.number, j.rerun FROM jobs j WHERE j.pipeline_id = $1 AND j.name = $2
    AND j.number IS NOT NULL AND j.outcome = 'succeeded' AND (j.number, j.rerun) < ($5::int, $6::int)";

/// Later than any build.
const END: Position = Position {
    number: i32::MAX,
    rerun: i32::MAX,
};

/// Puts together the rows of each build.
fn builds(rows: &[Row]) -> Failable<Vec<Build>> {
    let mut builds: Vec<Build> = Vec::new();
    for row in rows {
        let id = JobId(row.try_get("id")?);
        if builds.last().is_none_or(|last| last.id != id) {
            builds.push(Build {
                id,
                position: Position {
                    number: row.try_get("number")?,
                    rerun: row.try_get("rerun")?,
                },
                versions: Vec::new(),
            });
        }
        let place: Option<i32> = row.try_get("place")?;
        let (Some(place), Some(build)) = (place, builds.last_mut()) else {
            continue;
        };
        let order: Option<i64> = row.try_get("check_order")?;
        let enabled: Option<bool> = row.try_get("enabled")?;
        let standing = order.zip(enabled);
        build.versions.push(Used {
            resource: usize::try_from(place).unwrap_or(usize::MAX),
            hash: versions::hash(row, "hash")?,
            standing: standing.map(|(order, enabled)| Standing { order, enabled }),
        });
    }
    Ok(builds)
}

fn found(row: &Row) -> Failable<Found> {
    Ok(Found {
        hash: versions::hash(row, "hash")?,
        version: versions::version(row, "version")?,
    })
}

impl Snapshot<'_> {
    fn list(&self, resource: usize) -> List<'_> {
        let scope = self.scopes[resource].as_slice().try_into();
        List {
            pipeline_id: self.pipeline_id,
            resource: &self.names[resource],
            scope: ResourceScope(scope.unwrap_or_default()),
        }
    }

    fn rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Failable<Vec<Row>> {
        self.runtime
            .block_on(rows_of(self.transaction, sql, params))
    }

    fn newest_used(&self, resource: usize) -> Failable<Option<(i64, VersionHash)>> {
        let id = &self.pipeline_id.0;
        let name = &self.names[resource];
        let any = "SELECT 1 FROM build_inputs WHERE pipeline_id = $1 AND job_name = $2 AND resource = $3 LIMIT 1";
        if self.rows(any, &[id, &self.job_name, name])?.is_empty() {
            return Ok(None);
        }
        // One probe a version, from the newest: a join could not stop at the first.
        let sql = "SELECT v.check_order, v.hash FROM resource_versions v
            WHERE v.pipeline_id = $1 AND v.resource = $3 AND v.scope = $4
            AND (SELECT true FROM build_inputs i WHERE i.pipeline_id = $1 AND i.job_name = $2 AND i.resource = $3
                AND i.hash = v.hash LIMIT 1)
            ORDER BY v.check_order DESC LIMIT 1";
        let params: [&(dyn ToSql + Sync); 4] = [id, &self.job_name, name, &self.scopes[resource]];
        let row = self.rows(sql, &params)?.pop();
        let read = |row: Row| Ok((row.try_get("check_order")?, versions::hash(&row, "hash")?));
        row.map(read).transpose()
    }

    /// Enabled versions of a list that satisfy `rest`, which may name $4.
    fn enabled(&self, resource: usize, rest: &str, order: i64) -> Failable<Vec<Found>> {
        let sql = format!(
            "SELECT hash, version FROM resource_versions
             WHERE pipeline_id = $1 AND resource = $2 AND scope = $3 AND enabled {rest}"
        );
        let params: [&(dyn ToSql + Sync); 4] = [
            &self.pipeline_id.0,
            &self.names[resource],
            &self.scopes[resource],
            &order,
        ];
        self.rows(&sql, &params)?.iter().map(found).collect()
    }
}

impl History for Snapshot<'_> {
    type Error = Failure;

    fn builds(
        &mut self,
        job: &str,
        before: Option<Position>,
        limit: usize,
    ) -> Failable<Vec<Build>> {
        let sql = format!(
            "WITH page AS MATERIALIZED ({SUCCEEDED} ORDER BY j.number DESC, j.rerun DESC LIMIT $7) {WITH_VERSIONS}"
        );
        let before = before.unwrap_or(END);
        let params: [&(dyn ToSql + Sync); 7] = [
            &self.pipeline_id.0,
            &job,
            &self.names,
            &self.scopes,
            &before.number,
            &before.rerun,
            &(limit as i64),
        ];
        builds(&self.rows(&sql, &params)?)
    }

    fn build_with(
        &mut self,
        job: &str,
        wanted: &[(usize, VersionHash)],
        before: Option<Position>,
    ) -> Failable<Option<Build>> {
        let mut sql = format!("WITH page AS MATERIALIZED ({SUCCEEDED}");
        let before = before.unwrap_or(END);
        let hashes: Vec<&[u8]> = wanted.iter().map(|(_, hash)| hash.0.as_slice()).collect();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![
            &self.pipeline_id.0,
            &job,
            &self.names,
            &self.scopes,
            &before.number,
            &before.rerun,
        ];
        for ((resource, _), hash) in wanted.iter().zip(&hashes) {
            params.push(&self.names[*resource]);
            params.push(hash);
            let (resource, hash) = (params.len() - 1, params.len());
            let of = format!(
                "WHERE pipeline_id = $1 AND job_name = $2 AND resource = ${resource} AND hash = ${hash}"
            );
            sql += &format!(
                " AND j.id IN (SELECT job_id FROM build_outputs {of} UNION ALL SELECT job_id FROM build_inputs {of})"
            );
        }
        sql += &format!(" ORDER BY j.number DESC, j.rerun DESC LIMIT 1) {WITH_VERSIONS}");
        Ok(builds(&self.rows(&sql, &params)?)?.pop())
    }

    fn latest(&mut self, resource: usize) -> Failable<Option<Found>> {
        let rest = "AND check_order <= $4 ORDER BY check_order DESC LIMIT 1";
        Ok(self.enabled(resource, rest, i64::MAX)?.pop())
    }

    fn next(&mut self, resource: usize) -> Failable<(Option<Found>, bool)> {
        let Some((newest, _)) = self.newest_used(resource)? else {
            return Ok((self.latest(resource)?, false));
        };
        let rest = "AND check_order > $4 ORDER BY check_order LIMIT 2";
        let mut newer = self.enabled(resource, rest, newest)?.into_iter();
        if let Some(next) = newer.next() {
            return Ok((Some(next), newer.next().is_some()));
        }
        let rest = "AND check_order <= $4 ORDER BY check_order DESC LIMIT 1";
        Ok((self.enabled(resource, rest, newest)?.pop(), false))
    }

    fn containing(&mut self, resource: usize, fields: &Version) -> Failable<Option<Found>> {
        let looking = versions::containing(self.transaction, self.list(resource), fields);
        self.runtime.block_on(looking)
    }

    fn version(&mut self, resource: usize, hash: VersionHash) -> Failable<Option<Version>> {
        let sql = "SELECT version FROM resource_versions
            WHERE pipeline_id = $1 AND resource = $2 AND scope = $3 AND hash = $4";
        let hash = hash.0.as_slice();
        let params: [&(dyn ToSql + Sync); 4] = [
            &self.pipeline_id.0,
            &self.names[resource],
            &self.scopes[resource],
            &hash,
        ];
        let row = self.rows(sql, &params)?.pop();
        row.map(|row| versions::version(&row, "version"))
            .transpose()
    }

    fn last_sources(&mut self, resource: usize) -> Failable<Option<BTreeMap<String, Position>>> {
        let Some((_, hash)) = self.newest_used(resource)? else {
            return Ok(None);
        };
        // In the order of positions: of several builds of a job the newest stays.
        let sql = "SELECT f.name, f.number, f.rerun FROM build_pipes p JOIN jobs f ON f.id = p.from_job_id
            WHERE f.number IS NOT NULL AND p.to_job_id = (
                SELECT j.id FROM build_inputs i JOIN jobs j ON j.id = i.job_id
                WHERE i.pipeline_id = $1 AND i.job_name = $2 AND i.resource = $3 AND i.hash = $4
                ORDER BY j.number DESC, j.rerun DESC LIMIT 1)
            ORDER BY f.number, f.rerun";
        let hash = hash.0.as_slice();
        let params: [&(dyn ToSql + Sync); 4] = [
            &self.pipeline_id.0,
            &self.job_name,
            &self.names[resource],
            &hash,
        ];
        let source = |row: &Row| -> Failable<(String, Position)> {
            let position = Position {
                number: row.try_get("number")?,
                rerun: row.try_get("rerun")?,
            };
            Ok((row.try_get("name")?, position))
        };
        let rows = self.rows(sql, &params)?;
        Ok(Some(rows.iter().map(source).collect::<Failable<_>>()?))
    }

    fn is_used(&mut self, input: &str, resource: usize, hash: VersionHash) -> Failable<bool> {
        let sql = "SELECT 1 FROM build_inputs
            WHERE pipeline_id = $1 AND job_name = $2 AND resource = $3 AND hash = $4 AND name = $5 LIMIT 1";
        let hash = hash.0.as_slice();
        let params: [&(dyn ToSql + Sync); 5] = [
            &self.pipeline_id.0,
            &self.job_name,
            &self.names[resource],
            &hash,
            &input,
        ];
        Ok(!self.rows(sql, &params)?.is_empty())
    }
}
