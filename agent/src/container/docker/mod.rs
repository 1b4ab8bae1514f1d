//! Steps as containers of a Docker engine.
//!
//! A container is attached before it starts, so no output is lost, and removed however the step ends; only a killed
//! agent leaves one behind, which its next start removes (`leftovers`). The engine's own log driver stays on, as a
//! later re-attach reads from it.

mod image;
mod images;
mod reattach;
mod sandbox;
mod spec;
mod volume;

use super::{
    Driver, DriverError, IsLeft, Output, OutputStream, PullPolicy, STOP_GRACE, Sandbox, StepExit,
    StepSpec, Volume,
};
use async_trait::async_trait;
use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, InspectContainerOptions, KillContainerOptions,
    RemoveContainerOptions, StartContainerOptions, WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::StreamExt;
use pocketci_proto::api::Driver as DriverName;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long the engine may take for one answer; removing a container with many files is the slowest.
const ANSWER_WITHIN_SECONDS: u64 = 120;
/// How long an engine may take to say that it is there.
const PING_WITHIN: Duration = Duration::from_secs(3);
/// How long output may still come once the container has ended.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

pub(super) use volume::remove as remove_volume;

/// See the module.
pub struct DockerDriver {
    address: Option<String>,
    grace: Duration,
    client: OnceLock<Docker>,
}

impl DockerDriver {
    /// For the engine at `address` (`unix://…`, `tcp://…`); without one DOCKER_HOST, then the local socket. Nothing is
    /// connected before the first step.
    pub fn new(address: Option<String>) -> Self {
        Self::with_grace(address, STOP_GRACE)
    }

    /// With another time between the polite signal and the kill.
    pub fn with_grace(address: Option<String>, grace: Duration) -> Self {
        Self {
            address: address.or_else(|| {
                std::env::var("DOCKER_HOST")
                    .ok()
                    .filter(|host| !host.is_empty())
            }),
            grace,
            client: OnceLock::new(),
        }
    }

    /// Whether there is an engine.
    pub async fn answers(&self) -> bool {
        let Ok(docker) = self.client() else {
            return false;
        };
        let asked = tokio::time::timeout(PING_WITHIN, docker.ping()).await;
        matches!(asked, Ok(Ok(_)))
    }

    fn shown_address(&self) -> String {
        self.address
            .clone()
            .unwrap_or_else(|| "unix:///var/run/docker.sock".into())
    }

    pub(super) fn client(&self) -> Result<Docker, DriverError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let connected = match &self.address {
            Some(address) => match address.strip_prefix("unix://") {
                Some(path) => Docker::connect_with_unix(
                    path,
                    ANSWER_WITHIN_SECONDS,
                    bollard::API_DEFAULT_VERSION,
                ),
                None => Docker::connect_with_host(address),
            },
            None => Docker::connect_with_unix_defaults(),
        };
        let client = connected.map_err(|error| self.unreachable(error))?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    fn unreachable(&self, error: Error) -> DriverError {
        DriverError::EngineUnreachable {
            address: self.shown_address(),
            source: Box::new(error),
        }
    }

    /// What an error of the engine means to the author.
    fn error(&self, action: &'static str, error: Error) -> DriverError {
        match error {
            Error::DockerResponseServerError { message, .. } => DriverError::Engine {
                action,
                detail: message,
            },
            other => self.unreachable(other),
        }
    }
}

#[async_trait]
impl Driver for DockerDriver {
    fn name(&self) -> DriverName {
        DriverName::Docker
    }

    async fn run(
        &self,
        spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        spec::check(&spec)?;
        let docker = self.client()?;
        let preparing = async {
            let container = self.create(&docker, &spec).await?;
            let attached = self.attach(&container, spec.stdin.is_some()).await?;
            Ok::<_, DriverError>((container, attached))
        };
        tokio::pin!(preparing);
        let prepared = tokio::select! {
            prepared = &mut preparing => prepared,
            () = stop.cancelled() => {
                // The engine may be creating it: only its answer tells what is to be removed. A pull is broken off.
                let created = tokio::time::timeout(self.grace, preparing).await;
                if let Ok(Ok((container, _))) = created {
                    container.remove().await;
                }
                return Ok(StepExit::Stopped);
            }
        };
        let (container, attached) = prepared?;
        let ended = self
            .run_attached(&container, attached, &spec, output, &stop)
            .await;
        container.remove().await;
        ended
    }

