//! What the engine does with registries beyond pulling, and images as archives.

use super::super::{DriverError, RegistryLogin, TarStream};
use super::{DockerDriver, image};
use bollard::errors::Error;
use bollard::query_parameters::{ImportImageOptions, PushImageOptions, TagImageOptions};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OwnedMutexGuard;

/// Names of images of which each is one push's at a time.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Names {
    async fn hold(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            names.retain(|_, lock| lock.strong_count() > 0);
            match names.get(name).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    names.insert(name.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

impl DockerDriver {
    /// Waits until no other job of this process gives this name to an image for a while, as a push must.
    pub(crate) async fn hold_name(&self, name: &str) -> OwnedMutexGuard<()> {
        self.names.hold(name).await
    }

    /// The digest that a registry has under a name with tag.
    pub(crate) async fn registry_digest(
        &self,
        image: &str,
        login: Option<&RegistryLogin>,
    ) -> Result<Option<String>, DriverError> {
        let credentials = image::credentials(image, login);
        let found = self
            .client()?
            .inspect_registry_image(image, credentials)
            .await;
        match found {
            Ok(found) => Ok(found.descriptor.digest),
            Err(Error::DockerResponseServerError { message, .. }) => Err(DriverError::ImagePull {
                image: image.to_owned(),
                detail: message,
            }),
            Err(error) => Err(self.unreachable(error)),
        }
    }

    /// All files of an image; the container that they are read from carries the labels.
    pub(crate) async fn export_files(
        &self,
        image: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<TarStream, DriverError> {
        let container = self.idle(image, labels).await?;
        let pieces = container.docker.export_container(&container.id).boxed();
        let pieces = pieces.map_err(|error| exported(&error));
        let stream = stream::unfold((pieces, Some(container)), |(mut pieces, container)| async {
            match pieces.next().await {
                Some(piece) => Some((piece, (pieces, container))),
                None => {
                    if let Some(container) = container {
                        container.remove().await;
                    }
                    None
                }
            }
        });
        Ok(stream.boxed())
    }

    /// An image as `docker load` takes it.
    pub(crate) fn save_image(&self, image: &str) -> Result<TarStream, DriverError> {
        let docker = self.client()?;
        let pieces = docker.export_image(image).boxed();
        Ok(pieces.map_err(|error| exported(&error)).boxed())
    }

    /// Has the engine take in an archive of images, under the names that the archive says.
    pub(crate) async fn load_image(&self, archive: TarStream) -> Result<(), DriverError> {
        let archive = archive.map_err(|error| error.with_causes());
        let docker = self.client()?;
        let mut progress = docker.import_image_stream(ImportImageOptions::default(), archive, None);
        while let Some(step) = progress.next().await {
            let step = step.map_err(|error| loaded(error.to_string()))?;
            if let Some(detail) = step.error_detail.and_then(|error| error.message) {
                return Err(loaded(detail));
            }
        }
        Ok(())
    }

    /// Gives an image a further name.
    pub(crate) async fn tag_image(
        &self,
        image: &str,
        repository: &str,
        tag: &str,
    ) -> Result<(), DriverError> {
        let options = TagImageOptions {
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
        };
        let tagged = self.client()?.tag_image(image, Some(options)).await;
        tagged.map_err(|error| self.error("tag the image", error))
    }

    /// Pushes an image of the engine to its registry; answers the digest that it has there.
    pub(crate) async fn push_image(
        &self,
        repository: &str,
        tag: &str,
        login: Option<&RegistryLogin>,
    ) -> Result<String, DriverError> {
        let refused = |detail: String| DriverError::Engine {
            action: "push the image",
            detail,
        };
        let options = PushImageOptions {
            tag: Some(tag.to_owned()),
            ..PushImageOptions::default()
        };
        let credentials = image::credentials(repository, login);
        let docker = self.client()?;
        let mut progress = docker.push_image(repository, Some(options), credentials);
        let mut digest = None;
        while let Some(step) = progress.next().await {
            let step = step.map_err(|error| match error {
                Error::DockerStreamError { error } => refused(error),
                error => self.error("push the image", error),
            })?;
            if let Some(detail) = step.error_detail.and_then(|error| error.message) {
                return Err(refused(detail));
            }
            digest = step.status.as_deref().and_then(digest_in).or(digest);
        }
        digest.ok_or_else(|| refused("the engine did not tell its digest".to_owned()))
    }
}

fn exported(error: &Error) -> DriverError {
    DriverError::Engine {
        action: "read the image",
        detail: error.to_string(),
    }
}

fn loaded(detail: String) -> DriverError {
    DriverError::Engine {
        action: "load the image",
        detail,
    }
}

/// `latest: digest: sha256:… size: 527`.
fn digest_in(status: &str) -> Option<String> {
    let (_, rest) = status.split_once("digest: ")?;
    rest.split_whitespace().next().map(str::to_owned)
}
