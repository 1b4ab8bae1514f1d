//! A job that only asks a resource, or a type's image, for new versions.

use super::build::Build;
use super::leaf::{Ended, Running, conclude, version_of, within};
use super::{Outcome, State};
use crate::resource::{ResourceSpec, Version};
use pocketci_proto::agent as pb;
use serde_json::{Value, json};

/// Longest check unless the resource says otherwise.
const CHECK_WITHIN: &str = "1h";

/// Most versions of a check that a server takes at once.
const MAX_VERSIONS: usize = 10_000;
/// Most bytes of them, as JSON: a message to the server has at most 4 MiB.
const MAX_VERSIONS_BYTES: usize = 3 << 20;

pub(super) async fn check(build: &Build, state: &State, wanted: &pb::CheckResource) -> Outcome {
    let running = Running::plain(build, state, "check", &wanted.resource).await;
    let result = ask(build, state, wanted, &running).await;
    running.end(&result).await;
    let versions = match result {
        Ok(versions) => json!(versions).to_string(),
        Err(ended) => return conclude(build, state, ended).await,
    };
    let saving = build
        .backend
        .save_versions(&wanted.resource, wanted.resource_type, versions);
    match build.unless_stopped(state, saving).await {
        Ok(Ok(())) => Outcome::Succeeded,
        Ok(Err(error)) => {
            let said = format!("the versions are not stored: {error}");
            conclude(build, state, Ended::Errored(said)).await
        }
        Err(ended) => conclude(build, state, ended).await,
    }
}

async fn ask(
    build: &Build,
    state: &State,
    wanted: &pb::CheckResource,
    running: &Running,
) -> Result<Vec<Version>, Ended> {
    let (spec, timeout) = spec(build, state, wanted).await?;
    let from = match wanted.from_version_json.as_str() {
        "" => None,
        json => Some(version_of(json)?),
    };
    let what = &format!("check {:?}", wanted.resource);
    let found = within(state, Some(&timeout), |stop| {
        let io = running.io(&stop);
        let (spec, from) = (&spec, from.as_ref());
        async move {
            let found = Box::pin(build.resources.check(spec, from, &io)).await;
            found.map_err(|stop| Ended::of_resource(what, stop))
        }
    })
    .await?;
    let count = found.len();
    let newest = newest(found);
    if newest.len() < count {
        let said = format!(
            "warning: the check found {count} versions; only the newest {} of them are stored",
            newest.len()
        );
        running.say(&said).await;
    }
    Ok(newest)
}

/// As many of the versions, which are told oldest first, as a server takes.
fn newest(mut versions: Vec<Version>) -> Vec<Version> {
    let mut left = MAX_VERSIONS_BYTES;
    let fits = |version: &&Version| {
        let bytes = json!(version).to_string().len() + 1;
        let is_room = bytes <= left;
        left = left.saturating_sub(bytes);
        is_room
    };
    let newest_first = versions.iter().rev().take(MAX_VERSIONS);
    let kept = newest_first.take_while(fits).count();
    versions.split_off(versions.len() - kept)
}

/// What is asked, and how long it may take.
async fn spec(
    build: &Build,
    state: &State,
    wanted: &pb::CheckResource,
) -> Result<(ResourceSpec, String), Ended> {
    let name = &wanted.resource;
    let usual = || CHECK_WITHIN.to_owned();
    if !wanted.resource_type {
        let spec = build.resource(state, name).await?;
        let declared = build.config.resource(name);
        let timeout = declared.map(|declared| declared.check_timeout.clone());
        return Ok((
            spec,
            timeout
                .filter(|timeout| !timeout.is_empty())
                .unwrap_or_else(usual),
        ));
    }
    let types = &build.config.resource_types;
    let declared = types.iter().find(|declared| declared.name == *name);
    let declared = declared.ok_or_else(|| {
        Ended::Errored(format!("the pipeline declares no resource type {name:?}"))
    })?;
    let source = Value::Object(declared.source.clone());
    let spec = build
        .spec(state, name, &declared.type_name, &source)
        .await?;
    Ok((spec, usual()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_versions_the_newest_are_kept() {
        let version =
            |number: usize, bytes: usize| Version::from([(number.to_string(), "v".repeat(bytes))]);
        let many: Vec<Version> = (0..MAX_VERSIONS + 5).map(|at| version(at, 1)).collect();
        assert_eq!(newest(many.clone()), many[5..]);
        let large: Vec<Version> = (0..100).map(|at| version(at, 60_000)).collect();
        let kept = newest(large.clone());
        assert!(json!(kept).to_string().len() <= MAX_VERSIONS_BYTES);
        assert_eq!(kept, large[large.len() - kept.len()..]);
        assert!(kept.len() > 50, "{}", kept.len());
    }
}