    async fn create_volume(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<Volume, DriverError> {
        volume::create(self, name, labels).await
    }

    async fn reattach(
        &self,
        spec: &StepSpec,
        output: mpsc::Sender<Output>,
        stop: &CancellationToken,
    ) -> Result<Option<StepExit>, DriverError> {
        reattach::reattach(self, spec, output, stop).await
    }

    async fn sweep(&self, is_left: &IsLeft<'_>) -> Option<usize> {
        super::leftovers::remove_left(self, is_left).await
    }

    async fn has_volume(&self, volume: &Volume) -> bool {
        match self.client() {
            Ok(docker) => docker.inspect_volume(&volume.id).await.is_ok(),
            Err(_) => false,
        }
    }

    async fn remove_volume(&self, volume: &Volume) {
        if let Ok(docker) = self.client() {
            volume::remove(&docker, &volume.id).await;
        }
    }

    async fn read_files(
        &self,
        volume: &Volume,
        paths: &[String],
    ) -> Result<BTreeMap<String, Bytes>, DriverError> {
        volume::read_files(self, volume, paths).await
    }

    async fn start_sandbox(&self, spec: StepSpec) -> Result<Arc<dyn Sandbox>, DriverError> {
        sandbox::start(self, spec).await
    }
}

impl DockerDriver {
    async fn create(&self, docker: &Docker, spec: &StepSpec) -> Result<Container, DriverError> {
        self.create_from(docker, spec, spec::body(spec)).await
    }

    /// Creates what `body` says, pulling the image as `spec` says.
    async fn create_from(
        &self,
        docker: &Docker,
        spec: &StepSpec,
        body: ContainerCreateBody,
    ) -> Result<Container, DriverError> {
        let options = spec::options(spec);
        if spec.pull == PullPolicy::Always {
            self.pull(docker, spec).await?;
        }
        let first = create_container(docker, options.clone(), body.clone()).await;
        let created = match first {
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) if spec.pull == PullPolicy::Never => {
                return Err(DriverError::ImagePull {
                    image: spec.image.clone(),
                    detail: "the engine does not have it, and pull is \"never\"".into(),
                });
            }
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => {
                self.pull(docker, spec).await?;
                create_container(docker, options, body).await
            }
            other => other,
        };
        created.map_err(|error| self.error("create the container", error))
    }

    async fn pull(&self, docker: &Docker, spec: &StepSpec) -> Result<(), DriverError> {
        let pulled = image::pull(docker, &spec.image, spec.registry.as_ref()).await;
        pulled.map_err(|error| match error {
            image::PullError::Refused(detail) => DriverError::ImagePull {
                image: spec.image.clone(),
                detail,
            },
            image::PullError::Engine(error) => self.unreachable(error),
        })
    }

