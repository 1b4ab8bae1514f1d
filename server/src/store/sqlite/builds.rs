//! Builds: their numbers, what they use and what they make.

use super::rows::{Columns, micros, now};
use super::versions::{self, List};
use super::writer::Hints;
use crate::model::run::BuildNumber;
use crate::model::selection::ChosenInput;
use crate::model::version::{
    BuildInput, BuildOutput, BuildVersions, Metadata, ResourceScope, Version, VersionHash,
    canonical,
};
use crate::model::{JobId, PipelineId};
use crate::store::{NewBuild, Result, Saved, Taken};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::BTreeSet;

/// The number of a new build.
pub(super) fn number(
    connection: &Connection,
    id: PipelineId,
    job_name: &str,
    build: NewBuild,
) -> Result<BuildNumber> {
    if let Some(repeated) = build.rerun_of
        && let Some(number) = rerun(connection, id, job_name, repeated)?
    {
        return Ok(number);
    }
    let sql = "INSERT INTO build_numbers (pipeline_id, job_name, last) VALUES (?1, ?2, 1) \
         ON CONFLICT (pipeline_id, job_name) DO UPDATE SET last = last + 1 RETURNING last";
    let given = params![id.0.as_bytes(), job_name];
    let mut statement = connection.prepare_cached(sql)?;
    Ok(BuildNumber {
        number: statement.query_row(given, |row| row.get(0))?,
        rerun: 0,
        rerun_of: None,
    })
}

/// The number of another rerun of a build; `None` if it is no build of this job.
fn rerun(
    connection: &Connection,
    id: PipelineId,
    job_name: &str,
    repeated: JobId,
) -> Result<Option<BuildNumber>> {
    let sql = "SELECT o.number, coalesce(o.rerun_of, o.id), (SELECT max(r.rerun) FROM jobs r \
             WHERE r.pipeline_id = ?2 AND r.name = ?3 AND r.number = o.number) + 1 \
         FROM jobs o WHERE o.id = ?1 AND o.pipeline_id = ?2 AND o.name = ?3 AND o.number IS NOT NULL";
    let given = params![repeated.0.as_bytes(), id.0.as_bytes(), job_name];
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row(given, |row| {
        let mut columns = Columns::of(row);
        let number = columns.take()?;
        let rerun_of = Some(columns.id(JobId)?);
        Ok(BuildNumber {
            number,
            rerun: columns.take()?,
            rerun_of,
        })
    });
    Ok(found.optional()?)
}

/// Pipeline and name of a build that is not over.
fn open(connection: &Connection, job_id: JobId) -> Result<Option<(PipelineId, String)>> {
    let sql = "SELECT pipeline_id, name FROM jobs WHERE id = ?1 AND number IS NOT NULL AND outcome IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([job_id.0.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.id(PipelineId)?, columns.take()?))
    });
    Ok(found.optional()?)
}

/// A version that a put made.
pub(super) struct Output<'a> {
    pub(super) resource: &'a str,
    pub(super) scope: ResourceScope,
    pub(super) version: &'a Version,
    pub(super) metadata: &'a Metadata,
}

pub(super) fn save_output(
    connection: &Connection,
    job_id: JobId,
    output: &Output<'_>,
    hints: &mut Hints,
) -> Result<Saved> {
    let Some((id, job_name)) = open(connection, job_id)? else {
        return Ok(Saved::Stale);
    };
    let hash = VersionHash::of(output.version);
    let sql = "INSERT INTO build_outputs (job_id, pipeline_id, job_name, resource, hash, version, saved_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![
        job_id.0.as_bytes(),
        id.0.as_bytes(),
        job_name,
        output.resource,
        hash.0,
        canonical(output.version),
        micros(now()),
    ])?;
    hints.schedule = Some(id);
    let list = List {
        pipeline_id: id,
        resource: output.resource,
        scope: output.scope,
    };
    let sql = "SELECT 1 FROM resources WHERE pipeline_id = ?1 AND name = ?2 AND scope = ?3";
    let given = params![id.0.as_bytes(), list.resource, list.scope.0];
    if !connection.prepare_cached(sql)?.exists(given)? {
        return Ok(Saved::Stored { new: 0 });
    }
    let is_new = !versions::has(connection, list, hash)?;
    if is_new {
        let end = versions::end(connection, list)?;
        versions::place(connection, list, output.version, end + 1)?;
    }
    versions::set_metadata(connection, list, hash, output.metadata)?;
    Ok(Saved::Stored {
        new: usize::from(is_new),
    })
}

fn has_inputs(connection: &Connection, job_id: JobId) -> Result<bool> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM build_inputs WHERE job_id = ?1 LIMIT 1")?;
    Ok(statement.exists([job_id.0.as_bytes()])?)
}

