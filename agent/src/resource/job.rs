//! The resources of one job.

use super::{Artifact, Fetched, GetCache, ResourceSpec, StepIo, Stop, TypeSpec, Version};
use crate::container::Driver;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the resources of a job need.
#[derive(Clone)]
pub struct Setup {
    /// Runs their scripts and keeps their files.
    pub driver: Arc<dyn Driver>,
    /// The agent's for this driver, shared by its jobs.
    pub cache: Arc<GetCache>,
    /// Marks everything that is created, but for what the cache keeps.
    pub labels: BTreeMap<String, String>,
    /// As the pipeline declares them.
    pub types: Vec<TypeSpec>,
    /// Whether types may be privileged.
    pub allow_privileged: bool,
}

/// See the module. What it creates carries the job's labels; [`Resources::release`] removes it.
pub struct Resources {
    setup: Setup,
}

impl Resources {
    /// Nothing is done before the first call.
    pub fn new(setup: Setup) -> Self {
        Self { setup }
    }

    /// Versions from `from` on, oldest first; the current one only if `from` is none. May be empty.
    pub async fn check(
        &self,
        _resource: &ResourceSpec,
        _from: Option<&Version>,
        _io: &StepIo,
    ) -> Result<Vec<Version>, Stop> {
        Err(Stop::Errored(self.unfinished()))
    }

    /// Fetches a version. The artifact is the job's own, a copy-on-write one of what the cache keeps.
    pub async fn get(
        &self,
        _resource: &ResourceSpec,
        _version: &Version,
        _params: &Value,
        _env: &BTreeMap<String, String>,
        _io: &StepIo,
    ) -> Result<(Fetched, Artifact), Stop> {
        Err(Stop::Errored(self.unfinished()))
    }

    /// Publishes; each artifact is a directory of its name, written by the script without others seeing it.
    pub async fn put(
        &self,
        _resource: &ResourceSpec,
        _params: &Value,
        _artifacts: &[(String, Artifact)],
        _env: &BTreeMap<String, String>,
        _io: &StepIo,
    ) -> Result<Fetched, Stop> {
        Err(Stop::Errored(self.unfinished()))
    }

    /// The engine's name for the image that a resource is (a task's `image_resource`); without a version the newest.
    pub async fn image(
        &self,
        _resource: &ResourceSpec,
        _version: Option<&Version>,
        _params: &Value,
        _io: &StepIo,
    ) -> Result<String, Stop> {
        Err(Stop::Errored(self.unfinished()))
    }

    /// The engine's name for the image that an artifact is (a task's `image`).
    pub async fn image_of(&self, _artifact: &Artifact, _io: &StepIo) -> Result<String, Stop> {
        Err(Stop::Errored(self.unfinished()))
    }

    /// Removes the volumes and images that were made for the job.
    pub async fn release(&self) {}

    fn unfinished(&self) -> String {
        format!(
            "not on the {} driver yet",
            self.setup.driver.name().as_str()
        )
    }
}
