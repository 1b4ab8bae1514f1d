//! `build_image`: the engine builds an image from an artifact, and pushes it if asked to.

use super::super::State;
use super::super::build::{Build, Named, lock, split};
use super::{Ended, Running, within};
use crate::attempt::{Began, told};
use crate::container::docker::DockerDriver;
use crate::container::docker::build::{BuildError, ImageBuild};
use crate::container::{DriverError, RegistryLogin};
use crate::resource::Artifact;
use pocketci_pipeline::config::model::BuildImage;
use std::collections::BTreeMap;

/// Where built images are; with a host, so that no engine adds its own.
const BUILT: &str = "localhost/pocketci/built";
/// The registry of images without a host.
const DOCKER_HUB: &str = "docker.io";

pub(super) async fn build_image(
    build: &Build,
    state: &State,
    step: &BuildImage,
) -> Result<(), Ended> {
    let written = serde_json::to_value(step)
        .map_err(|error| Ended::Errored(format!("build_image: {error}")))?;
    let filled = build.filled(state, &written, "build_image").await?;
    let mut filled: BuildImage = serde_json::from_value(filled)
        .map_err(|error| Ended::Errored(format!("build_image: {error}")))?;
    if filled.name.is_empty() {
        filled.name.clone_from(&filled.tag);
    }
    if let (Some(written), Some(filled)) = (&step.registry, &mut filled.registry) {
        // As in a task's params: only what the author wrote refers to a secret.
        let texts = [
            (&written.username, &mut filled.username),
            (&written.password, &mut filled.password),
        ];
        let texts = texts
            .into_iter()
            .filter(|(written, filled)| *written == *filled);
        let known = build.secrets.fill(texts.map(|(_, filled)| filled)).await;
        known.map_err(Ended::Errored)?;
    }
    lock(&build.ran).push(filled.name.clone());
    let began = Began {
        name: &filled.name,
        kind: "build_image",
        image: &filled.tag,
        path: &state.path,
    };
    let running = Running::begin(build, began).await;
    let timeout = Some(filled.timeout.as_str()).filter(|timeout| !timeout.is_empty());
    let result = within(state, timeout, |stop| {
        let carrying_out = carry_out(build, state, &filled, &running);
        async move {
            tokio::select! {
                done = carrying_out => done,
                () = stop.cancelled() => Err(Ended::Stopped),
            }
        }
    })
    .await;
    running.end(&result).await;
    result
}

async fn carry_out(
    build: &Build,
    state: &State,
    step: &BuildImage,
    running: &Running,
) -> Result<(), Ended> {
    let Some(engine) = build.driver.engine() else {
        return Err(Ended::Errored(
            "build_image needs the docker driver: set the pipeline with --driver docker".to_owned(),
        ));
    };
    let platform = match step.platforms.as_slice() {
        [] => String::new(),
        [platform] => platform.clone(),
        _ => {
            return Err(Ended::Errored(
                "build_image: the engine builds for one platform at a time; write a step for each"
                    .to_owned(),
            ));
        }
    };
    let is_custom = !step.inputs.is_empty() || !step.caches.is_empty() || !step.image.is_empty();
    if is_custom || !step.env.is_empty() || step.container_limits.is_some() {
        let said = "warning: the agent's engine builds the image: image, inputs, caches, env and container_limits of the step have no effect";
        running.say(said).await;
    }
    if step.registry.as_ref().is_some_and(|of| of.insecure) {
        let said = "warning: registry.insecure has no effect: which registries are spoken to without TLS is the engine's setting";
        running.say(said).await;
    }
    let tag = tag(step);
    let login = login(step, &tag);
    // Not under the name that the author chose: the engine is everybody's, and so are its names.
    let built = Named {
        name: format!("{BUILT}:{:016x}", rand::random::<u64>()),
        before: None,
    };
    let wanted = ImageBuild {
        tag: built.name.clone(),
        dockerfile: step.dockerfile.clone(),
        args: step.build_args.clone(),
        target: step.target.clone(),
        // What is published carries nothing of ours.
        labels: if step.push {
            BTreeMap::new()
        } else {
            build.labels.clone()
        },
        platform,
        no_network: false,
        login: login.clone(),
    };
    let (name, path) = step.context.split_once('/').unwrap_or((&step.context, ""));
    let artifact = state
        .scope
        .artifact(name)
        .ok_or_else(|| Ended::Errored(format!("context artifact {name:?} is missing")))?;
    let failed = |error: DriverError| Ended::of_driver("build_image", &error);
    let context = build.driver.read_tar(&artifact.volume, path).await;
    let _room = build.room(state).await?;
    let output = running.output();
    lock(&build.names).push(built.clone());
    let building = engine.build_image(context.map_err(failed)?, &wanted, &output);
    building.await.map_err(refused)?;
    if step.push {
        let digest = push(build, engine, &built.name, &tag, login.as_ref()).await?;
        running.print(&format!("pushed {tag} {digest}")).await;
    }
    // Later tasks may run in it: image: NAME.
    let volume = build
        .driver
        .create_volume("image", build.labels.clone())
        .await;
    let volume = volume.map_err(failed)?;
    build.hold(&volume);
    let image = Some(built.name);
    state.scope.register(&step.name, Artifact { volume, image });
    Ok(())
}

