//! Resources and their types, groups, var sources and the page's look.

use super::{Params, Version, is_false};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something with versions outside of the pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// Unique in the pipeline.
    pub name: String,
    /// The name it had: its history is kept.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub old_name: String,
    /// Whether metadata of its versions may be seen by everybody.
    #[serde(skip_serializing_if = "is_false")]
    pub public: bool,
    /// What a webhook that asks for a check must know; may hold `((vars))`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub webhook_token: String,
    /// A built-in type or one of `resource_types`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Where it is; for the type's programs to understand.
    pub source: Params,
    /// Interval of checks: a duration, or `never`; empty for the default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub check_every: String,
    /// Longest check: a duration; empty for the default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub check_timeout: String,
    /// Where its checks run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The only version to be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Shown on the page.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub icon: String,
    /// Whether a put may know who started the build.
    #[serde(skip_serializing_if = "is_false")]
    pub expose_build_created_by: bool,
}

/// A type of resources (or a prototype): an image with `check`, `in` and `out`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceType {
    /// Unique among types and prototypes; may shadow a built-in type.
    pub name: String,
    /// The type of the resource that is its image.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Where the image is.
    pub source: Params,
    /// Merged under the `source` of each resource of the type; the resource wins.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub defaults: Params,
    /// Whether its containers are privileged.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Interval of checks of the image: a duration, or `never`; empty for the default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub check_every: String,
    /// Where its checks run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// For fetching the image.
    #[serde(skip_serializing_if = "Params::is_empty")]
    pub params: Params,
}

/// A tab of the pipeline's page.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Unique.
    pub name: String,
    /// Globs over job names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
    /// Names of resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
}

/// A place where `((name:path))` is looked up at run time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VarSource {
    /// What is written before the colon.
    pub name: String,
    /// `vault`, `dummy`, `ssm`, `secretsmanager`, `idtoken`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The type's own settings; may use vars of other sources.
    pub config: Value,
}

/// How the pipeline's page looks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Display {
    /// http, https or relative URL.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub background_image: String,
    /// A CSS filter.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub background_filter: String,
}
