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

/// Links that are gone when this is; what was in their place is there again.
#[derive(Default)]
pub(super) struct Links {
    links: Vec<PathBuf>,
    /// Place, and where what was there is meanwhile.
    aside: Vec<(PathBuf, PathBuf)>,
    /// Keeps what is aside.
    room: Option<tempfile::TempDir>,
}

impl Drop for Links {
    fn drop(&mut self) {
        // The innermost first: it may lie in a volume that another link leads to.
        for link in self.links.iter().rev() {
            // It may have gone with its directory, or the step replaced it: then it is the directory's.
            if link.is_symlink() {
                let _ = std::fs::remove_file(link);
            }
            let aside = self.aside.iter().find(|(place, _)| place == link);
            if let Some((place, aside)) = aside
                && let Err(error) = std::fs::rename(aside, place)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a directory that a mount had hidden is not back in its volume");
            }
        }
    }
}

impl Links {
    /// Hides what is at the place, as a mount does, if that is the step's own: a file of its directories or volumes.
    fn move_aside(&mut self, place: &Path, roots: &[PathBuf]) -> std::io::Result<()> {
        let Some(parent) = place.parent() else {
            return Ok(());
        };
        let parent = parent.canonicalize()?;
        let is_own = roots.iter().any(|root| parent.starts_with(root));
        if !is_own || place.symlink_metadata().is_err() {
            return Ok(());
        }
        let room = match &self.room {
            Some(room) => room,
            None => {
                let prefix = directory_prefix("volume");
                let made = tempfile::Builder::new().prefix(&prefix).tempdir()?;
                self.room.insert(made)
            }
        };
        let aside = room.path().join(self.aside.len().to_string());
        std::fs::rename(place, &aside)?;
        self.aside.push((place.to_owned(), aside));
        Ok(())
    }
}

/// Makes each volume visible below the working directory; an absolute path lies below the step's own directory, as
/// nothing else on this machine is the step's to change.
pub(super) fn link(mounts: &[Mount], work_dir: &Path, home: &Path) -> Result<Links, DriverError> {
    let mut links = Links::default();
    let volumes = mounts.iter().map(|mount| Path::new(&mount.volume));
    let own = [work_dir, home].into_iter().chain(volumes);
    let roots: Vec<PathBuf> = own.filter_map(|root| root.canonicalize().ok()).collect();
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
        let linked = links
            .move_aside(&place, &roots)
            .and_then(|()| std::os::unix::fs::symlink(&mount.volume, &place));
        linked.map_err(|error| {
            // What was moved aside for it goes back.
            links.links.push(place.clone());
            DriverError::Invalid(format!("cannot mount at {:?}: {error}", mount.path))
        })?;
        links.links.push(place);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_hides_what_an_input_has_there_and_gives_it_back() {
        let made = || tempfile::tempdir().unwrap();
        let (home, input, output, outside) = (made(), made(), made(), made());
        std::fs::create_dir_all(input.path().join("cache/old")).unwrap();
        std::fs::create_dir(outside.path().join("x")).unwrap();
        std::os::unix::fs::symlink(outside.path(), input.path().join("out")).unwrap();
        let mount = |path: &str, volume: &tempfile::TempDir| Mount {
            path: path.to_owned(),
            volume: volume.path().to_string_lossy().into_owned(),
        };
        let work_dir = home.path().join("work");
        std::fs::create_dir(&work_dir).unwrap();
        let mounts = [mount("in", &input), mount("in/cache", &output)];
        let links = link(&mounts, &work_dir, home.path()).unwrap();
        std::fs::write(work_dir.join("in/cache/new"), "").unwrap();
        assert!(!work_dir.join("in/cache/old").exists());
        assert!(output.path().join("new").exists());
        drop(links);
        assert!(input.path().join("cache/old").exists());
        assert!(!input.path().join("cache").is_symlink());
        // What an input's link leads to is not the step's to move.
        let mounts = [mount("in", &input), mount("in/out/x", &output)];
        assert!(link(&mounts, &work_dir, home.path()).is_err());
        assert!(outside.path().join("x").is_dir());
        assert!(!work_dir.join("in").is_symlink());
    }
}
