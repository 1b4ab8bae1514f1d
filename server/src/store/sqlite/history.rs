//! The history of a pipeline for the choice of inputs, in one snapshot.

use super::rows::Columns;
use super::versions::{List, containing};
use crate::model::selection::{
    Build, Found, History, InputConfig, Position, Selection, Standing, Used, apply_pins,
    resource_names, select as choose,
};
use crate::model::version::{ResourceScope, Version, VersionHash};
use crate::model::{JobId, PipelineId};
use crate::store::{Result, StoreError};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::collections::{BTreeMap, HashMap};

pub(super) fn select(
    connection: &Connection,
    pipeline_id: PipelineId,
    job_name: &str,
    mut inputs: Vec<InputConfig>,
) -> Result<Selection> {
    let sql = "SELECT name, scope, pin FROM resources WHERE pipeline_id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([pipeline_id.0.as_bytes()])?;
    let (mut scopes, mut pins) = (HashMap::new(), BTreeMap::new());
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let name: String = columns.take()?;
        scopes.insert(name.clone(), ResourceScope(columns.take()?));
        if let Some(pin) = columns.json_opt()? {
            pins.insert(name, pin);
        }
    }
    apply_pins(&mut inputs, &pins);
    let resources = resource_names(&inputs).into_iter().map(|name| {
        // Of what is not declared there is an empty list.
        let scope = scopes.get(&name).copied();
        (name, scope.unwrap_or(ResourceScope([0; 32])))
    });
    let mut history = Snapshot {
        connection,
        pipeline_id,
        job_name,
        resources: resources.collect(),
        standings: HashMap::new(),
    };
    choose(&mut history, &inputs)
}

struct Snapshot<'a> {
    connection: &'a Connection,
    pipeline_id: PipelineId,
    job_name: &'a str,
    resources: Vec<(String, ResourceScope)>,
    standings: HashMap<(usize, VersionHash), Option<Standing>>,
}

/// Successful builds of the job ?2 of the pipeline ?1.
const SUCCEEDED: &str = "FROM jobs WHERE pipeline_id = ?1 AND name = ?2 AND number IS NOT NULL AND outcome = 'succeeded'";
/// Later than any build.
const END: Position = Position {
    number: i32::MAX,
    rerun: i32::MAX,
};

fn build(row: &Row) -> rusqlite::Result<Build> {
    let mut columns = Columns::of(row);
    Ok(Build {
        id: columns.id(JobId)?,
        position: Position {
            number: columns.take()?,
            rerun: columns.take()?,
        },
        versions: Vec::new(),
    })
}

fn found(row: &Row) -> rusqlite::Result<Found> {
    let mut columns = Columns::of(row);
    Ok(Found {
        hash: VersionHash(columns.take()?),
        version: columns.json()?,
    })
}

