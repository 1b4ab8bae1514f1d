//! Stands in until both storages have the verbs of versions (they follow on this branch).
#![allow(unused_variables)]
use super::{Pinned, Result, Saved, StoreError, Taken, VersionStore};
use crate::model::selection::{ChosenInput, InputConfig, Selection};
use crate::model::version::{
    BuildVersions, Metadata, Pin, ResourceScope, ResourceState, StoredVersion, Version, VersionHash,
};
use crate::model::{JobId, PipelineId, RevisionId};
use async_trait::async_trait;
use std::time::Duration;
fn pending() -> StoreError {
    StoreError::Internal("versions are not built yet".into())
}
#[async_trait]
impl VersionStore for super::postgres::PostgresStore {
    async fn declare_resources(
        &self,
        pipeline_id: PipelineId,
        revision_id: RevisionId,
        resources: Vec<(String, ResourceScope)>,
    ) -> Result<bool> {
        Err(pending())
    }
    async fn resources(&self, pipeline_id: PipelineId) -> Result<Vec<ResourceState>> {
        Err(pending())
    }
    async fn resource(&self, pipeline_id: PipelineId, name: &str) -> Result<Option<ResourceState>> {
        Err(pending())
    }
    async fn check_begun(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        pause: Duration,
    ) -> Result<Option<i64>> {
        Err(pending())
    }
    async fn check_ended(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        seq: i64,
        error: Option<&str>,
    ) -> Result<bool> {
        Err(pending())
    }
    async fn save_versions(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        versions: Vec<Version>,
    ) -> Result<Saved> {
        Err(pending())
    }
    async fn save_output(
        &self,
        job_id: JobId,
        resource: &str,
        scope: ResourceScope,
        version: Version,
        metadata: Metadata,
    ) -> Result<Saved> {
        Err(pending())
    }
    async fn save_metadata(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        hash: VersionHash,
        metadata: Metadata,
    ) -> Result<bool> {
        Err(pending())
    }
    async fn versions(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<StoredVersion>> {
        Err(pending())
    }
    async fn set_version_enabled(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        hash: VersionHash,
        enabled: bool,
    ) -> Result<bool> {
        Err(pending())
    }
    async fn pin_resource(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        pin: Pin,
    ) -> Result<Pinned> {
        Err(pending())
    }
    async fn unpin_resource(&self, pipeline_id: PipelineId, resource: &str) -> Result<bool> {
        Err(pending())
    }
    async fn clear_versions(&self, pipeline_id: PipelineId, resource: &str) -> Result<u64> {
        Err(pending())
    }
    async fn select_inputs(
        &self,
        pipeline_id: PipelineId,
        job_name: &str,
        inputs: Vec<InputConfig>,
    ) -> Result<Selection> {
        Err(pending())
    }
    async fn take_inputs(&self, job_id: JobId, inputs: Vec<ChosenInput>) -> Result<Taken> {
        Err(pending())
    }
    async fn adopt_inputs(&self, job_id: JobId, original: JobId) -> Result<Taken> {
        Err(pending())
    }
    async fn build_versions(&self, job_id: JobId) -> Result<BuildVersions> {
        Err(pending())
    }
}
