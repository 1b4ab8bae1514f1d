//! A task's files: copies of its inputs, empty outputs, caches that last.

use super::super::super::State;
use super::super::super::build::Build;
use super::super::super::cache::{CacheWanted, Lease};
use super::super::put::missing_inputs;
use super::super::{Ended, Running};
use super::Task;
use crate::container::{NewVolume, Owner, Volume};
use crate::resource::Artifact;
use pocketci_pipeline::config::model::{TaskCache, TaskConfig, TaskStep};
use pocketci_pipeline::duration;
use pocketci_proto::agent::yaml_job::Work;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// An input with where it is mounted.
pub(super) struct Input {
    place: String,
    name: String,
    artifact: Artifact,
}

/// The task's inputs; nothing is made if one is missing.
pub(super) async fn inputs(
    build: &Build,
    state: &State,
    step: &TaskStep,
    config: &TaskConfig,
) -> Result<Vec<Input>, Ended> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for input in &config.inputs {
        let mapped = step.input_mapping.get(&input.name);
        let name = mapped.unwrap_or(&input.name);
        let name = build.text(state, name, "input_mapping").await?;
        match state.scope.artifact(&name) {
            Some(artifact) => found.push(Input {
                place: place(&input.path, &input.name),
                name: input.name.clone(),
                artifact,
            }),
            None if input.optional => {}
            None => missing.push(name),
        }
    }
    if missing.is_empty() {
        Ok(found)
    } else {
        let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
        Err(missing_inputs(&missing))
    }
}

/// Where something is mounted: absolute, or relative to the working directory without any `..`; `.` is that itself.
pub(super) fn place(path: &str, name: &str) -> String {
    let path = if path.is_empty() { name } else { path };
    let segments = path
        .split('/')
        .filter(|segment| !matches!(*segment, "" | "." | ".."));
    let clean = segments.collect::<Vec<_>>().join("/");
    match (path.starts_with('/'), clean.is_empty()) {
        (true, _) => format!("/{clean}"),
        (false, true) => ".".to_owned(),
        (false, false) => clean,
    }
}

/// What a task's container mounts.
pub(super) struct Mounts {
    /// By place.
    pub(super) volumes: BTreeMap<String, Volume>,
    /// Of inputs and of the task's own; gone when it has ended, but for those that are outputs.
    temporary: Vec<Volume>,
    leases: Vec<Lease>,
}

impl Mounts {
    /// Makes all volumes; the container's user is `owner`.
    pub(super) async fn prepare(
        task: &Task<'_>,
        config: &TaskConfig,
        inputs: Vec<Input>,
        owner: Option<Owner>,
        running: &Running,
    ) -> Result<Self, Ended> {
        let mut mounts = Self {
            volumes: BTreeMap::new(),
            temporary: Vec::new(),
            leases: Vec::new(),
        };
        let made = mounts.make(task, config, inputs, owner, running).await;
        match made {
            Ok(()) => Ok(mounts),
            Err(ended) => {
                mounts.drop_all(task.build).await;
                Err(ended)
            }
        }
    }

    async fn make(
        &mut self,
        task: &Task<'_>,
        config: &TaskConfig,
        inputs: Vec<Input>,
        owner: Option<Owner>,
        running: &Running,
    ) -> Result<(), Ended> {
        let build = task.build;
        let labels = labels(build, running);
        for input in inputs {
            unless_stopped(task)?;
            let new = NewVolume {
                name: "input",
                labels: labels.clone(),
                owner,
            };
            let made = build
                .driver
                .derive_volume(&input.artifact.volume, new)
                .await;
            let what = format!("input {:?}", input.name);
            let volume = made.map_err(|error| Ended::of_driver(&what, &error))?;
            build.hold(&volume);
            self.add(input.place, volume);
        }
        for output in &config.outputs {
            let place = place(&output.path, &output.name);
            // An output where an input is begins with the input's files.
            if !self.volumes.contains_key(&place) {
                unless_stopped(task)?;
                self.make_empty(build, place, owner, &labels).await?;
            }
        }
        for cache in &config.caches {
            unless_stopped(task)?;
            self.lend(task, cache, owner, &labels, running).await?;
        }
        // A user who is not root could not write to the directory that the engine makes.
        if owner.is_some() && !self.volumes.contains_key(".") {
            self.make_empty(build, ".".to_owned(), owner, &labels)
                .await?;
        }
        Ok(())
    }

    fn add(&mut self, place: String, volume: Volume) {
        self.temporary.push(volume.clone());
        self.volumes.insert(place, volume);
    }

    async fn make_empty(
        &mut self,
        build: &Build,
        place: String,
        owner: Option<Owner>,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), Ended> {
        let volume = empty(build, owner, labels).await?;
        self.add(place, volume);
        Ok(())
    }

