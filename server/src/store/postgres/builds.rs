//! Builds: their numbers, what they use and what they make.

use super::super::{NewRun, Saved, Taken, codec};
use super::Failable;
use super::versions::{self, List, rows_of};
use crate::model::selection::ChosenInput;
use crate::model::version::{
    BuildInput, BuildOutput, BuildVersions, Metadata, ResourceScope, Version, VersionHash,
    canonical,
};
use crate::model::{JobId, PipelineId};
use deadpool_postgres::Transaction;
use std::collections::BTreeSet;
use tokio_postgres::Row;
use uuid::Uuid;

/// Takes the counters of the builds $1 that have no number, in the order in which everybody takes them.
const LOCK: &str = "INSERT INTO build_numbers AS b (pipeline_id, job_name, last)
    SELECT DISTINCT pipeline_id, name, 0 FROM jobs WHERE id = ANY ($1) AND number IS NULL ORDER BY pipeline_id, name
    ON CONFLICT (pipeline_id, job_name) DO UPDATE SET last = b.last";

/// Numbers the builds $1, which repeat those of $2. A build of this statement's own group has no number yet, so nobody
/// repeats it here.
const NUMBER: &str = "WITH wanted AS (
    SELECT j.id, j.pipeline_id, j.name, t.position, o.number, coalesce(o.rerun_of, o.id) AS original
    FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS t (id, repeated, position)
    JOIN jobs j ON j.id = t.id AND j.number IS NULL
    LEFT JOIN jobs o ON o.id = t.repeated AND o.number IS NOT NULL AND o.pipeline_id = j.pipeline_id AND o.name = j.name
), numbered AS (
    SELECT w.*, b.last, (SELECT max(r.rerun) FROM jobs r
               WHERE r.pipeline_id = w.pipeline_id AND r.name = w.name AND r.number = w.number) AS reruns,
           row_number() OVER (PARTITION BY w.pipeline_id, w.name, w.original ORDER BY w.position)::int AS nth
    FROM wanted w JOIN build_numbers b ON b.pipeline_id = w.pipeline_id AND b.job_name = w.name
), with_jobs AS (
    UPDATE jobs j SET number = coalesce(n.number, n.last + n.nth), rerun_of = n.original,
        rerun = CASE WHEN n.original IS NULL THEN 0 ELSE n.reruns + n.nth END
    FROM numbered n WHERE j.id = n.id
)
UPDATE build_numbers b SET last = b.last + n.count
FROM (SELECT pipeline_id, name, count(*)::int AS count FROM wanted WHERE original IS NULL GROUP BY pipeline_id, name) n
WHERE b.pipeline_id = n.pipeline_id AND b.job_name = n.name";

/// Numbers the builds among runs that this transaction stored. A run that was there before has its numbers.
pub(super) async fn number(transaction: &Transaction<'_>, runs: &[&NewRun]) -> Failable<()> {
    let builds = runs.iter().flat_map(|run| &run.jobs);
    let (ids, repeated): (Vec<Uuid>, Vec<Option<Uuid>>) = builds
        .filter_map(|job| Some((job.id.0, job.build?.rerun_of.map(|id| id.0))))
        .unzip();
    let statement = transaction.prepare_cached(LOCK).await?;
    transaction.execute(&statement, &[&ids]).await?;
    // A statement of its own: it sees the reruns of whoever had the counters before.
    let statement = transaction.prepare_cached(NUMBER).await?;
    transaction.execute(&statement, &[&ids, &repeated]).await?;
    Ok(())
}

/// Pipeline and name of a build that is not over, as long as this transaction lasts.
async fn open(
    transaction: &Transaction<'_>,
    job_id: JobId,
) -> Failable<Option<(PipelineId, String)>> {
    let sql = "SELECT pipeline_id, name FROM jobs
        WHERE id = $1 AND number IS NOT NULL AND state <> 'finished' FOR NO KEY UPDATE";
    let row = rows_of(transaction, sql, &[&job_id.0]).await?.pop();
    let read = |row: Row| Ok((PipelineId(row.try_get(0)?), row.try_get(1)?));
    row.map(read).transpose()
}

