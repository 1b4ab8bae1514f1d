//! The verbs of versions: each one transaction, then its wakes.

use super::super::{Pinned, Result, Saved, Taken, VersionStore};
use super::versions::{self, List, snapshot};
use super::{PostgresStore, builds, history, resources, sql_error};
use crate::model::selection::{ChosenInput, InputConfig, Selection};
use crate::model::version::{
    BuildVersions, Metadata, Pin, ResourceScope, ResourceState, StoredVersion, Version, VersionHash,
};
use crate::model::{JobId, PipelineId, RevisionId};
use async_trait::async_trait;
use std::time::Duration;

/// Does the work in a transaction and commits it.
macro_rules! commit {
    ($self:ident, $transaction:ident => $work:expr) => {{
        let mut client = $self.client().await?;
        let $transaction = client.transaction().await.map_err(sql_error)?;
        let done = $work.await?;
        $transaction.commit().await.map_err(sql_error)?;
        done
    }};
}

#[async_trait]
impl VersionStore for PostgresStore {
    async fn declare_resources(
        &self,
        pipeline_id: PipelineId,
        revision_id: RevisionId,
        resources: Vec<(String, ResourceScope)>,
    ) -> Result<bool> {
        let (is_current, is_changed) = commit!(self, transaction =>
            resources::declare(&transaction, pipeline_id, revision_id, &resources));
        if is_changed {
            self.wake_scheduler(pipeline_id);
        }
        Ok(is_current)
    }

    async fn resources(&self, pipeline_id: PipelineId) -> Result<Vec<ResourceState>> {
        let mut client = self.client().await?;
        let transaction = snapshot(&mut client).await?;
        Ok(resources::states(&transaction, pipeline_id, None).await?)
    }

    async fn resource(&self, pipeline_id: PipelineId, name: &str) -> Result<Option<ResourceState>> {
        let mut client = self.client().await?;
        let transaction = snapshot(&mut client).await?;
        let mut states = resources::states(&transaction, pipeline_id, Some(name)).await?;
        Ok(states.pop())
    }

    async fn check_begun(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        pause: Duration,
    ) -> Result<Option<i64>> {
        let list = List {
            pipeline_id,
            resource,
            scope,
        };
        Ok(commit!(self, transaction => resources::begin_check(&transaction, list, pause)))
    }

    async fn check_ended(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        seq: i64,
        error: Option<&str>,
    ) -> Result<bool> {
        Ok(commit!(self, transaction =>
            resources::end_check(&transaction, pipeline_id, resource, seq, error)))
    }

    async fn save_versions(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        versions: Vec<Version>,
    ) -> Result<Saved> {
        let list = List {
            pipeline_id,
            resource,
            scope,
        };
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(sql_error)?;
        if !versions::lock(&transaction, list).await? {
            return Ok(Saved::Stale);
        }
        let new = versions::append(&transaction, list, &versions, true).await?;
        transaction.commit().await.map_err(sql_error)?;
        if new > 0 {
            self.wake_scheduler(pipeline_id);
        }
        Ok(Saved::Stored { new })
    }

    async fn save_output(
        &self,
        job_id: JobId,
        resource: &str,
        scope: ResourceScope,
        version: Version,
        metadata: Metadata,
    ) -> Result<Saved> {
        let output = builds::Output {
            resource,
            scope,
            version: &version,
            metadata: &metadata,
        };
        let (saved, pipeline_id) =
            commit!(self, transaction => builds::save_output(&transaction, job_id, &output));
        if let Some(id) = pipeline_id {
            self.wake_scheduler(id);
        }
        Ok(saved)
    }

    async fn save_metadata(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        hash: VersionHash,
        metadata: Metadata,
    ) -> Result<bool> {
        let list = List {
            pipeline_id,
            resource,
            scope,
        };
        Ok(commit!(self, transaction =>
            versions::set_metadata(&transaction, list, hash, &metadata)))
    }

    async fn versions(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<StoredVersion>> {
        let mut client = self.client().await?;
        let transaction = snapshot(&mut client).await?;
        Ok(versions::page(&transaction, pipeline_id, resource, before, limit).await?)
    }

    async fn set_version_enabled(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        hash: VersionHash,
        enabled: bool,
    ) -> Result<bool> {
        let is_known = commit!(self, transaction =>
            versions::set_enabled(&transaction, pipeline_id, resource, hash, enabled));
        if is_known {
            self.wake_scheduler(pipeline_id);
        }
        Ok(is_known)
    }

    async fn pin_resource(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        pin: Pin,
    ) -> Result<Pinned> {
        let pinned = commit!(self, transaction =>
            resources::set_pin(&transaction, pipeline_id, resource, &pin));
        if pinned == Pinned::Done {
            self.wake_scheduler(pipeline_id);
        }
        Ok(pinned)
    }

    async fn unpin_resource(&self, pipeline_id: PipelineId, resource: &str) -> Result<bool> {
        let was_pinned =
            commit!(self, transaction => resources::unpin(&transaction, pipeline_id, resource));
        if was_pinned {
            self.wake_scheduler(pipeline_id);
        }
        Ok(was_pinned)
    }

    async fn clear_versions(&self, pipeline_id: PipelineId, resource: &str) -> Result<u64> {
        let gone =
            commit!(self, transaction => versions::clear(&transaction, pipeline_id, resource));
        if gone > 0 {
            self.wake_scheduler(pipeline_id);
        }
        Ok(gone)
    }

    async fn select_inputs(
        &self,
        pipeline_id: PipelineId,
        job_name: &str,
        inputs: Vec<InputConfig>,
    ) -> Result<Selection> {
        let client = self.client().await?;
        history::select(client, pipeline_id, job_name.to_owned(), inputs).await
    }

    async fn take_inputs(&self, job_id: JobId, inputs: Vec<ChosenInput>) -> Result<Taken> {
        Ok(commit!(self, transaction => builds::take(&transaction, job_id, &inputs)))
    }

    async fn adopt_inputs(&self, job_id: JobId, original: JobId) -> Result<Taken> {
        Ok(commit!(self, transaction => builds::adopt(&transaction, job_id, original)))
    }

    async fn build_versions(&self, job_id: JobId) -> Result<BuildVersions> {
        let mut client = self.client().await?;
        let transaction = snapshot(&mut client).await?;
        Ok(builds::versions(&transaction, job_id).await?)
    }
}
