//! Which versions a build of a job takes: the choice over the history of versions and builds.
//!
//! Pure over [`History`], which a storage implements inside one consistent look. Inputs without passed jobs are chosen
//! alone; those that share passed jobs, directly or through others, together (`group`).

mod blocked;
mod builds;
mod group;
mod history;
mod reason;
mod select;
#[cfg(test)]
mod tests;

pub use history::{Build, Found, History, Position, Standing, Used};
pub use reason::{Blocked, Reason};
pub use select::{apply_pins, resource_names, select};

use super::JobId;
use super::version::{Version, VersionHash};
use std::collections::BTreeMap;

/// An input of a job as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputConfig {
    /// Its name, unique in the job.
    pub name: String,
    /// The resource.
    pub resource: String,
    /// Jobs of the pipeline that a version must have passed, globs expanded; asked in this order (the order of the
    /// pipeline's jobs).
    pub passed: Vec<String>,
    /// Which versions it wants.
    pub version: Wish,
}

/// See [`InputConfig::version`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Wish {
    /// The newest one.
    #[default]
    Latest,
    /// Each one in turn.
    Every,
    /// The newest one that contains these fields: `get.version`, or the resource's configured `version`. Any other wish
    /// gives way to a pin by command.
    Pinned(Version),
}

/// The version chosen for an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenInput {
    /// The input.
    pub name: String,
    /// Its resource.
    pub resource: String,
    /// The version's name.
    pub hash: VersionHash,
    /// The version.
    pub version: Version,
    /// Whether no build of the job has used it under this name.
    pub first_occurrence: bool,
    /// The builds of the passed jobs that vouch for it.
    pub sources: Vec<JobId>,
}

/// What was found for the inputs of a job. A build may start with it if no input has an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// The inputs for which there is a version, by name.
    pub inputs: BTreeMap<String, ChosenInput>,
    /// Why there is none for the others.
    pub errors: BTreeMap<String, Reason>,
    /// Of an input that wants every version there are more: select again at once after the build is stored.
    pub has_next: bool,
}
