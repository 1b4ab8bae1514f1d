//! The fields of each kind of step except `task`.

use super::step::Step;
use super::task::{ContainerLimits, TaskCache, TaskConfig, TaskInput};
use super::{Params, Version, is_false};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Fetches a version of a resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GetStep {
    /// Name of the artifact, and of the resource unless `resource` says otherwise.
    #[serde(rename = "get")]
    pub name: String,
    /// The resource, if it is not `name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Which versions; `None` means the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionChoice>,
    /// For the type's `in`.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// Only versions that passed these jobs; globs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<String>,
    /// Whether a new version starts the job.
    #[serde(skip_serializing_if = "is_false")]
    pub trigger: bool,
    /// Where it runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Longest time of one try, a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

impl GetStep {
    /// The resource's name.
    pub fn resource_name(&self) -> &str {
        if self.resource.is_empty() {
            &self.name
        } else {
            &self.resource
        }
    }
}

/// Which versions a get takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionChoice {
    /// The newest.
    Latest,
    /// Each, one after the other.
    Every,
    /// The one with these fields.
    Pinned(Version),
}

/// Makes a version of a resource and, unless `no_get`, fetches it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PutStep {
    /// Name of the artifact, and of the resource unless `resource` says otherwise.
    #[serde(rename = "put")]
    pub name: String,
    /// The resource, if it is not `name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// For the type's `out`.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// Which artifacts it sees; `None` means [`PutInputs::Detect`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<PutInputs>,
    /// Where it runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// For the `in` after it.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub get_params: Params,
    /// Whether the new version is not fetched.
    #[serde(skip_serializing_if = "is_false")]
    pub no_get: bool,
    /// Longest time of one try, a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

impl PutStep {
    /// The resource's name.
    pub fn resource_name(&self) -> &str {
        if self.resource.is_empty() {
            &self.name
        } else {
            &self.resource
        }
    }
}

/// Which artifacts a put sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutInputs {
    /// All of the build.
    All,
    /// Those that its params name.
    Detect,
    /// These.
    Named(Vec<String>),
}

/// Sets a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetPipelineStep {
    /// Its name, or `self`.
    #[serde(rename = "set_pipeline")]
    pub name: String,
    /// `artifact/path` of the pipeline's file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Another team.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub team: String,
    /// Values of its vars.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub vars: Params,
    /// `artifact/path` of files with values of its vars.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub var_files: Vec<String>,
    /// Vars that are part of the pipeline's identity.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub instance_vars: Params,
}

/// Loads a local var from a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadVarStep {
    /// Its name: `((.:name))`.
    #[serde(rename = "load_var")]
    pub name: String,
    /// `artifact/path`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// `raw`, `trim`, `yml`, `yaml` or `json`; empty: by the file's ending, else `trim`. Checked at run time.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// Whether logs may show the value.
    #[serde(skip_serializing_if = "is_false")]
    pub reveal: bool,
}

/// Sends a message to a prototype; experimental.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunStep {
    /// The message.
    #[serde(rename = "run")]
    pub message: String,
    /// The prototype.
    #[serde(rename = "type")]
    pub type_name: String,
    /// For the prototype.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// Whether its container is privileged.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Where it runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Of its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_limits: Option<ContainerLimits>,
    /// Longest time of one try, a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// One step after the other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DoStep {
    /// The steps.
    #[serde(rename = "do")]
    pub steps: Vec<Step>,
    /// Where they run, unless they say otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Steps at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InParallelStep {
    /// The steps and how many at once.
    pub in_parallel: InParallel,
    /// Where they run, unless they say otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// The steps of an `in_parallel`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InParallel {
    /// The steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Steps at once; 0 or less means all.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: i64,
    /// Whether the first that does not succeed stops the others.
    #[serde(skip_serializing_if = "is_false")]
    pub fail_fast: bool,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// A step whose failure does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TryStep {
    /// The step; a list of steps, as PocketCI allows, is a `do`.
    #[serde(rename = "try")]
    pub step: Box<Step>,
}

/// PocketCI: sends a message to some of the pipeline's `notifications`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotifyStep {
    /// Names of notifications; a single text is a list of one.
    #[serde(rename = "notify")]
    pub names: Vec<String>,
    /// The message, a template.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `artifact/path` of the message.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message_file: String,
    /// Whether the plan goes on at once and a failure only shows in the log.
    #[serde(rename = "async", skip_serializing_if = "is_false")]
    pub is_async: bool,
}

/// PocketCI: waits for an approval.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GateStep {
    /// Its name.
    #[serde(rename = "gate")]
    pub name: String,
    /// Shown to whoever approves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Longest wait, a duration; `None` for no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// PocketCI: builds an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildImageStep {
    /// What and how.
    pub build_image: BuildImage,
}

/// PocketCI: an image to be built from a `Dockerfile`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildImage {
    /// Name of the step; empty: the tag.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `artifact/path` of the folder with the files.
    pub context: String,
    /// The image's name.
    pub tag: String,
    /// Path of the `Dockerfile` in the context; empty for `Dockerfile`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dockerfile: String,
    /// Whether it is pushed.
    #[serde(skip_serializing_if = "is_false")]
    pub push: bool,
    /// `ARG` values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub build_args: BTreeMap<String, String>,
    /// The stage to build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Such as `linux/arm64`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// Image of the builder.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Artifacts beside the context.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<TaskInput>,
    /// Kept between builds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<TaskCache>,
    /// Environment of the builder.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where it is pushed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryLogin>,
    /// Longest build, a duration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timeout: String,
    /// Of the builder's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_limits: Option<ContainerLimits>,
}

/// PocketCI: how to log in to a registry.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryLogin {
    /// Host, with port.
    pub hostname: String,
    /// The user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The password; `secret:KEY` or a `((var))`, if the author is wise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// Whether plain HTTP is used.
    #[serde(skip_serializing_if = "is_false")]
    pub insecure: bool,
}

impl std::fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryLogin")
            .field("hostname", &self.hostname)
            .field("username", &self.username)
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

/// PocketCI: runs a language model with tools. Parsed and kept; its free-form fields are not looked into.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentStep {
    /// Its name.
    #[serde(rename = "agent")]
    pub name: String,
    /// What it is asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// `artifact/path` of the prompt.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prompt_file: String,
    /// `provider/model`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// `artifact/path` of a file with these fields.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// URL of a file with these fields.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<TaskConfig>,
    /// `llm`, `thinking`, `safety`, `context_guard`, `limits`, `context`, `validation`, `memory`, `tool_timeout`,
    /// `output_schema`, `tools`, `description`: as written.
    #[serde(flatten)]
    pub options: BTreeMap<String, Value>,
}
