//! Archives into and out of volumes, through a container that is never started.

use super::super::{DriverError, Owner, Rewrite, TarStream, Volume, tar_stream};
use super::volume::{PLACE, reader};
use super::{Container, DockerDriver};
use bollard::errors::Error;
use bollard::query_parameters::{DownloadFromContainerOptions, UploadToContainerOptions};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use futures_util::{TryStreamExt, stream};

/// Relative, without dots; what leads out of the volume is refused.
fn inside(path: &str) -> Result<String, DriverError> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                return Err(DriverError::File {
                    path: path.to_owned(),
                    detail: "it leads out of the volume".to_owned(),
                });
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

pub(super) async fn write(
    driver: &DockerDriver,
    volume: &Volume,
    path: &str,
    archive: TarStream,
) -> Result<(), DriverError> {
    let path = inside(path)?;
    let docker = driver.client()?;
    let container = reader(driver, &docker, volume).await?;
    let written = async {
        if !path.is_empty() {
            let made = directories(&path).map_err(|error| DriverError::File {
                path: path.clone(),
                detail: error.to_string(),
            })?;
            upload(driver, &container, PLACE, tar_stream::of_bytes(made)).await?;
        }
        upload(driver, &container, &format!("{PLACE}/{path}"), archive).await
    };
    let written = written.await;
    container.remove().await;
    written
}

/// An archive of a directory and those above it.
fn directories(path: &str) -> std::io::Result<Bytes> {
    let ends = path.match_indices('/').map(|(at, _)| at);
    let paths: Vec<String> = ends
        .chain([path.len()])
        .map(|end| format!("{}/", &path[..end]))
        .collect();
    tar_stream::of_files(paths.iter().map(|path| (path.as_str(), &[][..], 0o755)))
}

async fn upload(
    driver: &DockerDriver,
    container: &Container,
    path: &str,
    archive: TarStream,
) -> Result<(), DriverError> {
    let options = UploadToContainerOptions {
        path: path.to_owned(),
        // A link is not replaced by a directory.
        no_overwrite_dir_non_dir: Some("true".to_owned()),
        ..UploadToContainerOptions::default()
    };
    // What broke the archive off says more than what the engine makes of its end.
    let (told, why) = std::sync::mpsc::channel();
    let body = archive.map_err(move |error| {
        let cause = std::io::Error::other(error.to_string());
        // Nobody asks if the engine went away first.
        let _ = told.send(error);
        cause
    });
    let sent = container
        .docker
        .upload_to_container(&container.id, Some(options), bollard::body_try_stream(body))
        .await;
    match (sent, why.try_recv()) {
        (_, Ok(why)) => Err(why),
        (Ok(()), Err(_)) => Ok(()),
        (Err(error), Err(_)) => Err(driver.error("write files of the volume", error)),
    }
}

pub(super) async fn read(
    driver: &DockerDriver,
    volume: &Volume,
    path: &str,
) -> Result<TarStream, DriverError> {
    let inner = inside(path)?;
    let docker = driver.client()?;
    let container = reader(driver, &docker, volume).await?;
    // A path that ends in a dot is followed as a directory, and its entries' names begin with a dot instead of its own.
    let place = format!("{PLACE}/{inner}");
    let directory = format!("{}/.", place.trim_end_matches('/'));
    let opened = open(driver, &container, [directory, place]).await;
    from_opened(driver, container, opened, path).await
}

async fn from_opened(
    driver: &DockerDriver,
    container: Container,
    opened: Result<Option<Pieces>, DriverError>,
    path: &str,
) -> Result<TarStream, DriverError> {
    let pieces = match opened {
        Ok(Some(pieces)) => pieces,
        other => {
            container.remove().await;
            return Err(other.err().unwrap_or_else(|| DriverError::File {
                path: path.to_owned(),
                detail: "no such file in the volume".to_owned(),
            }));
        }
    };
    let address = driver.shown_address();
    let stream = stream::unfold((pieces, Some(container)), move |(mut pieces, container)| {
        let address = address.clone();
        async move {
            match pieces.next().await {
                Some(Ok(piece)) => Some((Ok(piece), (pieces, container))),
                Some(Err(error)) => Some((Err(broken(address, error)), (pieces, container))),
                None => {
                    if let Some(container) = container {
                        container.remove().await;
                    }
                    None
                }
            }
        }
    });
    Ok(stream.boxed())
}

fn broken(address: String, error: Error) -> DriverError {
    match error {
        Error::DockerResponseServerError { message, .. } => DriverError::Engine {
            action: "read files of the volume",
            detail: message,
        },
        source => DriverError::EngineUnreachable {
            address,
            source: Box::new(source),
        },
    }
}

type Pieces = BoxStream<'static, Result<Bytes, Error>>;

/// The engine's archive of the first of these that is there as it is called; `None` if there is none.
async fn open(
    driver: &DockerDriver,
    container: &Container,
    paths: impl IntoIterator<Item = String>,
) -> Result<Option<Pieces>, DriverError> {
    for path in paths {
        let options = DownloadFromContainerOptions { path };
        // The client borrows nothing of what it is given: the stream is its own.
        let mut pieces = container
            .docker
            .download_from_container(&container.id, Some(options))
            .boxed();
        match pieces.next().await {
            Some(Ok(first)) => return Ok(Some(stream::iter([Ok(first)]).chain(pieces).boxed())),
            Some(Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }))
            | None => return Ok(None),
            Some(Err(Error::DockerResponseServerError { message, .. }))
                if message.contains("not a directory") => {}
            Some(Err(error)) => return Err(driver.error("read files of the volume", error)),
        }
    }
    Ok(None)
}

/// Copies all of a volume into an empty one, its root directory included, which needs it to be an entry with a name.
pub(super) async fn copy(
    driver: &DockerDriver,
    from: &Volume,
    to: &Volume,
    owner: Option<Owner>,
) -> Result<(), DriverError> {
    let docker = driver.client()?;
    let source = reader(driver, &docker, from).await?;
    let opened = open(driver, &source, [PLACE.to_owned()]).await;
    let mut files = from_opened(driver, source, opened, "").await?;
    if owner.is_some() {
        files = tar_stream::rewrite(files, Rewrite { owner, below: None });
    }
    write_with_root(driver, to, files).await
}

async fn write_with_root(
    driver: &DockerDriver,
    volume: &Volume,
    archive: TarStream,
) -> Result<(), DriverError> {
    let docker = driver.client()?;
    let container = reader(driver, &docker, volume).await?;
    let written = upload(driver, &container, "/", archive).await;
    container.remove().await;
    written
}

/// Hands the volume's root directory to a user.
pub(super) async fn own(
    driver: &DockerDriver,
    volume: &Volume,
    owner: Owner,
) -> Result<(), DriverError> {
    let root = tar_stream::of_files([(&format!("{PLACE}/")[1..], &[][..], 0o755)]);
    let root = root.map_err(|error| DriverError::Engine {
        action: "hand the volume to its user",
        detail: error.to_string(),
    })?;
    let change = Rewrite {
        owner: Some(owner),
        below: None,
    };
    let root = tar_stream::rewrite(tar_stream::of_bytes(root), change);
    write_with_root(driver, volume, root).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_inside_its_volume() {
        assert_eq!(inside("/a/./b//c/").ok().as_deref(), Some("a/b/c"));
        assert_eq!(inside("").ok().as_deref(), Some(""));
        assert!(inside("a/../../etc").is_err());
    }
}
