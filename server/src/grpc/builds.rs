//! What builds and checks tell while they run: versions found, made and fetched; pipelines to set.

use super::convert::{Ref, broken};
use super::{Link, store_status};
use crate::model::run::Run;
use crate::model::version::{Metadata, ResourceScope, Version};
use crate::runs::{SetByJob, SetPipeline};
use crate::store::{Saved, StoreError};
use pb::call_reply::Kind as Reply;
use pocketci_proto::agent as pb;
use serde::Deserialize;
use tonic::Status;

/// Most versions of one check.
const MAX_VERSIONS: usize = 10_000;
/// Longest version or metadata, in bytes of JSON.
const MAX_JSON_BYTES: usize = 64 * 1024;
/// Largest pipeline, in bytes.
const MAX_SOURCE_BYTES: usize = 4 << 20;

/// A fact about a version as agents write it.
#[derive(Deserialize)]
struct Fact {
    name: String,
    value: String,
}

/// A build or check that speaks; the caller has seen that it holds its job.
pub(super) struct Build<'a> {
    pub(super) link: &'a Link,
    pub(super) attempt: Ref,
}

fn failed(error: StoreError) -> Status {
    store_status(&error)
}

fn saved() -> Reply {
    Reply::Saved(pb::Saved {})
}

impl Build<'_> {
    async fn run(&self) -> Result<Run, Status> {
        let found = self.link.runs().store().run(self.attempt.run_id).await;
        let view = found.map_err(failed)?;
        Ok(view.ok_or_else(|| Status::not_found("no such run"))?.run)
    }

    /// The scope of a resource as the run's own revision has it.
    async fn scope(&self, run: &Run, resource: &str) -> Result<ResourceScope, Status> {
        let program = self.link.runs().program(run.revision_id).await;
        let program = program.map_err(failed)?;
        let scope = program.and_then(|program| program.scope(resource));
        scope.ok_or_else(|| {
            Status::invalid_argument(format!("the pipeline has no resource {resource:?}"))
        })
    }

    /// A put made a version.
    pub(super) async fn save_output(&self, ask: pb::SaveOutput) -> Result<Reply, Status> {
        let version = version(&ask.version_json)?;
        let metadata = metadata(&ask.metadata_json)?;
        let run = self.run().await?;
        let scope = self.scope(&run, &ask.resource).await?;
        let store = self.link.runs().store();
        let stored = store
            .save_output(self.attempt.job_id, &ask.resource, scope, version, metadata)
            .await;
        match stored.map_err(failed)? {
            Saved::Stored { .. } => Ok(saved()),
            Saved::Stale => Err(Status::failed_precondition("the build is over")),
        }
    }

    /// A get knows more about its version.
    pub(super) async fn save_metadata(&self, ask: pb::SaveInputMetadata) -> Result<Reply, Status> {
        let metadata = metadata(&ask.metadata_json)?;
        let run = self.run().await?;
        let store = self.link.runs().store();
        let used = store.build_versions(self.attempt.job_id).await;
        let used = used.map_err(failed)?;
        let input = used.inputs.into_iter().find(|input| input.name == ask.name);
        let input = input.ok_or_else(|| Status::not_found("the build has no such input"))?;
        let scope = self.scope(&run, &input.resource).await?;
        // A version that is in the list no more needs none.
        store
            .save_metadata(
                run.pipeline_id,
                &input.resource,
                scope,
                input.hash,
                metadata,
            )
            .await
            .map_err(failed)?;
        Ok(saved())
    }

    /// A check found versions.
    pub(super) async fn save_versions(&self, ask: pb::SaveVersions) -> Result<Reply, Status> {
        if ask.versions_json.len() > MAX_VERSIONS * MAX_JSON_BYTES {
            return Err(broken("versions"));
        }
        let versions: Vec<Version> = serde_json::from_str(&ask.versions_json)
            .map_err(|_| broken("versions: a list of objects of texts"))?;
        if versions.len() > MAX_VERSIONS {
            return Err(Status::invalid_argument(format!(
                "the check found {} versions; at most {MAX_VERSIONS} can be stored at once",
                versions.len()
            )));
        }
        for version in &versions {
            sound(version)?;
        }
        let run = self.run().await?;
        let check = run
            .trigger
            .check
            .filter(|check| check.resource == ask.resource);
        let check = check.ok_or_else(|| broken("versions of a resource that is not checked"))?;
        let scope = hex::decode(&check.scope).ok();
        let scope = scope.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let scope = ResourceScope(scope.ok_or_else(|| broken("scope"))?);
        let store = self.link.runs().store();
        let stored = store
            .save_versions(run.pipeline_id, &check.resource, scope, versions)
            .await;
        // Another list has taken the place of this one: what was found is nobody's.
        stored.map_err(failed)?;
        Ok(saved())
    }

    /// A `set_pipeline` step.
    pub(super) async fn set_pipeline(&self, ask: pb::SetPipeline) -> Result<Reply, Status> {
        if ask.source.len() > MAX_SOURCE_BYTES || ask.source.contains('\0') {
            return Err(Status::invalid_argument(format!(
                "the pipeline must have at most {MAX_SOURCE_BYTES} bytes and no NUL character"
            )));
        }
        let run = self.run().await?;
        if run.trigger.anonymous {
            // What it sets would run with rights of its own.
            return Err(Status::permission_denied(
                "the run was started by an unverified webhook, so it sets no pipelines: give the pipeline a webhook secret \
                 that its sender signs with, or lend such runs its rights with webhook.run_as = \"pipeline\"",
            ));
        }
        let set = SetByJob {
            by: run.pipeline_id,
            name: (!ask.is_self).then_some(ask.name),
            instance_vars: ask.instance_vars_json,
            team: ask.team,
            source: ask.source,
        };
        let set = self.link.runs().set_by_job(set).await.map_err(failed)?;
        let reply = match set {
            SetPipeline::Done {
                changed,
                diff,
                warnings,
            } => pb::SetPipelineReply {
                changed,
                diff,
                warnings,
                error: String::new(),
            },
            SetPipeline::Invalid(error) => pb::SetPipelineReply {
                error,
                ..pb::SetPipelineReply::default()
            },
            SetPipeline::Refused(why) => return Err(Status::failed_precondition(why)),
        };
        Ok(Reply::SetPipeline(reply))
    }
}

fn sound(version: &Version) -> Result<(), Status> {
    let size: usize = version.iter().map(|(k, v)| k.len() + v.len()).sum();
    let nul = version
        .iter()
        .any(|(k, v)| k.contains('\0') || v.contains('\0'));
    if version.is_empty() || size > MAX_JSON_BYTES || nul {
        return Err(Status::invalid_argument(format!(
            "a version must have a field, at most {MAX_JSON_BYTES} bytes and no NUL character"
        )));
    }
    Ok(())
}

fn version(json: &str) -> Result<Version, Status> {
    let version = serde_json::from_str(json).map_err(|_| broken("version: an object of texts"))?;
    sound(&version)?;
    Ok(version)
}

fn metadata(json: &str) -> Result<Metadata, Status> {
    if json.is_empty() {
        return Ok(Metadata::new());
    }
    if json.len() > MAX_JSON_BYTES || json.contains("\\u0000") {
        return Err(Status::invalid_argument(format!(
            "metadata must have at most {MAX_JSON_BYTES} bytes and no NUL character"
        )));
    }
    let facts: Vec<Fact> =
        serde_json::from_str(json).map_err(|_| broken("metadata: a list of {name, value}"))?;
    Ok(facts
        .into_iter()
        .map(|fact| (fact.name, fact.value))
        .collect())
}