    /// The cache as the last job of this agent left it; an empty one while another task uses it.
    async fn lend(
        &mut self,
        task: &Task<'_>,
        cache: &TaskCache,
        owner: Option<Owner>,
        labels: &BTreeMap<String, String>,
        running: &Running,
    ) -> Result<(), Ended> {
        let build = task.build;
        let place = place(&cache.path, ".");
        if self.volumes.contains_key(&place) {
            let said =
                format!("warning: cache {place:?} is where an input or output is; it is not kept");
            running.say(&said).await;
            return Ok(());
        }
        if matches!(build.about.yaml.work, Some(Work::OneOff(_))) {
            return self.make_empty(build, place, owner, labels).await;
        }
        let ttl = match &cache.ttl {
            Some(ttl) => Some(
                duration::parse_go(ttl)
                    .map_err(|error| Ended::Errored(format!("cache {place:?}: ttl: {error}")))?,
            ),
            None => None,
        };
        let step = if cache.scope == "job" { "" } else { task.name };
        let about = &build.about;
        let wanted = CacheWanted {
            key: key(&[&about.pipeline_id, &about.job_name, step, &place]),
            ttl,
            labels: kept_labels(build),
        };
        let lent = build.workshop.caches.lend(&build.driver, wanted).await;
        let what = format!("cache {place:?}");
        match lent.map_err(|error| Ended::of_driver(&what, &error))? {
            Some(lease) => {
                // The user of the task, or of its image, may be another than last time.
                if let Some(new) = owner.filter(|_| lease.owner() != owner) {
                    let owned = build.driver.own_volume(lease.volume(), new).await;
                    owned.map_err(|error| Ended::of_driver(&what, &error))?;
                }
                lease.set_owner(owner);
                self.volumes.insert(place, lease.volume().clone());
                self.leases.push(lease);
                Ok(())
            }
            None => {
                let said = format!(
                    "cache {place:?} is in use by another job; this one starts with an empty one, which is not kept"
                );
                running.say(&said).await;
                self.make_empty(build, place, owner, labels).await
            }
        }
    }

    /// Makes the outputs known, whatever became of the task, and removes the rest.
    pub(super) async fn finish(
        mut self,
        task: &Task<'_>,
        config: &TaskConfig,
    ) -> Result<(), Ended> {
        let (build, state) = (task.build, task.state);
        for output in &config.outputs {
            let Some(volume) = self.volumes.get(&place(&output.path, &output.name)) else {
                continue;
            };
            let mapped = task.step.output_mapping.get(&output.name);
            let name = mapped.unwrap_or(&output.name);
            let name = build.text(state, name, "output_mapping").await?;
            self.temporary.retain(|temporary| temporary != volume);
            let artifact = Artifact {
                volume: volume.clone(),
                image: None,
            };
            state.scope.register(&name, artifact);
        }
        self.drop_all(build).await;
        Ok(())
    }

    async fn drop_all(self, build: &Build) {
        drop(self.leases);
        build.remove_volumes(&self.temporary).await;
    }
}

fn unless_stopped(task: &Task<'_>) -> Result<(), Ended> {
    match task.state.halt.stopped() {
        None => Ok(()),
        Some(_) => Err(Ended::Stopped),
    }
}

async fn empty(
    build: &Build,
    owner: Option<Owner>,
    labels: &BTreeMap<String, String>,
) -> Result<Volume, Ended> {
    let failed = |error| Ended::of_driver("create a volume", &error);
    let volume = build.driver.create_volume("output", labels.clone()).await;
    let volume = volume.map_err(failed)?;
    build.hold(&volume);
    if let Some(owner) = owner {
        let owned = build.driver.own_volume(&volume, owner).await;
        owned.map_err(failed)?;
    }
    Ok(volume)
}

/// What the step's volumes and containers are marked with.
pub(super) fn labels(build: &Build, running: &Running) -> BTreeMap<String, String> {
    let mut labels = build.labels.clone();
    labels.insert("pocketci.step".to_owned(), running.number().to_string());
    labels
}

/// What tells the agent and not the job: a cache outlives it.
fn kept_labels(build: &Build) -> BTreeMap<String, String> {
    let labels = build.labels.iter();
    labels
        .filter(|(name, _)| matches!(name.as_str(), "pocketci.agent" | "pocketci.server"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_stay_inside_and_absolute_ones_are_kept() {
        for (path, name, expected) in [
            ("", "repo", "repo"),
            ("src/app", "repo", "src/app"),
            ("../../etc", "repo", "etc"),
            ("./a//b/../c/", "repo", "a/b/c"),
            (".", "repo", "."),
            ("..", "repo", "."),
            ("/cache", "repo", "/cache"),
            ("/a/../b", "repo", "/a/b"),
        ] {
            assert_eq!(place(path, name), expected, "{path}");
        }
    }

    #[test]
    fn keys_of_caches_cannot_be_confused() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["a"]), key(&["a"]));
    }
}