impl Snapshot<'_> {
    fn list(&self, resource: usize) -> List<'_> {
        let (name, scope) = &self.resources[resource];
        List {
            pipeline_id: self.pipeline_id,
            resource: name,
            scope: *scope,
        }
    }

    fn standing(&mut self, resource: usize, hash: VersionHash) -> Result<Option<Standing>> {
        if let Some(known) = self.standings.get(&(resource, hash)) {
            return Ok(*known);
        }
        let sql = "SELECT check_order, enabled FROM resource_versions \
             WHERE pipeline_id = ?1 AND resource = ?2 AND scope = ?3 AND hash = ?4";
        let list = self.list(resource);
        let given = params![
            list.pipeline_id.0.as_bytes(),
            list.resource,
            list.scope.0,
            hash.0
        ];
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row(given, |row| {
            Ok(Standing {
                order: row.get(0)?,
                enabled: row.get(1)?,
            })
        });
        let standing = found.optional()?;
        self.standings.insert((resource, hash), standing);
        Ok(standing)
    }

    /// Fills in what builds of a job, newest first and all that there are between them, made and used: two statements
    /// for all of them.
    fn fill(&mut self, job: &str, builds: &mut [Build]) -> Result<()> {
        let (Some(newest), Some(oldest)) = (builds.first(), builds.last()) else {
            return Ok(());
        };
        let (newest, oldest) = (newest.position, oldest.position);
        for (table, order) in [
            ("build_outputs", "u.saved_at, u.hash"),
            ("build_inputs", "u.name"),
        ] {
            let sql = format!(
                "SELECT j.number, j.rerun, u.resource, u.hash FROM jobs j CROSS JOIN {table} u ON u.job_id = j.id \
                 WHERE j.pipeline_id = ?1 AND j.name = ?2 AND j.number IS NOT NULL AND j.outcome = 'succeeded' \
                 AND (j.number, j.rerun) <= (?3, ?4) AND (j.number, j.rerun) >= (?5, ?6) \
                 ORDER BY j.number DESC, j.rerun DESC, {order}"
            );
            let connection = self.connection;
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params![
                self.pipeline_id.0.as_bytes(),
                job,
                newest.number,
                newest.rerun,
                oldest.number,
                oldest.rerun
            ])?;
            let mut place = 0;
            while let Some(row) = rows.next()? {
                let position = Position {
                    number: row.get(0)?,
                    rerun: row.get(1)?,
                };
                // Both are in the same order.
                while builds
                    .get(place)
                    .is_some_and(|build| build.position > position)
                {
                    place += 1;
                }
                let name = row.get_ref(2)?.as_str().unwrap_or_default();
                let known = |(known, _): &(String, ResourceScope)| known.as_str().cmp(name);
                if let Ok(resource) = self.resources.binary_search_by(known)
                    && let Some(build) = builds.get_mut(place)
                {
                    let hash = VersionHash(row.get(3)?);
                    build.versions.push(Used {
                        resource,
                        hash,
                        standing: self.standing(resource, hash)?,
                    });
                }
            }
        }
        for build in builds {
            // Stable: what it made stays first.
            build.versions.sort_by_key(|used| used.resource);
        }
        Ok(())
    }

    /// The newest version of a list that this job has used: its order.
    fn newest_used(&self, resource: usize) -> Result<Option<(i64, VersionHash)>> {
        let list = self.list(resource);
        let given = params![
            list.pipeline_id.0.as_bytes(),
            list.resource,
            list.scope.0,
            self.job_name
        ];
        let any = "SELECT 1 FROM build_inputs WHERE pipeline_id = ?1 AND resource = ?2 AND job_name = ?3 LIMIT 1";
        let asked = params![list.pipeline_id.0.as_bytes(), list.resource, self.job_name];
        if !self.connection.prepare_cached(any)?.exists(asked)? {
            return Ok(None);
        }
        let sql = "SELECT check_order, hash FROM resource_versions v \
             WHERE pipeline_id = ?1 AND resource = ?2 AND scope = ?3 \
             AND EXISTS (SELECT 1 FROM build_inputs i WHERE i.pipeline_id = ?1 AND i.job_name = ?4 \
                 AND i.resource = ?2 AND i.hash = v.hash) \
             ORDER BY check_order DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let newest = statement.query_row(given, |row| Ok((row.get(0)?, VersionHash(row.get(1)?))));
        Ok(newest.optional()?)
    }

    /// Enabled versions of a list that satisfy `rest`, which may name ?4.
    fn enabled(&self, resource: usize, rest: &str, order: i64) -> Result<Vec<Found>> {
        let sql = format!(
            "SELECT hash, version FROM resource_versions \
             WHERE pipeline_id = ?1 AND resource = ?2 AND scope = ?3 AND enabled {rest}"
        );
        let list = self.list(resource);
        let given = params![
            list.pipeline_id.0.as_bytes(),
            list.resource,
            list.scope.0,
            order
        ];
        let mut statement = self.connection.prepare_cached(&sql)?;
        let versions = statement.query_map(given, found)?;
        Ok(versions.collect::<rusqlite::Result<_>>()?)
    }
}

