//! Volumes of the native driver: directories, mounted as symbolic links.

use super::leftovers::directory_prefix;
use super::native::engine;
use super::{DriverError, Mount, READ_FILES_BYTES, Volume};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) fn create_volume() -> Result<Volume, DriverError> {
    let directory = tempfile::Builder::new()
        .prefix(&directory_prefix("volume"))
        .tempdir()
        .map_err(|error| engine("create the volume", &error))?
        .keep();
    let path = directory.to_string_lossy().into_owned();
    Ok(Volume {
        id: path.clone(),
        path,
    })
}

/// [`remove_volume`] where nothing can wait.
pub(super) fn remove_volume_now(id: &str) {
    match std::fs::remove_dir_all(id) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, volume = id, "cannot remove a volume"),
    }
}

pub(super) async fn remove_volume(volume: &Volume) {
    match tokio::fs::remove_dir_all(&volume.id).await {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, volume = volume.id, "cannot remove a volume"),
    }
}

/// Links that are gone when this is.
pub(super) struct Links(Vec<PathBuf>);

impl Drop for Links {
    fn drop(&mut self) {
        for link in &self.0 {
            // It may have gone with its directory, or the step replaced it: then it is the directory's.
            if link.is_symlink() {
                let _ = std::fs::remove_file(link);
            }
        }
    }
}

/// Makes each volume visible below the working directory; an absolute path lies below the step's own directory, as
/// nothing else on this machine is the step's to change.
pub(super) fn link(mounts: &[Mount], work_dir: &Path, home: &Path) -> Result<Links, DriverError> {
    let mut links = Links(Vec::new());
    for mount in mounts {
        let place = match mount.path.strip_prefix('/') {
            Some(path) => home.join(path.trim_start_matches('/')),
            None => work_dir.join(&mount.path),
        };
        // `a/` and `./a` are `a`.
        let place: PathBuf = place.components().collect();
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| engine("create the directory of a mount", &error))?;
        }
        std::os::unix::fs::symlink(&mount.volume, &place).map_err(|error| {
            DriverError::Invalid(format!("cannot mount at {:?}: {error}", mount.path))
        })?;
        links.0.push(place);
    }
    Ok(links)
}

pub(super) async fn read(
    volume: PathBuf,
    paths: Vec<String>,
) -> Result<BTreeMap<String, Bytes>, DriverError> {
    tokio::task::spawn_blocking(move || read_all(&volume, paths))
        .await
        .map_err(|error| engine("read files of the volume", &error))?
}

fn read_all(volume: &Path, paths: Vec<String>) -> Result<BTreeMap<String, Bytes>, DriverError> {
    let root = volume
        .canonicalize()
        .map_err(|error| engine("find the volume", &error))?;
    let mut left = READ_FILES_BYTES;
    let mut read = BTreeMap::new();
    for path in paths {
        let bytes = read_one(&root, &path, left).map_err(|detail| DriverError::File {
            path: path.clone(),
            detail,
        })?;
        left -= bytes.len() as u64;
        read.insert(path, Bytes::from(bytes));
    }
    Ok(read)
}

fn read_one(root: &Path, path: &str, limit: u64) -> Result<Vec<u8>, String> {
    let found = root
        .join(path.trim_start_matches('/'))
        .canonicalize()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "no such file in the volume".to_owned(),
            _ => error.to_string(),
        })?;
    // Links and dots may lead anywhere; only what lies inside is the pipeline's.
    if !found.starts_with(root) {
        return Err("it leads out of the volume".to_owned());
    }
    if !found.is_file() {
        return Err("not a regular file".to_owned());
    }
    let file = std::fs::File::open(&found).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(bytes)
}

pub(super) fn too_large() -> String {
    format!(
        "the files have more than {} MiB together; read fewer at a time, or send them from a step",
        READ_FILES_BYTES >> 20
    )
}
