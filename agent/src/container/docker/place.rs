//! Terminals in what a step left: each in a new container that begins with it.
//!
//! A container that has ended cannot run anything else. So it is kept as it is, under a name that says until when, and
//! each terminal gets a container of its own: of an image of the kept one's files, with volumes over the kept one's. What
//! it changes goes with it, so later terminals, the job and other jobs never see it. Volumes of a kept container cannot be
//! removed before it: the engine refuses, and they go when it goes.

use super::super::place::{Input, Kept, Place, Size, Wanted};
use super::super::{DriverError, NewVolume, Output, Volume};
use super::{Container, DockerDriver, copy, images, overlay};
use crate::plan::cache::TASK_CACHE_LABEL;
use async_trait::async_trait;
use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerInspectResponse, HostConfig, Mount, MountPoint,
    MountType, MountVolumeOptions,
};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, InspectContainerOptions, ListContainersOptions,
    RenameContainerOptions, ResizeContainerTTYOptions, StartContainerOptions,
};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Begins the name of a kept container, before the second (since 1970) until which it is kept.
const KEPT: &str = "pocketci-kept-";

/// A container that has ended.
pub(super) struct Left {
    driver: DockerDriver,
    id: String,
    /// Removes it, unless it is kept.
    guard: Mutex<Option<Container>>,
}

impl Left {
    pub(super) fn new(driver: &DockerDriver, container: Container) -> Arc<Self> {
        Arc::new(Self {
            driver: driver.clone(),
            id: container.id.clone(),
            guard: Mutex::new(Some(container)),
        })
    }

    fn guard(&self) -> Option<Container> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.take()
    }
}

/// Until when a container of these names is kept.
pub(in crate::container) fn kept_until(names: Option<&Vec<String>>) -> Option<SystemTime> {
    let name = names?.iter().find_map(|name| {
        let name = name.trim_start_matches('/');
        name.strip_prefix(KEPT)
    })?;
    let (seconds, _) = name.split_once('-')?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))
}

/// What an earlier process kept, of all agents that use this engine.
pub(super) async fn kept(driver: &DockerDriver) -> Result<Vec<Kept>, DriverError> {
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("name".to_owned(), vec![KEPT.to_owned()])])),
        ..ListContainersOptions::default()
    };
    let found = driver.client()?.list_containers(Some(options)).await;
    let found = found.map_err(|error| driver.error("look for kept containers", error))?;
    let kept = found.into_iter().filter_map(|container| {
        Some(Kept {
            until: kept_until(container.names.as_ref())?,
            labels: container.labels?.into_iter().collect(),
            place: Arc::new(Left {
                driver: driver.clone(),
                id: container.id?,
                guard: Mutex::default(),
            }),
        })
    });
    Ok(kept.collect())
}