impl History for Snapshot<'_> {
    type Error = StoreError;

    fn builds(&mut self, job: &str, before: Option<Position>, limit: usize) -> Result<Vec<Build>> {
        let sql = format!(
            "SELECT id, number, rerun {SUCCEEDED} AND (number, rerun) < (?3, ?4) \
             ORDER BY number DESC, rerun DESC LIMIT ?5"
        );
        let before = before.unwrap_or(END);
        let given = params![
            self.pipeline_id.0.as_bytes(),
            job,
            before.number,
            before.rerun,
            limit as i64
        ];
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(given, build)?;
        let mut builds: Vec<Build> = rows.collect::<rusqlite::Result<_>>()?;
        self.fill(job, &mut builds)?;
        Ok(builds)
    }

    fn build_with(
        &mut self,
        job: &str,
        versions: &[(usize, VersionHash)],
        before: Option<Position>,
    ) -> Result<Option<Build>> {
        let before = before.unwrap_or(END);
        let mut given: Vec<Box<dyn rusqlite::ToSql>> = vec![
            Box::new(self.pipeline_id.0.into_bytes()),
            Box::new(job.to_owned()),
            Box::new(before.number),
            Box::new(before.rerun),
        ];
        let mut hits = Vec::new();
        for (resource, hash) in versions {
            given.push(Box::new(self.resources[*resource].0.clone()));
            given.push(Box::new(hash.0));
            let (resource, hash) = (given.len() - 1, given.len());
            let of = format!(
                "WHERE pipeline_id = ?1 AND job_name = ?2 AND resource = ?{resource} AND hash = ?{hash}"
            );
            hits.push(format!(
                "id IN (SELECT job_id FROM build_outputs {of} UNION ALL SELECT job_id FROM build_inputs {of})"
            ));
        }
        // `+`: the builds that have the versions are looked up, not all builds looked through.
        let sql = format!(
            "SELECT id, number, rerun FROM jobs WHERE {} AND +pipeline_id = ?1 AND +name = ?2 \
             AND +number IS NOT NULL AND +outcome = 'succeeded' AND (+number, +rerun) < (?3, ?4) \
             ORDER BY +number DESC, +rerun DESC LIMIT 1",
            hits.join(" AND ")
        );
        let given: Vec<&dyn rusqlite::ToSql> = given.iter().map(AsRef::as_ref).collect();
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_row(&given[..], build).optional()?;
        let mut found: Vec<Build> = found.into_iter().collect();
        self.fill(job, &mut found)?;
        Ok(found.pop())
    }

    fn latest(&mut self, resource: usize) -> Result<Option<Found>> {
        let rest = "AND check_order <= ?4 ORDER BY check_order DESC LIMIT 1";
        Ok(self.enabled(resource, rest, i64::MAX)?.pop())
    }

    fn next(&mut self, resource: usize) -> Result<(Option<Found>, bool)> {
        let Some((newest, _)) = self.newest_used(resource)? else {
            return Ok((self.latest(resource)?, false));
        };
        let rest = "AND check_order > ?4 ORDER BY check_order LIMIT 2";
        let mut newer = self.enabled(resource, rest, newest)?.into_iter();
        if let Some(next) = newer.next() {
            return Ok((Some(next), newer.next().is_some()));
        }
        let rest = "AND check_order <= ?4 ORDER BY check_order DESC LIMIT 1";
        Ok((self.enabled(resource, rest, newest)?.pop(), false))
    }

    fn containing(&mut self, resource: usize, fields: &Version) -> Result<Option<Found>> {
        containing(self.connection, self.list(resource), fields)
    }

    fn version(&mut self, resource: usize, hash: VersionHash) -> Result<Option<Version>> {
        let sql = "SELECT version FROM resource_versions \
             WHERE pipeline_id = ?1 AND resource = ?2 AND scope = ?3 AND hash = ?4";
        let list = self.list(resource);
        let given = params![
            list.pipeline_id.0.as_bytes(),
            list.resource,
            list.scope.0,
            hash.0
        ];
        let mut statement = self.connection.prepare_cached(sql)?;
        let version = statement.query_row(given, |row| Columns::of(row).json());
        Ok(version.optional()?)
    }

    fn last_sources(&mut self, resource: usize) -> Result<Option<BTreeMap<String, Position>>> {
        let Some((_, hash)) = self.newest_used(resource)? else {
            return Ok(None);
        };
        // In the order of positions: of several builds of a job the newest stays.
        let sql = "SELECT f.name, f.number, f.rerun FROM build_pipes p JOIN jobs f ON f.id = p.from_job_id \
             WHERE f.number IS NOT NULL AND p.to_job_id = (SELECT j.id FROM build_inputs i JOIN jobs j ON j.id = i.job_id \
                 WHERE i.pipeline_id = ?1 AND i.job_name = ?2 AND i.resource = ?3 AND i.hash = ?4 \
                 ORDER BY j.number DESC, j.rerun DESC LIMIT 1) \
             ORDER BY f.number, f.rerun";
        let given = params![
            self.pipeline_id.0.as_bytes(),
            self.job_name,
            self.resources[resource].0,
            hash.0
        ];
        let mut statement = self.connection.prepare_cached(sql)?;
        let sources = statement.query_map(given, |row| {
            let position = Position {
                number: row.get(1)?,
                rerun: row.get(2)?,
            };
            Ok((row.get(0)?, position))
        })?;
        Ok(Some(sources.collect::<rusqlite::Result<_>>()?))
    }

    fn is_used(&mut self, input: &str, resource: usize, hash: VersionHash) -> Result<bool> {
        let sql = "SELECT 1 FROM build_inputs \
             WHERE pipeline_id = ?1 AND job_name = ?2 AND resource = ?3 AND hash = ?4 AND name = ?5 LIMIT 1";
        let given = params![
            self.pipeline_id.0.as_bytes(),
            self.job_name,
            self.resources[resource].0,
            hash.0,
            input
        ];
        Ok(self.connection.prepare_cached(sql)?.exists(given)?)
    }
}
