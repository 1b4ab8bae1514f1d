//! Which image a task runs in: an artifact, a name, or a resource.

use super::super::super::State;
use super::super::super::build::Build;
use super::super::{Ended, Running};
use crate::attempt::Began;
use crate::resource::{Artifact, ResourceSpec};
use pocketci_pipeline::config::model::{ImageResource, TaskConfig, TaskStep};
use pocketci_proto::api::Driver as DriverName;
use serde_json::Value;

/// What is known of the image before anything was fetched; for display.
pub(super) fn told(step: &TaskStep) -> String {
    let Some(config) = &step.config else {
        return step.image.clone();
    };
    let source = config.image_resource.as_ref().map(|image| &image.source);
    let text = |key: &str| {
        let value = source.and_then(|source| source.get(key));
        value.and_then(Value::as_str).unwrap_or_default()
    };
    match (step.image.as_str(), config.image.as_str()) {
        ("", "") if text("tag").is_empty() => text("repository").to_owned(),
        ("", "") => format!("{}:{}", text("repository"), text("tag")),
        ("", image) | (image, _) => image.to_owned(),
    }
}

/// The engine's name for the task's image; empty where tasks run without one.
pub(super) async fn resolve(
    build: &Build,
    state: &State,
    step: &TaskStep,
    config: &TaskConfig,
    running: &Running,
) -> Result<String, Ended> {
    if build.driver.name() == DriverName::Native {
        return Ok(String::new());
    }
    if !step.image.is_empty() {
        let name = build.text(state, &step.image, "image").await?;
        let artifact = state
            .scope
            .artifact(&name)
            .ok_or_else(|| Ended::Errored(format!("image artifact {name:?} is missing")))?;
        if config.image_resource.is_some() || !config.image.is_empty() {
            let said =
                format!("warning: image {name:?} of the step wins over the one of its config");
            running.say(&said).await;
        }
        return fetch(build, state, Wanted::Artifact(&name, &artifact)).await;
    }
    if !config.image.is_empty() {
        return Ok(config.image.clone());
    }
    if let Some(image) = &config.image_resource {
        return fetch(build, state, Wanted::Resource(image)).await;
    }
    match config.rootfs_uri.strip_prefix("docker:///") {
        Some(image) => Ok(image.replacen('#', ":", 1)),
        None if config.rootfs_uri.is_empty() => Err(Ended::Errored(
            "the task names no image; add image_resource, image, or the step's image".to_owned(),
        )),
        None => Err(Ended::Errored(
            "rootfs_uri: only docker:///IMAGE#TAG is offered; use image_resource".to_owned(),
        )),
    }
}

enum Wanted<'a> {
    Artifact(&'a str, &'a Artifact),
    Resource(&'a ImageResource),
}

/// Gets the image, as a step of its own.
async fn fetch(build: &Build, state: &State, wanted: Wanted<'_>) -> Result<String, Ended> {
    let began = Began {
        name: match wanted {
            Wanted::Artifact(name, _) => name,
            Wanted::Resource(image) => &image.type_name,
        },
        kind: "image",
        image: "",
        path: &format!("{}.image", state.path),
    };
    let running = Running::begin(build, began).await;
    let io = running.io(state.halt.token());
    let fetched = match wanted {
        Wanted::Artifact(_, artifact) => Box::pin(build.resources.image_of(artifact, &io)).await,
        Wanted::Resource(image) => {
            // Its vars are filled in, as the rest of the configuration's.
            let spec = ResourceSpec {
                name: String::new(),
                type_name: image.type_name.clone(),
                source: image.source.clone(),
            };
            let params = Value::Object(image.params.clone());
            match build.check_type(&image.type_name) {
                Err(ended) => {
                    drop(io);
                    running.end(&Err::<(), _>(ended.clone())).await;
                    return Err(ended);
                }
                Ok(()) => {
                    let version = image.version.as_ref();
                    Box::pin(build.resources.image(&spec, version, &params, &io)).await
                }
            }
        }
    };
    drop(io);
    let fetched = fetched.map_err(|stop| Ended::of_resource("image", stop));
    // An image whose script says no keeps the task from running.
    let fetched = fetched.map_err(|ended| match ended {
        Ended::Failed { said, .. } => Ended::Errored(said),
        other => other,
    });
    running.end(&fetched).await;
    fetched
}