#[async_trait]
impl Place for Left {
    async fn terminal(
        &self,
        wanted: Wanted,
        input: mpsc::Receiver<Input>,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<i32, DriverError> {
        let mut copy = Copied::default();
        let ended = self.in_copy(&mut copy, wanted, input, output, stop).await;
        copy.remove(&self.driver).await;
        ended
    }

    async fn keep(&self, until: SystemTime) -> Result<(), DriverError> {
        let since = until.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs();
        let docker = self.driver.client()?;
        let options = RenameContainerOptions {
            name: format!("{KEPT}{seconds}-{:08x}", rand::random::<u32>()),
        };
        docker
            .rename_container(&self.id, options)
            .await
            .map_err(|error| self.driver.error("keep the container", error))?;
        if let Some(mut container) = self.guard() {
            container.removed = true;
        }
        Ok(())
    }

    async fn discard(&self) {
        match self.guard() {
            Some(container) => container.remove().await,
            None => match self.driver.client() {
                Ok(docker) => super::remove(&docker, &self.id).await,
                Err(_) => return,
            },
        }
        overlay::remove_doomed(&self.driver).await;
        images::remove_doomed(&self.driver).await;
    }
}

/// What a terminal's container is made of.
#[derive(Default)]
struct Copied {
    image: Option<String>,
    volumes: Vec<Volume>,
}

impl Copied {
    async fn remove(self, driver: &DockerDriver) {
        for volume in &self.volumes {
            overlay::remove(driver, &volume.id).await;
        }
        if let Some(image) = &self.image {
            images::remove(driver, image).await;
            images::remove_doomed(driver).await;
        }
    }
}

impl Left {
    async fn in_copy(
        &self,
        copied: &mut Copied,
        wanted: Wanted,
        input: mpsc::Receiver<Input>,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<i32, DriverError> {
        let driver = &self.driver;
        let docker = driver.client()?;
        let found = docker
            .inspect_container(&self.id, None::<InspectContainerOptions>)
            .await
            .map_err(|error| gone(driver, error))?;
        let image = self.commit(&wanted).await?;
        copied.image = Some(image.clone());
        let mut mounts = Vec::new();
        for point in found.mounts.iter().flatten() {
            mounts.extend(self.mount(copied, point, &wanted).await?);
        }
        let body = body(&found, image, mounts, &wanted);
        let options = CreateContainerOptions {
            name: Some(format!("pocketci-terminal-{:08x}", rand::random::<u32>())),
            ..CreateContainerOptions::default()
        };
        let container = super::create_container(&docker, options, body)
            .await
            .map_err(|error| driver.error("create the terminal's container", error))?;
        let ended = talk(driver, &container, &wanted, input, output, &stop).await;
        container.remove().await;
        ended
    }

    /// An image of the container's own files.
    async fn commit(&self, wanted: &Wanted) -> Result<String, DriverError> {
        let options = CommitContainerOptions {
            container: Some(self.id.clone()),
            ..CommitContainerOptions::default()
        };
        // Its other labels come from the container.
        let config = ContainerConfig {
            labels: Some(wanted.labels.clone().into_iter().collect()),
            ..ContainerConfig::default()
        };
        let docker = self.driver.client()?;
        let made = docker.commit_container(options, config).await;
        made.map(|made| made.id)
            .map_err(|error| gone(&self.driver, error))
    }

    /// The same mount with a volume over the kept one. A task's cache is read-only: the next job may be writing to it.
    async fn mount(
        &self,
        copied: &mut Copied,
        point: &MountPoint,
        wanted: &Wanted,
    ) -> Result<Option<Mount>, DriverError> {
        let mount = |source: String, typ, read_only: bool| Mount {
            typ: Some(typ),
            source: Some(source),
            target: point.destination.clone(),
            read_only: Some(read_only),
            volume_options: (typ == MountType::VOLUME).then(|| MountVolumeOptions {
                no_copy: Some(true),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        };
        match (point.typ.as_deref(), &point.name, &point.source) {
            (Some("bind"), _, Some(source)) => {
                Ok(Some(mount(source.clone(), MountType::BIND, true)))
            }
            (Some("volume"), Some(name), _) => {
                let docker = self.driver.client()?;
                let found = docker
                    .inspect_volume(name)
                    .await
                    .map_err(|error| gone(&self.driver, error))?;
                if found.labels.contains_key(TASK_CACHE_LABEL) {
                    return Ok(Some(mount(name.clone(), MountType::VOLUME, true)));
                }
                let from = Volume {
                    id: name.clone(),
                    path: name.clone(),
                };
                let new = NewVolume {
                    name: "terminal",
                    labels: wanted.labels.clone(),
                    owner: None,
                };
                let made = overlay::derive(&self.driver, &from, new).await?;
                copied.volumes.push(made.clone());
                Ok(Some(mount(made.id, MountType::VOLUME, false)))
            }
            _ => Ok(None),
        }
    }
}

fn gone(driver: &DockerDriver, error: Error) -> DriverError {
    match error {
        Error::DockerResponseServerError {
            status_code: 404, ..
        } => DriverError::Invalid("what the step left is not kept any more".to_owned()),
        other => driver.error("look at what the step left", other),
    }
}

/// As the step's own container, but for the command.
fn body(
    found: &ContainerInspectResponse,
    image: String,
    mounts: Vec<Mount>,
    wanted: &Wanted,
) -> ContainerCreateBody {
    let config = found.config.clone().unwrap_or_default();
    let host = found.host_config.clone().unwrap_or_default();
    let mut command = wanted.command().into_iter();
    let mut env = config.env.unwrap_or_default();
    if wanted.size.is_some() && !env.iter().any(|one| one.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    ContainerCreateBody {
        image: Some(image),
        entrypoint: command.next().map(|program| vec![program]),
        cmd: Some(command.collect()),
        env: Some(env),
        user: config.user,
        working_dir: config.working_dir,
        labels: Some(wanted.labels.clone().into_iter().collect()),
        attach_stdin: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(wanted.size.is_some()),
        host_config: Some(HostConfig {
            cpu_shares: host.cpu_shares,
            memory: host.memory,
            memory_swap: host.memory_swap,
            privileged: host.privileged,
            network_mode: host.network_mode,
            // A first process that passes signals on: a shell as the first one would ignore them.
            init: Some(true),
            mounts: Some(mounts),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Attaches, starts, and passes on what comes until the process ends.
async fn talk(
    driver: &DockerDriver,
    container: &Container,
    wanted: &Wanted,
    input: mpsc::Receiver<Input>,
    output: mpsc::Sender<Output>,
    stop: &CancellationToken,
) -> Result<i32, DriverError> {
    let AttachContainerResults {
        output: from,
        input: into,
    } = driver.attach(container, true).await?;
    container
        .docker
        .start_container(&container.id, None::<StartContainerOptions>)
        .await
        .map_err(|error| start_error(driver, wanted, error))?;
    let resize = |size: Size| async move {
        let options = ResizeContainerTTYOptions {
            h: size.rows.into(),
            w: size.cols.into(),
        };
        let docker = &container.docker;
        // One that has ended has no size.
        let _ = docker.resize_container_tty(&container.id, options).await;
    };
    if let Some(size) = wanted.size {
        resize(size).await;
    }
    let reading = copy(from, output);
    let writing = write(into, input, resize);
    let ending = driver.wait(container);
    tokio::pin!(reading);
    tokio::pin!(writing);
    tokio::pin!(ending);
    let (mut read, mut written) = (false, false);
    let code = loop {
        tokio::select! {
            code = &mut ending => break code?,
            () = &mut reading, if !read => read = true,
            () = &mut writing, if !written => written = true,
            () = stop.cancelled() => return Err(ended_by_us()),
        }
    };
    if !read {
        // It comes as fast as whoever looks takes it.
        tokio::select! {
            () = reading => {}
            () = stop.cancelled() => return Err(ended_by_us()),
        }
    }
    Ok(code)
}

/// Nobody looks any more.
pub(super) fn ended_by_us() -> DriverError {
    DriverError::Invalid("the terminal was closed".to_owned())
}

fn start_error(driver: &DockerDriver, wanted: &Wanted, error: Error) -> DriverError {
    let command = wanted.command();
    let spec = crate::container::StepSpec {
        path: command.into_iter().next().unwrap_or_default(),
        image: "what the step left".to_owned(),
        ..Default::default()
    };
    super::running::start_error(driver, &spec, error)
}

/// Passes input on to the process, to its end; then waits for ever, as closing would end the output on some engines.
pub(super) async fn write<Fut: Future<Output = ()>>(
    mut into: Pin<Box<dyn AsyncWrite + Send>>,
    mut input: mpsc::Receiver<Input>,
    resize: impl Fn(Size) -> Fut,
) {
    while let Some(input) = input.recv().await {
        // A process that does not read its input is no error.
        match input {
            Input::Bytes(bytes) => {
                let _ = into.write_all(&bytes).await;
                let _ = into.flush().await;
            }
            Input::End => drop(into.shutdown().await),
            Input::Resize(size) => resize(size).await,
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_kept_container_says_until_when() {
        let names = |name: &str| Some(vec![name.to_owned()]);
        let until = kept_until(names("/pocketci-kept-1700000000-00ab").as_ref());
        assert_eq!(until, Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        for other in [
            "/pocketci-abc-1-00ab",
            "/pocketci-kept-x-1",
            "/pocketci-kept-1",
        ] {
            assert_eq!(kept_until(names(other).as_ref()), None, "{other}");
        }
        assert_eq!(kept_until(None), None);
    }
}
