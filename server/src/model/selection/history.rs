//! What the choice looks at: the builds of other jobs, the lists of versions, and what this job has used.

use crate::model::JobId;
use crate::model::version::{Version, VersionHash};
use std::collections::BTreeMap;

/// Where a build stands among those of its job: reruns right after the build that they repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Its number.
    pub number: i32,
    /// 0 for what is no rerun.
    pub rerun: i32,
}

impl Position {
    /// Whether a build here comes after `other`. A rerun of `other` does not: it tells nothing new.
    pub fn is_newer_than(self, other: Self) -> bool {
        match self.number == other.number {
            true => other.rerun > 0 && self.rerun > other.rerun,
            false => self.number > other.number,
        }
    }

    /// Whether a build here is `other` or comes before it.
    pub fn is_not_newer_than(self, other: Self) -> bool {
        self <= other
    }
}

/// How a version stands in its resource's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its `check_order`.
    pub order: i64,
    /// Whether builds may use it.
    pub enabled: bool,
}

/// A version that a build made or used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Of which resource: its place among the sorted names of the inputs' resources ([`resource_names`]).
    ///
    /// [`resource_names`]: super::resource_names
    pub resource: usize,
    /// Which version.
    pub hash: VersionHash,
    /// `None` if the resource's list does not have it (any more).
    pub standing: Option<Standing>,
}

/// A successful build of a passed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Its job's id.
    pub id: JobId,
    /// Its place.
    pub position: Position,
    /// What it made and used of the inputs' resources: by resource, what it made first.
    pub versions: Vec<Used>,
}

/// A version in its resource's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub hash: VersionHash,
    /// Its fields.
    pub version: Version,
}

/// One consistent look at the history of a pipeline, for one of its jobs. Resources are named by their place, as in
/// [`Used::resource`].
pub trait History {
    /// Why it cannot be looked at.
    type Error;

    /// Successful builds of a job, newest first, those before a position (or all), at most `limit`.
    fn builds(
        &mut self,
        job: &str,
        before: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Build>, Self::Error>;
    /// The newest successful build of a job before a position (or of all) that made or used each of these versions.
    fn build_with(
        &mut self,
        job: &str,
        versions: &[(usize, VersionHash)],
        before: Option<Position>,
    ) -> Result<Option<Build>, Self::Error>;
    /// The newest enabled version.
    fn latest(&mut self, resource: usize) -> Result<Option<Found>, Self::Error>;
    /// The enabled version that follows the newest one this job has used, and whether more follow; if none follows, the
    /// newest enabled one up to there; if the job has used none, the newest enabled one.
    fn next(&mut self, resource: usize) -> Result<(Option<Found>, bool), Self::Error>;
    /// The newest version, enabled or not, that contains these fields.
    fn containing(
        &mut self,
        resource: usize,
        fields: &Version,
    ) -> Result<Option<Found>, Self::Error>;
    /// A version of the list by its name.
    fn version(
        &mut self,
        resource: usize,
        hash: VersionHash,
    ) -> Result<Option<Version>, Self::Error>;
    /// The builds that fed the last build of this job among those that used the newest version it ever used: by their
    /// jobs, of several builds of a job the newest. `None` if this job has used no version of the list.
    fn last_sources(
        &mut self,
        resource: usize,
    ) -> Result<Option<BTreeMap<String, Position>>, Self::Error>;
    /// Whether a build of this job has used the version under this input's name.
    fn is_used(
        &mut self,
        input: &str,
        resource: usize,
        hash: VersionHash,
    ) -> Result<bool, Self::Error>;
}