/// A version that a put made.
pub(super) struct Output<'a> {
    pub(super) resource: &'a str,
    pub(super) scope: ResourceScope,
    pub(super) version: &'a Version,
    pub(super) metadata: &'a Metadata,
}

/// The answer, and the build's pipeline.
pub(super) async fn save_output(
    transaction: &Transaction<'_>,
    job_id: JobId,
    output: &Output<'_>,
) -> Failable<(Saved, Option<PipelineId>)> {
    // The resource is locked before the job: so does whoever deletes a pipeline.
    let sql = "SELECT pipeline_id FROM jobs WHERE id = $1 AND number IS NOT NULL";
    let Some(row) = rows_of(transaction, sql, &[&job_id.0]).await?.pop() else {
        return Ok((Saved::Stale, None));
    };
    let list = List {
        pipeline_id: PipelineId(row.try_get(0)?),
        resource: output.resource,
        scope: output.scope,
    };
    let is_listed = versions::lock(transaction, list).await?;
    let Some((id, job_name)) = open(transaction, job_id).await? else {
        return Ok((Saved::Stale, None));
    };
    let hash = VersionHash::of(output.version);
    let version = canonical(output.version);
    let sql = "INSERT INTO build_outputs (job_id, pipeline_id, job_name, resource, hash, version, saved_at)
        VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp()) ON CONFLICT DO NOTHING";
    let statement = transaction.prepare_cached(sql).await?;
    transaction
        .execute(
            &statement,
            &[
                &job_id.0,
                &id.0,
                &job_name,
                &output.resource,
                &hash.0.as_slice(),
                &version,
            ],
        )
        .await?;
    let mut new = 0;
    if is_listed {
        new = versions::append(
            transaction,
            list,
            std::slice::from_ref(output.version),
            false,
        )
        .await?;
        versions::set_metadata(transaction, list, hash, output.metadata).await?;
    }
    Ok((Saved::Stored { new }, Some(id)))
}

async fn has_inputs(transaction: &Transaction<'_>, job_id: JobId) -> Failable<bool> {
    let sql = "SELECT 1 FROM build_inputs WHERE job_id = $1 LIMIT 1";
    Ok(!rows_of(transaction, sql, &[&job_id.0]).await?.is_empty())
}

pub(super) async fn take(
    transaction: &Transaction<'_>,
    job_id: JobId,
    inputs: &[ChosenInput],
) -> Failable<Taken> {
    let Some((id, job_name)) = open(transaction, job_id).await? else {
        return Ok(Taken::Stale);
    };
    if has_inputs(transaction, job_id).await? {
        return Ok(Taken::Before);
    }
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    let resources: Vec<&str> = inputs.iter().map(|i| i.resource.as_str()).collect();
    let hashes: Vec<&[u8]> = inputs.iter().map(|i| i.hash.0.as_slice()).collect();
    let versions: Vec<String> = inputs.iter().map(|i| canonical(&i.version)).collect();
    let firsts: Vec<bool> = inputs.iter().map(|input| input.first_occurrence).collect();
    let sql = "INSERT INTO build_inputs (job_id, pipeline_id, job_name, name, resource, hash, version, first_occurrence)
        SELECT $1, $2, $3, t.* FROM unnest($4::text[], $5::text[], $6::bytea[], $7::text[], $8::bool[]) t";
    let statement = transaction.prepare_cached(sql).await?;
    transaction
        .execute(
            &statement,
            &[
                &job_id.0, &id.0, &job_name, &names, &resources, &hashes, &versions, &firsts,
            ],
        )
        .await?;
    let sources: BTreeSet<Uuid> = inputs
        .iter()
        .flat_map(|input| input.sources.iter().map(|id| id.0))
        .collect();
    let sources: Vec<Uuid> = sources.into_iter().collect();
    let sql = "INSERT INTO build_pipes (from_job_id, to_job_id) SELECT t.id, $1 FROM unnest($2::uuid[]) AS t (id)";
    let statement = transaction.prepare_cached(sql).await?;
    transaction
        .execute(&statement, &[&job_id.0, &sources])
        .await?;
    Ok(Taken::Stored)
}

