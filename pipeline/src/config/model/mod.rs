//! What a pipeline's file says, as types; the serde names are Concourse's keys.
//!
//! `Serialize` gives the canonical form (one spelling for each thing, empty things left out) and `Deserialize` reads
//! that form back. What users write has more spellings and faults; that is the decoder's business, not this folder's.

mod job;
mod resource;
mod step;
mod step_serde;
mod steps;
mod task;
mod walk;

pub use job::{Assert, BuildLogRetention, GateConfig, Job, Schedule, Triggers, WebhookTrigger};
pub use resource::{Display, Group, Resource, ResourceType, VarSource};
pub use step::{AcrossVar, Core, Hooks, MaxInFlight, Modifiers, Step};
pub use step_serde::CORE_KEYS;
pub use steps::{
    AgentStep, BuildImage, BuildImageStep, DoStep, GateStep, GetStep, InParallel, InParallelStep,
    LoadVarStep, NotifyStep, PutInputs, PutStep, RegistryLogin, RunStep, SetPipelineStep, TryStep,
    VersionChoice,
};
pub use task::{
    ContainerLimits, ImageResource, TaskAssert, TaskCache, TaskConfig, TaskInput, TaskOutput,
    TaskRun, TaskStep,
};
pub use walk::{JobInput, JobOutput};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A version of a resource: never empty.
pub type Version = BTreeMap<String, String>;

/// What a user may write freely: `source`, `params`, `vars`.
pub type Params = serde_json::Map<String, Value>;

/// A whole pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Tabs of the pipeline's page.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Where `((name:path))` is looked up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub var_sources: Vec<VarSource>,
    /// What jobs get and put.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// Types of resources beside the built-in ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_types: Vec<ResourceType>,
    /// Images that `run` steps talk to; experimental in Concourse.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prototypes: Vec<ResourceType>,
    /// At least one in a valid pipeline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Job>,
    /// How the pipeline's page looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<Display>,
    /// Anything; stored and given back.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub user_data: Value,
    /// PocketCI: the default of the jobs' `max_in_flight`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// PocketCI: where `notify` steps send to, by name; fields as in the JS API.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub notifications: Params,
    /// PocketCI: which jobs must have run, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assert: Option<Assert>,
    /// PocketCI: events that start the pipeline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<EventListen>,
}

/// PocketCI: an event that a pipeline listens to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventListen {
    /// Its key.
    pub event: String,
    /// An expression over the message, if only some are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

impl Config {
    /// The job of that name.
    pub fn job(&self, name: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.name == name)
    }

    /// Most builds of a job at a time; `None` for no limit. The pipeline's `max_in_flight` is the default.
    pub fn limit(&self, job: &Job) -> Option<u32> {
        let of_pipeline = self.max_in_flight.filter(|limit| *limit > 0);
        match job.max_in_flight {
            Some(_) => job.limit(),
            None => job.limit().or(of_pipeline),
        }
    }

    /// The resource of that name.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == name)
    }
}

/// For `skip_serializing_if`: Concourse leaves a `false` out.
fn is_false(value: &bool) -> bool {
    !*value
}
