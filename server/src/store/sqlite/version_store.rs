//! The verbs of versions: each one command of the writer, or one look of a reader.

use super::versions::{self, List};
use super::{SqliteStore, builds, history, resources};
use crate::model::selection::{ChosenInput, InputConfig, Selection};
use crate::model::version::{
    BuildVersions, Metadata, Pin, ResourceScope, ResourceState, StoredVersion, Version, VersionHash,
};
use crate::model::{JobId, PipelineId, RevisionId};
use crate::store::{Pinned, Result, Saved, Taken, VersionStore};
use async_trait::async_trait;
use std::time::Duration;

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
        found: Vec<Version>,
    ) -> Result<Saved> {
        let resource = resource.to_owned();
        self.writer
            .call(move |connection, hints| {
                let list = List {
                    pipeline_id,
                    resource: &resource,
                    scope,
                };
                versions::save(connection, list, &found, hints)
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
                versions::set_metadata(connection, list, hash, &metadata)
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
            .read(move |connection| {
                versions::page(connection, pipeline_id, &resource, before, limit)
            })
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
                versions::set_enabled(connection, pipeline_id, &resource, hash, enabled, hints)
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
                let Some(scope) = versions::list(connection, pipeline_id, &resource)? else {
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
            .call(move |connection, hints| {
                versions::clear(connection, pipeline_id, &resource, hints)
            })
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
