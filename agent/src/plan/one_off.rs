//! A task without a pipeline: inputs come from the user's machine, outputs go back to it.

use super::build::Build;
use super::leaf::{Ended, Fetch, Leaf, conclude, version_of};
use super::own_task::OwnTask;
use super::{Outcome, State, Step};
use crate::attempt::{Archive, Pieces};
use crate::container::{Driver, DriverError, Volume};
use crate::resource::Artifact;
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use pocketci_pipeline::config::model::{TaskConfig, TaskStep};
use pocketci_pipeline::plan::Plan;
use pocketci_proto::agent as pb;
use serde_json::{Map, Value};
use std::sync::Arc;

pub(super) async fn one_off(build: &Arc<Build>, state: &State, wanted: &pb::OneOff) -> Outcome {
    let step = match prepare(build, state, wanted).await {
        Ok(step) => step,
        Err(ended) => return conclude(build, state, ended).await,
    };
    let leaf = Leaf {
        build: build.clone(),
        plan: Plan::Task(Box::new(step)),
    };
    // A stack of its own, like the deep parts of a plan.
    let outcome = OwnTask(Arc::new(leaf)).run(state).await;
    if outcome == Outcome::Aborted {
        return outcome;
    }
    for name in &wanted.outputs {
        // A task that could not be run has none.
        if outcome == Outcome::Errored && state.scope.artifact(name).is_none() {
            continue;
        }
        if let Err(ended) = send_back(build, state, name).await {
            return outcome.max(conclude(build, state, ended).await);
        }
    }
    outcome
}

/// The task, once its inputs are here.
async fn prepare(build: &Build, state: &State, wanted: &pb::OneOff) -> Result<TaskStep, Ended> {
    let config: TaskConfig = serde_json::from_str(&wanted.config_json)
        .map_err(|error| Ended::Errored(format!("task config: {error}")))?;
    for name in &wanted.uploads {
        build
            .unless_stopped(state, upload(build, state, name))
            .await??;
    }
    let uploaded = |name: &String| wanted.uploads.contains(name);
    let chosen = build.about.yaml.inputs.iter();
    for input in chosen.filter(|input| !uploaded(&input.name)) {
        let fetch = Fetch {
            name: &input.name,
            resource: &input.resource,
            version: Some(version_of(&input.version_json)?),
            params: &Value::Object(Map::new()),
            timeout: None,
            path: &format!("inputs.{}", input.name),
        };
        fetch.run(build, state).await?;
    }
    let name = match wanted.name.as_str() {
        "" => "one-off",
        name => name,
    };
    Ok(TaskStep {
        name: name.to_owned(),
        privileged: wanted.privileged,
        config: Some(config),
        ..TaskStep::default()
    })
}

/// Unpacks an uploaded input while it comes.
async fn upload(build: &Build, state: &State, name: &str) -> Result<(), Ended> {
    let wrong = |error: DriverError| Ended::of_driver(&format!("input {name:?}"), &error);
    let pieces = build.backend.fetch_input(name).await;
    let pieces = pieces.map_err(|error| Ended::Errored(format!("input {name:?}: {error}")))?;
    let volume = build
        .driver
        .create_volume("upload", build.labels.clone())
        .await;
    let volume = volume.map_err(wrong)?;
    build.hold(&volume);
    let pieces = pieces.map_err(|detail| DriverError::Engine {
        action: "fetch an input",
        detail,
    });
    let unpacked = build.driver.write_tar(&volume, "", pieces.boxed()).await;
    unpacked.map_err(wrong)?;
    state.scope.register(
        name,
        Artifact {
            volume,
            image: None,
        },
    );
    Ok(())
}

/// A volume, to be sent.
struct Sent<'a> {
    driver: &'a dyn Driver,
    volume: &'a Volume,
}

#[async_trait]
impl Archive for Sent<'_> {
    async fn pieces(&self) -> Result<Pieces, String> {
        let told = |error: DriverError| error.to_string();
        let pieces = self.driver.read_tar(self.volume, "").await.map_err(told)?;
        Ok(pieces.map_err(told).boxed())
    }
}

/// Sends an output, also one of a task that failed.
async fn send_back(build: &Build, state: &State, name: &str) -> Result<(), Ended> {
    let wrong = |said: &str| Ended::Errored(format!("output {name:?}: {said}"));
    let Some(artifact) = state.scope.artifact(name) else {
        return Err(wrong("the task has none of this name"));
    };
    let archive = Sent {
        driver: build.driver.as_ref(),
        volume: &artifact.volume,
    };
    let sent = build.backend.upload_output(name, &archive);
    let sent = build.unless_stopped(state, sent).await?;
    sent.map_err(|error| wrong(&error))
}
