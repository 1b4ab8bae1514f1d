//! Resources as images: of a task, or of a type.

use super::built_in::BuiltIn;
use super::job::Resources;
use super::kind::{Kind, Known};
use super::{Artifact, ResourceSpec, StepIo, Stop, Version, registry};
use crate::container::docker::DockerDriver;
use serde_json::Value;
use std::collections::BTreeMap;

impl Resources {
    /// The engine's name for the image that a resource is (a task's `image_resource`); without a version the newest.
    pub async fn image(
        &self,
        resource: &ResourceSpec,
        version: Option<&Version>,
        params: &Value,
        io: &StepIo,
    ) -> Result<String, Stop> {
        self.engine()?;
        let known = self.known(resource, &[], io).await?;
        let newest;
        let version = match version {
            Some(version) => version,
            None => {
                newest = self.newest(&known, io).await?;
                &newest
            }
        };
        let (image, _) = self
            .image_of_known(&known, &resource.name, version, params, io)
            .await?;
        Ok(image)
    }

    /// The image, and the artifact that it was made of if it needed one.
    pub(super) async fn image_of_known(
        &self,
        known: &Known,
        name: &str,
        version: &Version,
        params: &Value,
        io: &StepIo,
    ) -> Result<(String, Option<Artifact>), Stop> {
        if let Kind::BuiltIn(BuiltIn::RegistryImage) = known.kind {
            let call = self.call(known, io);
            let image = registry::image(&call, version, params);
            return Ok((io.unless_stopped(image).await?, None));
        }
        let none = BTreeMap::new();
        let (_, artifact) = self
            .get_known(known, name, version, params, &none, io)
            .await?;
        Ok((self.image_of(&artifact, io).await?, Some(artifact)))
    }

    /// The engine's name for the image that an artifact is (a task's `image`).
    pub async fn image_of(&self, artifact: &Artifact, io: &StepIo) -> Result<String, Stop> {
        if let Some(image) = &artifact.image {
            return Ok(image.clone());
        }
        let engine = self.engine()?;
        if let Some((known, version)) = self.unpulled(&artifact.volume) {
            let call = self.call(&known, io);
            let image = registry::image(&call, &version, &Value::Null);
            return io.unless_stopped(image).await;
        }
        let cell = self.image_cell(&artifact.volume);
        let importing = cell.get_or_try_init(|| async {
            let made = engine.import_image(&artifact.volume, &self.setup().labels);
            made.await.map_err(|error| {
                Stop::Errored(format!(
                    "the artifact is no image (rootfs/ and metadata.json): {}",
                    error.with_causes()
                ))
            })
        });
        let importing = async { importing.await.cloned() };
        io.unless_stopped(importing).await
    }

    fn engine(&self) -> Result<&DockerDriver, Stop> {
        self.setup().driver.engine().ok_or_else(|| {
            Stop::Errored(
                "images need a container engine, which the native driver is not; set the pipeline with --driver docker"
                    .to_owned(),
            )
        })
    }
}
