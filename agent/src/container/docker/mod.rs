//! Steps as containers of a Docker engine.
//!
//! A container is attached before it starts, so no output is lost, and removed however the step ends; only a killed
//! agent leaves one behind, which its next start removes (`leftovers`). The engine's own log driver stays on, as a
//! later re-attach reads from it.

mod beside;
pub mod build;
mod container;
mod image;
mod images;
mod overlay;
mod place;
mod reattach;
mod registry;
mod running;
mod sandbox;
mod spec;
mod volume;
mod volume_archive;

use super::{
    Driver, DriverError, IsLeft, NewVolume, Output, Owner, PullPolicy, STOP_GRACE, Sandbox,
    StepExit, StepSpec, TarStream, Volume,
};
use async_trait::async_trait;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bytes::Bytes;
use pocketci_proto::api::Driver as DriverName;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, RwLock, mpsc};
use tokio_util::sync::CancellationToken;

/// How long the engine may take for one answer; removing a container with many files is the slowest.
const ANSWER_WITHIN_SECONDS: u64 = 120;
/// How long an engine may take to say that it is there.
const PING_WITHIN: Duration = Duration::from_secs(3);
/// How long output may still come once the container has ended.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

pub(super) use container::remove;
use container::{Container, LogStream, copy, create_container, feed};
pub(super) use images::remove as remove_image;
pub(super) use overlay::{PART_OF, remove as remove_volume};
pub(super) use place::kept_until;
pub(crate) use volume::READER_LABEL;

/// See the module; clones share what they know.
#[derive(Clone)]
pub struct DockerDriver {
    address: Option<String>,
    grace: Duration,
    client: OnceLock<Docker>,
    /// Whether its machine mounts overlays.
    overlays: Arc<OnceCell<bool>>,
    /// Read while a volume is put over others, written while one is removed.
    layers: Arc<RwLock<()>>,
    doomed: Arc<Mutex<Doomed>>,
    /// Names of images that are another's for a while.
    names: Arc<registry::Names>,
}

/// What is to be removed once nothing needs it any more.
#[derive(Default)]
struct Doomed {
    /// Something lies above them, or a container has them.
    volumes: BTreeSet<String>,
    /// A container, or an image, is made of them.
    images: BTreeSet<String>,
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
            overlays: Arc::default(),
            layers: Arc::default(),
            doomed: Arc::default(),
            names: Arc::default(),
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

    fn doomed(&self) -> MutexGuard<'_, Doomed> {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whether the engine is on this machine, as far as its address tells.
    fn is_local(&self) -> bool {
        self.shown_address().starts_with("unix://")
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
        if let Some(remains) = &spec.remains {
            let (driver, id) = (self.clone(), container.id.clone());
            remains.set(Arc::new(beside::Running { driver, id }));
        }
        let ended = self
            .run_attached(&container, attached, &spec, output, &stop)
            .await;
        match &spec.remains {
            Some(remains) if !spec.is_done(&ended) => {
                remains.set(place::Left::new(self, container));
            }
            Some(remains) => {
                container.remove().await;
                remains.clear();
            }
            None => container.remove().await,
        }
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

    async fn kept(&self) -> Vec<super::place::Kept> {
        place::kept(self).await.unwrap_or_else(|error| {
            tracing::debug!(
                error = error.with_causes(),
                "cannot look for kept containers"
            );
            Vec::new()
        })
    }

    async fn sweep(&self, is_left: &IsLeft<'_>) -> Option<usize> {
        super::leftovers::remove_left(self, is_left, true).await
    }

    async fn has_volume(&self, volume: &Volume) -> bool {
        match self.client() {
            Ok(docker) => docker.inspect_volume(&volume.id).await.is_ok(),
            Err(_) => false,
        }
    }

    async fn remove_volume(&self, volume: &Volume) {
        overlay::remove(self, &volume.id).await;
    }

    async fn derive_volume(
        &self,
        from: &Volume,
        new: NewVolume<'_>,
    ) -> Result<Volume, DriverError> {
        overlay::derive(self, from, new).await
    }

    async fn own_volume(&self, volume: &Volume, owner: Owner) -> Result<(), DriverError> {
        volume_archive::own(self, volume, owner).await
    }

    async fn write_tar(
        &self,
        volume: &Volume,
        path: &str,
        archive: TarStream,
    ) -> Result<(), DriverError> {
        volume_archive::write(self, volume, path, archive).await
    }

    async fn read_tar(&self, volume: &Volume, path: &str) -> Result<TarStream, DriverError> {
        volume_archive::read(self, volume, path).await
    }

    async fn labelled_volumes(
        &self,
        label: &str,
    ) -> Result<Vec<(Volume, BTreeMap<String, String>)>, DriverError> {
        volume::labelled(self, label).await
    }

    fn engine(&self) -> Option<&DockerDriver> {
        Some(self)
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
        if !spec.host_certificates {
            return self.create_from(docker, spec, spec::body(spec)).await;
        }
        let without = StepSpec {
            host_certificates: false,
            ..spec.clone()
        };
        if self.is_local() && spec::has_bundle(Path::new(spec::CERTIFICATES)) {
            match self.create_from(docker, spec, spec::body(spec)).await {
                // The engine's machine keeps none there, or is another than ours after all.
                Err(DriverError::Engine { detail, .. }) if detail.contains("bind source path") => {}
                other => return other,
            }
        }
        self.create_from(docker, &without, spec::body(&without))
            .await
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
}
