//! Looks for what stands in the way of an input, once no set of builds was found.

use super::builds::Walk;
use super::group::Group;
use super::history::{History, Standing};
use super::reason::Blocked;
use crate::model::version::VersionHash;

/// Builds of a job that are looked at for the newest version it used.
const LOOK_BACK: usize = 32;

/// What blocks an input of a group that has no solution. `others` are the names of the group's other inputs.
pub(super) fn blocked<H: History>(
    group: &mut Group<'_, H>,
    at: usize,
    others: Vec<String>,
) -> Result<Blocked, H::Error> {
    if group.gave_up() {
        return Ok(Blocked::TooMany);
    }
    let passed = group.inputs[at].passed.clone();
    let mut newest: Option<Listed> = None;
    let mut not_used = None;
    for job in &passed {
        let (is_any, version) = newest_used(group, at, *job)?;
        let name = || group.jobs[*job].job.clone();
        if !is_any {
            return Ok(Blocked::NoBuild { job: name() });
        }
        match version {
            None => not_used = not_used.or_else(|| Some(name())),
            Some(found) => newest = newest.max_by_order(found),
        }
    }
    let version = group.inputs[at].pin.or(newest.map(|(_, hash)| hash));
    let missing = match version {
        Some(hash) => missing(group, at, hash)?,
        None => Vec::new(),
    };
    match (version, not_used) {
        (Some(hash), _) if !missing.is_empty() => {
            let resource = group.inputs[at].resource;
            let version = group.history.version(resource, hash)?.unwrap_or_default();
            let names = |of: bool| {
                let mut names = Vec::new();
                for job in &passed {
                    if missing.contains(job) == of {
                        names.push(group.jobs[*job].job.clone());
                    }
                }
                names
            };
            Ok(Blocked::NotYet {
                version,
                passed: names(false),
                missing: names(true),
            })
        }
        (_, Some(job)) => Ok(Blocked::NotUsed { job }),
        (_, None) => Ok(Blocked::Apart { others }),
    }
}

/// A version and how it stands in its list.
type Listed = (Standing, VersionHash);

trait MaxByOrder {
    fn max_by_order(self, other: Listed) -> Self;
}

impl MaxByOrder for Option<Listed> {
    fn max_by_order(self, other: Listed) -> Self {
        match self {
            Some(held) if held.0.order >= other.0.order => Some(held),
            _ => Some(other),
        }
    }
}

/// Whether a job has a successful build at all, and the version of the input's resource that the newest of them used
/// that may be used.
fn newest_used<H: History>(
    group: &mut Group<'_, H>,
    at: usize,
    job: usize,
) -> Result<(bool, Option<Listed>), H::Error> {
    let mut walk = Walk::over_all();
    let mut is_any = false;
    for _ in 0..LOOK_BACK {
        let Some(build) = group.jobs[job].step(group.history, &mut walk)? else {
            break;
        };
        is_any = true;
        let resource = group.inputs[at].resource;
        let usable = build.versions.iter().find_map(|used| {
            let standing = used.standing.filter(|standing| standing.enabled)?;
            (used.resource == resource).then_some((standing, used.hash))
        });
        if usable.is_some() {
            return Ok((true, usable));
        }
    }
    Ok((is_any, None))
}

/// The passed jobs of an input without a successful build that has this version.
fn missing<H: History>(
    group: &mut Group<'_, H>,
    at: usize,
    hash: VersionHash,
) -> Result<Vec<usize>, H::Error> {
    let mut missing = Vec::new();
    for job in group.inputs[at].passed.clone() {
        let mut walk = Walk::with(vec![(group.inputs[at].resource, hash)]);
        if group.jobs[job].step(group.history, &mut walk)?.is_none() {
            missing.push(job);
        }
    }
    Ok(missing)
}