/// Pushes the image, which has the name meanwhile; its digest. What had the name before has it again afterwards, at the end
/// of the job at the latest.
async fn push(
    build: &Build,
    engine: &DockerDriver,
    image: &str,
    name: &str,
    login: Option<&RegistryLogin>,
) -> Result<String, Ended> {
    let (repository, version) = split(name);
    let full = format!("{repository}:{version}");
    let _alone = engine.hold_name(&full).await;
    let named_so = engine.local_image(name).await;
    let named_so = named_so.map_err(|error| Ended::of_driver("build_image", &error))?;
    let named = Named {
        name: full,
        before: named_so.and_then(|image| image.id),
    };
    lock(&build.names).push(named.clone());
    let pushing = async {
        engine.tag_image(image, repository, version).await?;
        engine.push_image(repository, version, login).await
    };
    let pushed = pushing.await;
    build.give_back(&named).await;
    pushed.map_err(|error| {
        Ended::failed(format!("build_image: cannot push {name}: {}", told(&error)))
    })
}

/// The image's name with its registry.
fn tag(step: &BuildImage) -> String {
    let registry = step.registry.as_ref();
    let hostname = registry.map_or("", |registry| registry.hostname.as_str());
    match hostname {
        "" | "docker.io" => step.tag.clone(),
        _ if step.tag.starts_with(&format!("{hostname}/")) => step.tag.clone(),
        _ => format!("{hostname}/{}", step.tag),
    }
}

/// Whom the engine tells the login: the registry of the image's name, as it calls it.
fn login(step: &BuildImage, tag: &str) -> Option<RegistryLogin> {
    let registry = step.registry.as_ref()?;
    if registry.username.is_empty() && registry.password.is_empty() {
        return None;
    }
    let hostname = match (registry.hostname.as_str(), tag.split_once('/')) {
        ("", Some((first, _))) if first.contains(['.', ':']) || first == "localhost" => first,
        ("" | DOCKER_HUB | "index.docker.io", _) => DOCKER_HUB,
        (hostname, _) => hostname,
    };
    // What engines call it in logins is not its name.
    let registry_key = match hostname {
        DOCKER_HUB => format!("https://index.{DOCKER_HUB}/v1/"),
        other => other.to_owned(),
    };
    Some(RegistryLogin {
        username: registry.username.clone(),
        password: registry.password.clone(),
        registry: registry_key,
    })
}

fn refused(error: BuildError) -> Ended {
    match error {
        BuildError::Refused(said) => Ended::failed(format!("build_image: {said}")),
        BuildError::Driver(error) => Ended::of_driver("build_image", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_part_of_the_name_once() {
        let step = |tag: &str, hostname: &str| BuildImage {
            tag: tag.to_owned(),
            registry: Some(pocketci_pipeline::config::model::RegistryLogin {
                hostname: hostname.to_owned(),
                ..Default::default()
            }),
            ..BuildImage::default()
        };
        assert_eq!(tag(&step("a/b:1", "r.test:5000")), "r.test:5000/a/b:1");
        assert_eq!(
            tag(&step("r.test:5000/a:1", "r.test:5000")),
            "r.test:5000/a:1"
        );
        assert_eq!(tag(&step("a:1", "docker.io")), "a:1");
        let known = |tag: &str, hostname: &str| {
            let mut step = step(tag, hostname);
            if let Some(registry) = &mut step.registry {
                registry.username = "u".to_owned();
            }
            login(&step, tag).map(|login| login.registry)
        };
        let hub = Some(format!("https://index.{DOCKER_HUB}/v1/"));
        assert_eq!(known("a/b:1", ""), hub);
        assert_eq!(known("a:1", "docker.io"), hub);
        assert_eq!(known("r.test:1/a", "").as_deref(), Some("r.test:1"));
        assert_eq!(known("a", "r.test").as_deref(), Some("r.test"));
        assert!(login(&step("a", "r.test"), "a").is_none());
        assert_eq!(split("r.test:5000/a/b:1"), ("r.test:5000/a/b", "1"));
        assert_eq!(split("r.test:5000/a"), ("r.test:5000/a", "latest"));
    }
}