    async fn attach(
        &self,
        container: &Container,
        stdin: bool,
    ) -> Result<AttachContainerResults, DriverError> {
        let options = AttachContainerOptions {
            stream: true,
            stdin,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        container
            .docker
            .attach_container(&container.id, Some(options))
            .await
            .map_err(|error| self.error("attach to the container", error))
    }

    async fn run_attached(
        &self,
        container: &Container,
        attached: AttachContainerResults,
        spec: &StepSpec,
        output: mpsc::Sender<Output>,
        stop: &CancellationToken,
    ) -> Result<StepExit, DriverError> {
        container
            .docker
            .start_container(&container.id, None::<StartContainerOptions>)
            .await
            .map_err(|error| start_error(self, spec, error))?;
        let reading = copy(attached.output, output);
        let feeding = feed(attached.input, spec.stdin.clone());
        let ending = self.end(container, stop);
        tokio::pin!(reading);
        tokio::pin!(feeding);
        tokio::pin!(ending);
        let (mut read, mut fed) = (false, false);
        let exit = loop {
            tokio::select! {
                exit = &mut ending => break exit?,
                () = &mut reading, if !read => read = true,
                () = &mut feeding, if !fed => fed = true,
            }
        };
        if !read && tokio::time::timeout(DRAIN_WITHIN, reading).await.is_err() {
            tracing::warn!("the engine keeps a container's output open after its end");
        }
        Ok(exit)
    }

    async fn end(
        &self,
        container: &Container,
        stop: &CancellationToken,
    ) -> Result<StepExit, DriverError> {
        tokio::select! {
            ended = self.wait(container) => {
                let code = ended?;
                let oom = code != 0 && self.was_oom_killed(container).await;
                return Ok(StepExit::Exited { code, oom });
            }
            () = stop.cancelled() => {}
        }
        container.kill("SIGTERM").await;
        if tokio::time::timeout(self.grace, self.wait(container))
            .await
            .is_err()
        {
            container.kill("SIGKILL").await;
            self.wait(container).await?;
        }
        Ok(StepExit::Stopped)
    }

    async fn wait(&self, container: &Container) -> Result<i32, DriverError> {
        let mut ended = container
            .docker
            .wait_container(&container.id, None::<WaitContainerOptions>);
        match ended.next().await {
            Some(Ok(answer)) => Ok(i32::try_from(answer.status_code).unwrap_or(-1)),
            // The engine's client tells any exit code but 0 as an error.
            Some(Err(Error::DockerContainerWaitError { code, .. })) => {
                Ok(i32::try_from(code).unwrap_or(-1))
            }
            Some(Err(error)) => Err(self.error("wait for the container", error)),
            None => Err(DriverError::Engine {
                action: "wait for the container",
                detail: "the engine ended the answer".into(),
            }),
        }
    }

    async fn was_oom_killed(&self, container: &Container) -> bool {
        let inspected = container
            .docker
            .inspect_container(&container.id, None::<InspectContainerOptions>)
            .await;
        let state = inspected.ok().and_then(|found| found.state);
        state.and_then(|state| state.oom_killed).unwrap_or(false)
    }
}

/// A program that is not in the image is the author's fault, told as such.
fn start_error(driver: &DockerDriver, spec: &StepSpec, error: Error) -> DriverError {
    match error {
        Error::DockerResponseServerError { message, .. }
            if message.contains("executable file not found")
                || message.contains("no such file or directory") =>
        {
            DriverError::Start {
                path: spec.path.clone(),
                detail: format!("no such program in image {:?}", spec.image),
            }
        }
        other => driver.error("start the container", other),
    }
}

/// Asks the engine for a container. An engine goes on creating though its client has gone, so its answer is waited for
/// in any case: the guard of a container that nobody wants any more removes it.
async fn create_container(
    docker: &Docker,
    options: CreateContainerOptions,
    body: ContainerCreateBody,
) -> Result<Container, Error> {
    let docker = docker.clone();
    let creating = tokio::spawn(async move {
        let created = docker.create_container(Some(options), body).await?;
        Ok(Container {
            docker,
            id: created.id,
            runtime: Handle::current(),
            removed: false,
        })
    });
    let panicked = |error| Error::IOError {
        err: std::io::Error::other(error),
    };
    creating.await.map_err(panicked)?
}

/// A container that does not outlive this.
struct Container {
    docker: Docker,
    id: String,
    runtime: Handle,
    removed: bool,
}

impl Container {
    async fn kill(&self, signal: &str) {
        let options = KillContainerOptions {
            signal: signal.to_owned(),
        };
        // It may have ended by itself; the wait tells.
        let _ = self.docker.kill_container(&self.id, Some(options)).await;
    }

    async fn remove(mut self) {
        remove(&self.docker, &self.id).await;
        self.removed = true;
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.removed {
            let (docker, id) = (self.docker.clone(), std::mem::take(&mut self.id));
            // Owned by the runtime: it ends with the engine's answer.
            self.runtime
                .spawn(async move { remove(&docker, &id).await });
        }
    }
}

/// Removes a container, running or not, with its anonymous volumes.
pub(super) async fn remove(docker: &Docker, id: &str) {
    let options = RemoveContainerOptions {
        force: true,
        v: true,
        ..RemoveContainerOptions::default()
    };
    match docker.remove_container(id, Some(options)).await {
        Ok(())
        | Err(Error::DockerResponseServerError {
            status_code: 404 | 409,
            ..
        }) => {}
        Err(error) => {
            tracing::warn!(%error, container = id, "cannot remove a container; the next start will")
        }
    }
}

type LogStream = Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, Error>> + Send>>;

async fn copy(mut from: LogStream, to: mpsc::Sender<Output>) {
    while let Some(Ok(piece)) = from.next().await {
        let (stream, bytes) = match piece {
            LogOutput::StdErr { message } => (OutputStream::Stderr, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                (OutputStream::Stdout, message)
            }
            LogOutput::StdIn { .. } => continue,
        };
        if !bytes.is_empty() {
            // Nobody wants it: read on, so that the process is not held up.
            let _ = to.send((stream, bytes)).await;
        }
    }
}

async fn feed(mut input: Pin<Box<dyn AsyncWrite + Send>>, data: Option<Bytes>) {
    if let Some(data) = data {
        // A process that does not read its input is no error.
        let _ = input.write_all(&data).await;
        let _ = input.shutdown().await;
    } else {
        // Kept open: closing the attachment would end the output on some engines.
        std::future::pending::<()>().await;
    }
}
