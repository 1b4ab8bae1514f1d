//! The `task` step and the task's own configuration, which may stand in a file.

use super::{Params, Version, is_false};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Runs a program in a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskStep {
    /// Its name.
    #[serde(rename = "task")]
    pub name: String,
    /// Whether the container is privileged.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Whether the container has no network to the outside.
    #[serde(skip_serializing_if = "is_false")]
    pub hermetic: bool,
    /// `artifact/path` of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// PocketCI: URL of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// The configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<TaskConfig>,
    /// Wins over the configuration's limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_limits: Option<ContainerLimits>,
    /// Environment, as text; wins over the configuration's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Values of the vars in `file`.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub vars: Params,
    /// Where it runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The task's names of inputs and the artifacts they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub input_mapping: BTreeMap<String, String>,
    /// The task's names of outputs and the artifacts they become.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub output_mapping: BTreeMap<String, String>,
    /// The artifact that is its image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Longest time of one try, a duration. Checked at run time only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// PocketCI: copies at once, each with `CI_TASK_INDEX` and `CI_TASK_COUNT`; `None` and 0 mean one plain task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// PocketCI: what must come out of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assert: Option<TaskAssert>,
}

/// PocketCI: what must come out of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskAssert {
    /// Exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Part of stdout; empty for any.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// Part of stderr; empty for any.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stderr: String,
}

/// A task's configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskConfig {
    /// `linux`; required, any text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// A folder or URL with a root file system.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rootfs_uri: String,
    /// The resource that is the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_resource: Option<ImageResource>,
    /// PocketCI: the image's name, short for an `image_resource`; wins over it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Of the container. PocketCI's `limits` is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_limits: Option<ContainerLimits>,
    /// Environment, as text. PocketCI's `env` is the same and wins.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// The program; `None`: the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<TaskRun>,
    /// Artifacts it needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<TaskInput>,
    /// Artifacts it makes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<TaskOutput>,
    /// Folders kept between builds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<TaskCache>,
}

/// A program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskRun {
    /// The program; empty: the image's entry point, with `args` appended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its folder, relative to the task's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dir: String,
    /// Its user; empty: the image's, else root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}

/// A resource that is an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageResource {
    /// Type of the resource.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Where the image is.
    pub source: Params,
    /// For the type's `in`.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// A fixed version; `None`: checked for the latest at each use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Where it is fetched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Bounds of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerLimits {
    /// CPU shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// PocketCI: kind of CPU, for drivers that rent machines.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cpu_kind: String,
}

/// An artifact that a task needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskInput {
    /// Its name.
    pub name: String,
    /// Where it is mounted, relative to the task's folder; empty: its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "is_false")]
    pub optional: bool,
    /// PocketCI: its greatest size in gigabytes, for drivers that rent disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<u64>,
}

/// An artifact that a task makes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskOutput {
    /// Its name.
    pub name: String,
    /// Where it is mounted, relative to the task's folder; empty: its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// PocketCI: its greatest size in gigabytes, for drivers that rent disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<u64>,
}

/// A folder kept between builds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskCache {
    /// Where it is mounted, relative to the task's folder.
    pub path: String,
    /// Forgotten when unused for so long, a duration of at least a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// PocketCI: `task` (the default) or `job`: who shares it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// PocketCI: its greatest size in gigabytes, for drivers that rent disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<u64>,
}
