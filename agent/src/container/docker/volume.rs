//! Volumes of the engine, and reading files of one.
//!
//! Files come out through a container that is created, never started: the engine gives them as a tar archive. Its
//! image is an empty one of our own, so that nothing needs to be pulled.

use super::super::native_files::too_large;
use super::super::{DriverError, READ_FILES_BYTES, StepSpec, Volume};
use super::{Container, DockerDriver};
use crate::container::{Mount, PullPolicy};
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{
    CreateImageOptions, DownloadFromContainerOptions, ListVolumesOptions, RemoveVolumeOptions,
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;

/// On containers that are there for a volume's files alone.
pub(crate) const READER_LABEL: &str = "pocketci.reader";
/// An image without any file.
const EMPTY_IMAGE: &str = "pocketci/empty";
const EMPTY_TAG: &str = "1";
/// A tar archive without entries.
const EMPTY_TAR: [u8; 1024] = [0; 1024];
/// Where the volume is while its files are read.
pub(super) const PLACE: &str = "/volume";
/// Room for the archive's own blocks and padding.
const TAR_OVERHEAD_BYTES: u64 = 1 << 20;

pub(super) async fn create(
    driver: &DockerDriver,
    name: &str,
    labels: BTreeMap<String, String>,
) -> Result<Volume, DriverError> {
    let id = volume_id(name, &labels);
    let request = VolumeCreateRequest {
        name: Some(id.clone()),
        labels: Some(labels.into_iter().collect()),
        ..VolumeCreateRequest::default()
    };
    let created = driver.client()?.create_volume(request).await;
    created.map_err(|error| driver.error("create the volume", error))?;
    Ok(Volume {
        path: id.clone(),
        id,
    })
}

/// A name of its own.
pub(super) fn volume_id(name: &str, labels: &BTreeMap<String, String>) -> String {
    let run = labels
        .get("pocketci.run")
        .map(String::as_str)
        .unwrap_or_default();
    let run = &run[run.len().saturating_sub(12)..];
    format!("pocketci-{run}-{name}-{:08x}", rand::random::<u32>())
}

/// Removes a volume of the engine, whatever lies above it.
pub(super) async fn remove(docker: &Docker, id: &str) {
    let options = RemoveVolumeOptions { force: true };
    match docker.remove_volume(id, Some(options)).await {
        Ok(())
        | Err(Error::DockerResponseServerError {
            status_code: 404, ..
        }) => {}
        Err(error) => {
            tracing::warn!(%error, volume = id, "cannot remove a volume; the next start will");
        }
    }
}

pub(super) async fn labelled(
    driver: &DockerDriver,
    label: &str,
) -> Result<Vec<(Volume, BTreeMap<String, String>)>, DriverError> {
    let options = ListVolumesOptions {
        filters: Some(HashMap::from([(
            "label".to_owned(),
            vec![label.to_owned()],
        )])),
    };
    let found = driver.client()?.list_volumes(Some(options)).await;
    let found = found.map_err(|error| driver.error("list volumes", error))?;
    let volumes = found.volumes.unwrap_or_default().into_iter();
    let volumes = volumes.map(|found| {
        let volume = Volume {
            path: found.name.clone(),
            id: found.name,
        };
        (volume, found.labels.into_iter().collect())
    });
    Ok(volumes.collect())
}

pub(super) async fn read_files(
    driver: &DockerDriver,
    volume: &Volume,
    paths: &[String],
) -> Result<BTreeMap<String, Bytes>, DriverError> {
    let docker = driver.client()?;
    let container = reader(driver, &docker, volume).await?;
    let read = read_all(driver, &container, paths).await;
    container.remove().await;
    read
}

/// A container that has the volume and is never started.
pub(super) async fn reader(
    driver: &DockerDriver,
    docker: &Docker,
    volume: &Volume,
) -> Result<Container, DriverError> {
    // As the volume, so that a killed agent's next process finds it.
    let marked = docker
        .inspect_volume(&volume.id)
        .await
        .map_err(|error| driver.error("look at the volume", error))?;
    let mut labels: BTreeMap<String, String> = marked.labels.into_iter().collect();
    labels.insert(READER_LABEL.to_owned(), String::new());
    let spec = StepSpec {
        labels,
        image: format!("{EMPTY_IMAGE}:{EMPTY_TAG}"),
        path: "none".to_owned(),
        mounts: vec![Mount {
            path: PLACE.to_owned(),
            volume: volume.id.clone(),
        }],
        pull: PullPolicy::Never,
        ..StepSpec::default()
    };
    let body = super::spec::body(&spec);
    match driver.create_from(docker, &spec, body.clone()).await {
        Err(DriverError::ImagePull { .. }) => {
            import_empty(docker)
                .await
                .map_err(|error| driver.error("make an empty image", error))?;
            driver.create_from(docker, &spec, body).await
        }
        other => other,
    }
}

async fn import_empty(docker: &Docker) -> Result<(), Error> {
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(EMPTY_IMAGE.to_owned()),
        tag: Some(EMPTY_TAG.to_owned()),
        ..CreateImageOptions::default()
    };
    let archive = bollard::body_full(Bytes::from_static(&EMPTY_TAR));
    let progress = docker.create_image(Some(options), Some(archive), None);
    progress.try_for_each(|_| async { Ok(()) }).await
}

async fn read_all(
    driver: &DockerDriver,
    container: &Container,
    paths: &[String],
) -> Result<BTreeMap<String, Bytes>, DriverError> {
    let mut left = READ_FILES_BYTES;
    let mut read = BTreeMap::new();
    for path in paths {
        let file = |detail: String| DriverError::File {
            path: path.clone(),
            detail,
        };
        if path.split('/').any(|part| part == "..") {
            return Err(file("it leads out of the volume".to_owned()));
        }
        let archive = download(driver, container, path, left).await?;
        let bytes = regular_file(&archive, left).map_err(file)?;
        left -= bytes.len() as u64;
        read.insert(path.clone(), bytes);
    }
    Ok(read)
}

async fn download(
    driver: &DockerDriver,
    container: &Container,
    path: &str,
    limit: u64,
) -> Result<Vec<u8>, DriverError> {
    let file = |detail: String| DriverError::File {
        path: path.to_owned(),
        detail,
    };
    let options = DownloadFromContainerOptions {
        path: format!("{PLACE}/{}", path.trim_start_matches('/')),
    };
    let pieces = container
        .docker
        .download_from_container(&container.id, Some(options));
    let mut pieces = Box::pin(pieces);
    let mut archive = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => return Err(file("no such file in the volume".to_owned())),
            Err(error) => return Err(driver.error("read files of the volume", error)),
        };
        archive.extend_from_slice(&piece);
        if archive.len() as u64 > limit + TAR_OVERHEAD_BYTES {
            return Err(file(too_large()));
        }
    }
    Ok(archive)
}

/// The one file of an archive; a link or a directory is none.
fn regular_file(archive: &[u8], limit: u64) -> Result<Bytes, String> {
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries().map_err(|error| error.to_string())?;
    let first = entries
        .next()
        .ok_or_else(|| "no such file in the volume".to_owned())?;
    let entry = first.map_err(|error| error.to_string())?;
    if !entry.header().entry_type().is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    entry
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(Bytes::from(bytes))
}
