//! `project` and `organization`: the pipeline, and the installation it belongs to.

use crate::model::PipelineId;
use serde::Serialize;
use uuid::Uuid;

/// What names of PocketCI's payloads are hashed in.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_1f5e_0d0b_4c58_9e8a_54a5_21c7_9b3d);
/// The one organization of an installation.
const ORGANIZATION: &str = "pocketci";

/// A pipeline, as CircleCI speaks of projects.
#[derive(Debug, Clone, Serialize)]
pub struct Project {
    /// The pipeline's id.
    pub id: Uuid,
    /// The pipeline's name.
    pub name: String,
    /// `pocketci/pocketci/NAME`: three parts, as in CircleCI's `gh/circleci/web-ui`.
    pub slug: String,
}

impl Project {
    /// Of this pipeline.
    pub fn of(id: PipelineId, name: &str) -> Self {
        Self {
            id: id.0,
            name: name.to_owned(),
            slug: format!("pocketci/{ORGANIZATION}/{name}"),
        }
    }
}

/// Always the same: an installation knows no organizations, but CircleCI's payloads always have one.
#[derive(Debug, Clone, Serialize)]
pub struct Organization {
    /// UUIDv5 of its name.
    pub id: Uuid,
    /// `pocketci`.
    pub name: &'static str,
}

impl Default for Organization {
    fn default() -> Self {
        Self {
            id: Uuid::new_v5(
                &NAMESPACE,
                format!("organization:{ORGANIZATION}").as_bytes(),
            ),
            name: ORGANIZATION,
        }
    }
}