pub(super) async fn adopt(
    transaction: &Transaction<'_>,
    job_id: JobId,
    original: JobId,
) -> Failable<Taken> {
    let Some((id, job_name)) = open(transaction, job_id).await? else {
        return Ok(Taken::Stale);
    };
    if has_inputs(transaction, job_id).await? {
        return Ok(Taken::Before);
    }
    let sql = "WITH taken AS (
            INSERT INTO build_inputs (job_id, pipeline_id, job_name, name, resource, hash, version, first_occurrence)
            SELECT $1, pipeline_id, job_name, name, resource, hash, version, false FROM build_inputs
            WHERE job_id = $2 AND pipeline_id = $3 AND job_name = $4 RETURNING 1
        )
        INSERT INTO build_pipes (from_job_id, to_job_id)
        SELECT from_job_id, $1 FROM build_pipes WHERE to_job_id = $2 AND EXISTS (SELECT FROM taken)";
    let statement = transaction.prepare_cached(sql).await?;
    transaction
        .execute(&statement, &[&job_id.0, &original.0, &id.0, &job_name])
        .await?;
    Ok(Taken::Stored)
}

/// The metadata of a version of `u` if it is in its resource's list.
const METADATA: &str = "(SELECT v.metadata FROM resources r JOIN resource_versions v
         ON v.pipeline_id = r.pipeline_id AND v.resource = r.name AND v.scope = r.scope AND v.hash = u.hash
     WHERE r.pipeline_id = u.pipeline_id AND r.name = u.resource) AS metadata";

fn metadata(row: &Row) -> Failable<Metadata> {
    match row.try_get::<_, Option<&str>>("metadata")? {
        Some(text) => Ok(codec::from_json("resource_versions.metadata", text)?),
        None => Ok(Metadata::new()),
    }
}

pub(super) async fn versions(client: &Transaction<'_>, job_id: JobId) -> Failable<BuildVersions> {
    let sql = format!("SELECT u.*, {METADATA} FROM build_inputs u WHERE job_id = $1 ORDER BY name");
    let inputs = client.query(&sql, &[&job_id.0]).await?;
    let sql = format!(
        "SELECT u.*, {METADATA} FROM build_outputs u WHERE job_id = $1 ORDER BY saved_at, resource, hash"
    );
    let outputs = client.query(&sql, &[&job_id.0]).await?;
    let sql = "SELECT from_job_id FROM build_pipes WHERE to_job_id = $1 ORDER BY from_job_id";
    let sources = client.query(sql, &[&job_id.0]).await?;
    let input = |row: &Row| -> Failable<BuildInput> {
        Ok(BuildInput {
            name: row.try_get("name")?,
            resource: row.try_get("resource")?,
            hash: versions::hash(row, "hash")?,
            version: versions::version(row, "version")?,
            metadata: metadata(row)?,
            first_occurrence: row.try_get("first_occurrence")?,
        })
    };
    let output = |row: &Row| -> Failable<BuildOutput> {
        Ok(BuildOutput {
            resource: row.try_get("resource")?,
            hash: versions::hash(row, "hash")?,
            version: versions::version(row, "version")?,
            metadata: metadata(row)?,
        })
    };
    Ok(BuildVersions {
        inputs: inputs.iter().map(input).collect::<Failable<_>>()?,
        outputs: outputs.iter().map(output).collect::<Failable<_>>()?,
        sources: sources
            .iter()
            .map(|row| Ok(JobId(row.try_get(0)?)))
            .collect::<Failable<_>>()?,
    })
}
