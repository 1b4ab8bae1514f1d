//! Archives into and out of volumes, through a container that is never started.

use super::super::{DriverError, Owner, TarStream, Volume, tar_stream};
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
            upload(driver, &container, "", tar_stream::of_bytes(made)).await?;
        }
        upload(driver, &container, &path, archive).await
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
        path: format!("{PLACE}/{path}"),
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
    let opened = open(driver, &container, &inner).await;
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

/// The engine's archive of a directory, else of a file; `None` if there is neither.
async fn open(
    driver: &DockerDriver,
    container: &Container,
    path: &str,
) -> Result<Option<Pieces>, DriverError> {
    let place = format!("{PLACE}/{path}");
    // A path that ends in a dot is followed as a directory, and its entries' names begin with a dot instead of its own.
    let directory = format!("{}/.", place.trim_end_matches('/'));
    for path in [directory, place] {
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

/// Hands the volume's root directory to a user.
pub(super) async fn own(
    driver: &DockerDriver,
    volume: &Volume,
    owner: Owner,
) -> Result<(), DriverError> {
    let root = tar_stream::of_bytes(Bytes::from(root_of(owner).map_err(|error| {
        DriverError::Engine {
            action: "hand the volume to its user",
            detail: error.to_string(),
        }
    })?));
    write(driver, volume, "", root).await
}

fn root_of(owner: Owner) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_uid(owner.uid.into());
    header.set_gid(owner.gid.into());
    header.set_size(0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "./", std::io::empty())?;
    builder.into_inner()
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
