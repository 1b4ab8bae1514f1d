//! Images that the engine builds from a `Dockerfile`.

use super::super::{DriverError, Output, OutputStream, RegistryLogin, TarStream};
use super::DockerDriver;
use super::image::with_tag;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::BuildImageOptions;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashMap};
use tokio::sync::mpsc;

/// What is built.
#[derive(Default)]
pub struct ImageBuild {
    /// The image's name.
    pub tag: String,
    /// Path in the context; empty for `Dockerfile`.
    pub dockerfile: String,
    /// `ARG` values.
    pub args: BTreeMap<String, String>,
    /// The stage; empty for the last.
    pub target: String,
    /// What the image is marked with.
    pub labels: BTreeMap<String, String>,
    /// Such as `linux/arm64`; empty for the engine's own.
    pub platform: String,
    /// No network for its `RUN` lines.
    pub no_network: bool,
    /// For base images.
    pub login: Option<RegistryLogin>,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The build said no.
    #[error("{0}")]
    Refused(String),
    /// The engine cannot be used.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

impl DockerDriver {
    /// Builds from a tar archive; what the build prints goes to `output`. Dropping the future ends the build.
    ///
    /// # Errors
    /// A line of the `Dockerfile` failed, or the engine cannot be used.
    pub async fn build_image(
        &self,
        context: TarStream,
        wanted: &ImageBuild,
        output: &mpsc::Sender<Output>,
    ) -> Result<(), BuildError> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let args: HashMap<String, String> = wanted.args.clone().into_iter().collect();
        let options = BuildImageOptions {
            dockerfile: some(&wanted.dockerfile).unwrap_or_else(|| "Dockerfile".to_owned()),
            t: Some(with_tag(&wanted.tag)),
            buildargs: Some(args),
            labels: Some(wanted.labels.clone().into_iter().collect()),
            target: wanted.target.clone(),
            platform: wanted.platform.clone(),
            networkmode: wanted.no_network.then(|| "none".to_owned()),
            rm: true,
            forcerm: true,
            ..BuildImageOptions::default()
        };
        let login = wanted
            .login
            .as_ref()
            .map(|login| HashMap::from([(login.registry.clone(), credentials(login))]));
        let body = bollard::body_try_stream(context.map_err(std::io::Error::other));
        let docker = self.client()?;
        let mut lines = std::pin::pin!(docker.build_image(options, login, Some(body)));
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| self.refused(error))?;
            if let Some(detail) = line.error_detail.and_then(|detail| detail.message) {
                return Err(BuildError::Refused(detail));
            }
            for text in [line.stream, line.status].into_iter().flatten() {
                print(output, text).await;
            }
        }
        Ok(())
    }

    fn refused(&self, error: Error) -> BuildError {
        match error {
            Error::DockerStreamError { error } => BuildError::Refused(error),
            Error::DockerResponseServerError { message, .. } => BuildError::Refused(message),
            other => BuildError::Driver(self.error("build the image", other)),
        }
    }
}

fn credentials(login: &RegistryLogin) -> DockerCredentials {
    DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(login.password.clone()),
        serveraddress: Some(login.registry.clone()),
        ..DockerCredentials::default()
    }
}

async fn print(output: &mpsc::Sender<Output>, text: String) {
    if !text.is_empty() {
        // Nobody listens any more: the build goes on all the same.
        let _ = output.send((OutputStream::Stdout, Bytes::from(text))).await;
    }
}
