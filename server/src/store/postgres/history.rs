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
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use tokio::runtime::Handle;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

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
            standings: HashMap::new(),
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
    standings: HashMap<(usize, VersionHash), Option<Standing>>,
}

/// Successful builds of the job $2 of the pipeline $1 before ($3, $4).
const SUCCEEDED: &str = "SELECT j.id, j.number, j.rerun FROM jobs j WHERE j.pipeline_id = $1 AND j.name = $2
    AND j.number IS NOT NULL AND j.outcome = 'succeeded' AND (j.number, j.rerun) < ($3::int, $4::int)";
/// What the builds $1 made and used, in the order that counts. By ids, not by a join: such a plan does not depend on
/// what PostgreSQL knows about the tables, which is nothing after a burst of builds.
const VERSIONS: &str = "SELECT job_id, resource, hash FROM (
        SELECT job_id, resource, hash, 0 AS kind, saved_at, '' AS name FROM build_outputs WHERE job_id = ANY ($1)
        UNION ALL
        SELECT job_id, resource, hash, 1, NULL, name FROM build_inputs WHERE job_id = ANY ($1)
    ) u ORDER BY kind, saved_at, name, hash";

/// Later than any build.
const END: Position = Position {
    number: i32::MAX,
    rerun: i32::MAX,
};

fn build(row: &Row) -> Failable<Build> {
    Ok(Build {
        id: JobId(row.try_get("id")?),
        position: Position {
            number: row.try_get("number")?,
            rerun: row.try_get("rerun")?,
        },
        versions: Vec::new(),
    })
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

    /// Fills in what builds made and used.
    fn fill(&mut self, builds: &mut [Build]) -> Failable<()> {
        let ids: Vec<Uuid> = builds.iter().map(|build| build.id.0).collect();
        let rows = self.rows(VERSIONS, &[&ids])?;
        let places: HashMap<Uuid, usize> = ids.into_iter().zip(0..).collect();
        let mut versions = Vec::with_capacity(rows.len());
        for row in &rows {
            let name: &str = row.try_get("resource")?;
            let resource = self
                .names
                .binary_search_by(|known| known.as_str().cmp(name));
            let place = places.get(&row.try_get("job_id")?);
            if let (Ok(resource), Some(place)) = (resource, place) {
                versions.push((*place, resource, versions::hash(row, "hash")?));
            }
        }
        self.learn(
            versions
                .iter()
                .map(|(_, resource, hash)| (*resource, *hash)),
        )?;
        for (place, resource, hash) in versions {
            let standing = self.standings.get(&(resource, hash)).copied().flatten();
            builds[place].versions.push(Used {
                resource,
                hash,
                standing,
            });
        }
        for build in builds {
            // Stable: what it made stays first.
            build.versions.sort_by_key(|used| used.resource);
        }
        Ok(())
    }

    /// Looks up the standing of versions that were not seen before.
    fn learn(&mut self, versions: impl Iterator<Item = (usize, VersionHash)>) -> Failable<()> {
        let mut new: BTreeMap<usize, Vec<VersionHash>> = BTreeMap::new();
        for version in versions {
            if let Entry::Vacant(unseen) = self.standings.entry(version) {
                unseen.insert(None);
                new.entry(version.0).or_default().push(version.1);
            }
        }
        let sql = "SELECT hash, check_order, enabled FROM resource_versions
            WHERE pipeline_id = $1 AND resource = $2 AND scope = $3 AND hash = ANY ($4)";
        for (resource, hashes) in new {
            let hashes: Vec<&[u8]> = hashes.iter().map(|hash| hash.0.as_slice()).collect();
            let params: [&(dyn ToSql + Sync); 4] = [
                &self.pipeline_id.0,
                &self.names[resource],
                &self.scopes[resource],
                &hashes,
            ];
            for row in self.rows(sql, &params)? {
                let standing = Standing {
                    order: row.try_get("check_order")?,
                    enabled: row.try_get("enabled")?,
                };
                let hash = versions::hash(&row, "hash")?;
                self.standings.insert((resource, hash), Some(standing));
            }
        }
        Ok(())
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
        let sql = format!("{SUCCEEDED} ORDER BY j.number DESC, j.rerun DESC LIMIT $5");
        let before = before.unwrap_or(END);
        let params: [&(dyn ToSql + Sync); 5] = [
            &self.pipeline_id.0,
            &job,
            &before.number,
            &before.rerun,
            &(limit as i64),
        ];
        let rows = self.rows(&sql, &params)?;
        let mut builds: Vec<Build> = rows.iter().map(build).collect::<Failable<_>>()?;
        self.fill(&mut builds)?;
        Ok(builds)
    }

    fn build_with(
        &mut self,
        job: &str,
        wanted: &[(usize, VersionHash)],
        before: Option<Position>,
    ) -> Failable<Option<Build>> {
        let mut sql = SUCCEEDED.to_owned();
        let before = before.unwrap_or(END);
        let hashes: Vec<&[u8]> = wanted.iter().map(|(_, hash)| hash.0.as_slice()).collect();
        let mut params: Vec<&(dyn ToSql + Sync)> =
            vec![&self.pipeline_id.0, &job, &before.number, &before.rerun];
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
        sql += " ORDER BY j.number DESC, j.rerun DESC LIMIT 1";
        let rows = self.rows(&sql, &params)?;
        let mut builds: Vec<Build> = rows.iter().map(build).collect::<Failable<_>>()?;
        self.fill(&mut builds)?;
        Ok(builds.pop())
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
