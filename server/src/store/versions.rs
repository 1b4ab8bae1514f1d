//! Verbs of versions: lists of resources, what builds used and made, which versions a build takes.

use super::Result;
use crate::model::selection::{ChosenInput, InputConfig, Selection};
use crate::model::version::{
    BuildVersions, Metadata, Pin, ResourceScope, ResourceState, StoredVersion, Version, VersionHash,
};
use crate::model::{JobId, PipelineId, RevisionId};
use async_trait::async_trait;
use std::time::Duration;

/// What became of versions to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Stored.
    Stored {
        /// How many were not in the list before.
        new: usize,
    },
    /// The resource is gone or has another scope, or the build is over or unknown: nothing was stored.
    Stale,
}

/// What became of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// It is pinned.
    Done,
    /// The resource is unknown.
    NoResource,
    /// No stored version contains these fields; nothing was changed.
    NoVersion,
}

/// What became of the inputs of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Stored.
    Stored,
    /// The build had inputs before: they stay.
    Before,
    /// The build is over or unknown (or was never given a number): nothing was stored.
    Stale,
}

/// Versions of resources and the builds that used and made them.
#[async_trait]
pub trait VersionStore: Send + Sync {
    /// The pipeline declares exactly these resources, if `revision_id` is its newest one (else `false`, and nothing
    /// changes). Those gone lose their versions. Another scope is another list: checks and versions begin anew, and a
    /// scope that was there before has its list again; pins stay.
    async fn declare_resources(
        &self,
        pipeline_id: PipelineId,
        revision_id: RevisionId,
        resources: Vec<(String, ResourceScope)>,
    ) -> Result<bool>;
    /// The declared resources by name.
    async fn resources(&self, pipeline_id: PipelineId) -> Result<Vec<ResourceState>>;
    /// One of them.
    async fn resource(&self, pipeline_id: PipelineId, name: &str) -> Result<Option<ResourceState>>;

    /// A check begins: its number, or `None` if the resource is gone or has another scope, or if another check began
    /// less than `pause` ago (store's clock; zero begins in any case). One that is under way is overtaken.
    async fn check_begun(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        pause: Duration,
    ) -> Result<Option<i64>>;
    /// Check number `seq` has ended, with an error or without; `false` if it was overtaken, is over, or the resource is
    /// gone.
    async fn check_ended(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        seq: i64,
        error: Option<&str>,
    ) -> Result<bool>;
    /// Stores what a check found, oldest first. If at least one version is new, all of them go to the end of the list in
    /// this order; if none is, nothing moves. Wakes the scheduler if one is new.
    async fn save_versions(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        versions: Vec<Version>,
    ) -> Result<Saved>;
    /// A put of a build that is not over made this version: an output of the build from now on, at the end of the
    /// resource's list if it is new there. If the resource has got another scope or is gone, it is an output all the
    /// same. The same call twice changes nothing but the metadata. Wakes the scheduler.
    async fn save_output(
        &self,
        job_id: JobId,
        resource: &str,
        scope: ResourceScope,
        version: Version,
        metadata: Metadata,
    ) -> Result<Saved>;
    /// A get told this about a version; `false` if it is not in the list of this scope.
    async fn save_metadata(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        scope: ResourceScope,
        hash: VersionHash,
        metadata: Metadata,
    ) -> Result<bool>;

    /// A resource's list, newest first, those of a `check_order` below `before`, at most `limit`.
    async fn versions(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<StoredVersion>>;
    /// Lets builds use a version or not; `false` if it is unknown. Wakes the scheduler.
    async fn set_version_enabled(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        hash: VersionHash,
        enabled: bool,
    ) -> Result<bool>;
    /// Pins the newest version that contains the pin's fields; replaces a pin that is there. Wakes the scheduler.
    async fn pin_resource(
        &self,
        pipeline_id: PipelineId,
        resource: &str,
        pin: Pin,
    ) -> Result<Pinned>;
    /// Removes the pin by command; `false` if there is none. Wakes the scheduler.
    async fn unpin_resource(&self, pipeline_id: PipelineId, resource: &str) -> Result<bool>;
    /// Forgets all versions of a resource, so that the next check begins anew; how many there were. What builds used and
    /// made stays. Wakes the scheduler.
    async fn clear_versions(&self, pipeline_id: PipelineId, resource: &str) -> Result<u64>;

    /// Chooses the inputs of the next build of a job, in one consistent look. A pin by command goes before any wish but
    /// [`crate::model::selection::Wish::Pinned`].
    async fn select_inputs(
        &self,
        pipeline_id: PipelineId,
        job_name: &str,
        inputs: Vec<InputConfig>,
    ) -> Result<Selection>;
    /// The inputs that a build uses, once, while it is not over.
    async fn take_inputs(&self, job_id: JobId, inputs: Vec<ChosenInput>) -> Result<Taken>;
    /// A build uses what another one used (a rerun): no input is a first occurrence.
    async fn adopt_inputs(&self, job_id: JobId, original: JobId) -> Result<Taken>;
    /// What a build used and made.
    async fn build_versions(&self, job_id: JobId) -> Result<BuildVersions>;
}