pub(super) fn take(
    connection: &Connection,
    job_id: JobId,
    inputs: &[ChosenInput],
) -> Result<Taken> {
    let Some((id, job_name)) = open(connection, job_id)? else {
        return Ok(Taken::Stale);
    };
    if has_inputs(connection, job_id)? {
        return Ok(Taken::Before);
    }
    let sql = "INSERT INTO build_inputs (job_id, pipeline_id, job_name, name, resource, hash, version, first_occurrence) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut statement = connection.prepare_cached(sql)?;
    for input in inputs {
        statement.execute(params![
            job_id.0.as_bytes(),
            id.0.as_bytes(),
            job_name,
            input.name,
            input.resource,
            input.hash.0,
            canonical(&input.version),
            input.first_occurrence,
        ])?;
    }
    let sources: BTreeSet<&JobId> = inputs.iter().flat_map(|input| &input.sources).collect();
    let sql = "INSERT INTO build_pipes (from_job_id, to_job_id) VALUES (?1, ?2)";
    let mut statement = connection.prepare_cached(sql)?;
    for source in sources {
        statement.execute(params![source.0.as_bytes(), job_id.0.as_bytes()])?;
    }
    Ok(Taken::Stored)
}

pub(super) fn adopt(connection: &Connection, job_id: JobId, original: JobId) -> Result<Taken> {
    let Some((id, job_name)) = open(connection, job_id)? else {
        return Ok(Taken::Stale);
    };
    if has_inputs(connection, job_id)? {
        return Ok(Taken::Before);
    }
    let sql = "INSERT INTO build_inputs (job_id, pipeline_id, job_name, name, resource, hash, version, first_occurrence) \
         SELECT ?1, pipeline_id, job_name, name, resource, hash, version, 0 FROM build_inputs \
         WHERE job_id = ?2 AND pipeline_id = ?3 AND job_name = ?4";
    let given = params![
        job_id.0.as_bytes(),
        original.0.as_bytes(),
        id.0.as_bytes(),
        job_name
    ];
    if connection.prepare_cached(sql)?.execute(given)? > 0 {
        let sql = "INSERT INTO build_pipes (from_job_id, to_job_id) \
             SELECT from_job_id, ?1 FROM build_pipes WHERE to_job_id = ?2";
        let given = params![job_id.0.as_bytes(), original.0.as_bytes()];
        connection.prepare_cached(sql)?.execute(given)?;
    }
    Ok(Taken::Stored)
}

/// The metadata of a version of `u` if it is in its resource's list.
const METADATA: &str = "(SELECT v.metadata FROM resources r JOIN resource_versions v \
         ON v.pipeline_id = r.pipeline_id AND v.resource = r.name AND v.scope = r.scope AND v.hash = u.hash \
     WHERE r.pipeline_id = u.pipeline_id AND r.name = u.resource)";

pub(super) fn versions(connection: &Connection, job_id: JobId) -> Result<BuildVersions> {
    let id = job_id.0.as_bytes();
    let sql = format!(
        "SELECT name, resource, hash, version, {METADATA}, first_occurrence FROM build_inputs u \
         WHERE job_id = ?1 ORDER BY name"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let inputs = statement.query_map([id], |row| {
        let mut columns = Columns::of(row);
        Ok(BuildInput {
            name: columns.take()?,
            resource: columns.take()?,
            hash: VersionHash(columns.take()?),
            version: columns.json()?,
            metadata: columns.json_opt()?.unwrap_or_default(),
            first_occurrence: columns.take()?,
        })
    })?;
    let sql = format!(
        "SELECT resource, hash, version, {METADATA} FROM build_outputs u \
         WHERE job_id = ?1 ORDER BY saved_at, resource, hash"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let outputs = statement.query_map([id], |row| {
        let mut columns = Columns::of(row);
        Ok(BuildOutput {
            resource: columns.take()?,
            hash: VersionHash(columns.take()?),
            version: columns.json()?,
            metadata: columns.json_opt()?.unwrap_or_default(),
        })
    })?;
    let sql = "SELECT from_job_id FROM build_pipes WHERE to_job_id = ?1 ORDER BY from_job_id";
    let mut pipes = connection.prepare_cached(sql)?;
    let sources = pipes.query_map([id], |row| Columns::of(row).id(JobId))?;
    Ok(BuildVersions {
        inputs: inputs.collect::<rusqlite::Result<_>>()?,
        outputs: outputs.collect::<rusqlite::Result<_>>()?,
        sources: sources.collect::<rusqlite::Result<_>>()?,
    })
}
