//! Jobs, resources and versions of YAML pipelines, as the API speaks of them.

use super::{RunStatus, Wait};
use crate::ids::RunId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// A version of a resource: text by name, never empty.
pub type Version = BTreeMap<String, String>;

/// A job of a YAML pipeline, over all of its runs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PipelineJob {
    /// Its name.
    pub name: String,
    /// The newest build that is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Build>,
    /// The newest build that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Build>,
}

/// One job of one run, with its number among the builds of that job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Build {
    /// The run it is part of.
    pub run_id: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// The job's name.
    pub job: String,
    /// `3`, or `3.1` for a rerun of it.
    pub number: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Why it ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it is not running yet; in answers about one build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// What started its run: `webhook`, `manual`, `pipeline`, `version`.
    pub triggered_by: String,
    /// The agent that has or had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Versions that it was given; in answers about one build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<BuildVersion>,
    /// Versions that it made; in answers about one build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<BuildVersion>,
    /// Stored.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    /// Accepted by an agent.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<OffsetDateTime>,
    /// Ended.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<OffsetDateTime>,
}

/// A version that went into a build or came out of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BuildVersion {
    /// Name of the input; of an output the resource's.
    pub name: String,
    /// The resource.
    pub resource: String,
    /// Which version.
    pub version: Version,
}

/// A resource of a YAML pipeline.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was last looked at for new versions, until its end.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub checked_at: Option<OffsetDateTime>,
    /// Whether it is being looked at.
    pub checking: bool,
    /// Why the last look failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_error: Option<String>,
    /// The only version that jobs are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// The newest version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Version>,
}

/// See [`Resource::pin`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pin {
    /// Fields that the version has.
    pub version: Version,
    /// Why.
    #[serde(default)]
    pub comment: String,
    /// Who; empty if the pipeline itself says so.
    #[serde(default)]
    pub by: String,
}

/// One known version of a resource.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ResourceVersion {
    /// The version.
    pub version: Version,
    /// What was told about it.
    #[serde(default)]
    pub metadata: Vec<Metadata>,
    /// Whether jobs may be given it.
    pub enabled: bool,
    /// Whether the resource is pinned to it.
    pub pinned: bool,
    /// When it was first seen.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub first_seen_at: OffsetDateTime,
}

/// A fact about a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// To look for versions now.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// Begin with this version rather than the newest known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Version>,
}

/// To pin a resource, or to enable or disable a version of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionRequest {
    /// Fields that the version has; one known version must have them all, the newest of these counts.
    pub version: Version,
    /// For a pin: why.
    #[serde(default)]
    pub comment: String,
    /// Who wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}
