//! Trees of files of the native driver's volumes: copied, packed and unpacked. Links are links, never followed; what is
//! neither file, directory nor link is left out.

use super::native::engine;
use super::tar_stream::{self, Outgoing, plain};
use super::{DriverError, Owner, TarStream, Volume};
use nix::unistd::Uid;
use std::fs::{self, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

/// Copies all of a directory into another, sharing the bytes where the file system can.
pub(super) async fn copy(
    from: &Volume,
    to: &Volume,
    owner: Option<Owner>,
) -> Result<(), DriverError> {
    let (from, to) = (PathBuf::from(&from.id), PathBuf::from(&to.id));
    tokio::task::spawn_blocking(move || copy_tree(&from, &to, owner))
        .await
        .map_err(|error| engine("copy the volume", &error))?
        .map_err(|error| engine("copy the volume", &error))
}

fn copy_tree(from: &Path, to: &Path, owner: Option<Owner>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let found = entry.metadata()?;
        if found.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&source, &target, owner)?;
        } else if found.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if found.is_file() {
            fs::copy(&source, &target)?;
        } else {
            tracing::debug!(path = %source.display(), "left out of a copy: no file, directory or link");
            continue;
        }
        finish(&found, &target, owner)?;
    }
    // Of the volume itself as well: its mode says who may write it.
    finish(&fs::metadata(from)?, to, owner)
}

/// Owner, mode and time, in the order in which none undoes another.
fn finish(found: &Metadata, target: &Path, owner: Option<Owner>) -> io::Result<()> {
    let (uid, gid) = owner.map_or((found.uid(), found.gid()), |owner| (owner.uid, owner.gid));
    if Uid::effective().is_root() {
        lchown(target, Some(uid), Some(gid))?;
    }
    if found.is_symlink() {
        return Ok(());
    }
    fs::set_permissions(target, found.permissions())?;
    let times = FileTimes::new().set_modified(found.modified()?);
    fs::File::open(target)?.set_times(times)
}

/// Hands the directory itself to a user, where this process may.
pub(super) fn own(volume: &Volume, owner: Owner) -> Result<(), DriverError> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    lchown(&volume.id, Some(owner.uid), Some(owner.gid))
        .map_err(|error| engine("hand the volume to its user", &error))
}

fn file(path: &str, detail: impl Into<String>) -> DriverError {
    DriverError::File {
        path: path.to_owned(),
        detail: detail.into(),
    }
}

pub(super) async fn write(
    volume: &Volume,
    path: &str,
    archive: TarStream,
) -> Result<(), DriverError> {
    let root = canonical(volume)?;
    let target = directory(&root, path)?;
    let read = tar_stream::consume("write files of the volume", archive, move |from| {
        let mut archive = tar::Archive::new(&mut *from);
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(Uid::effective().is_root());
        archive.set_unpack_xattrs(false);
        archive.unpack(&target)?;
        // To its end: the sender would take less for a failure.
        io::copy(from, &mut io::sink())
    });
    read.await.map(drop)
}

fn canonical(volume: &Volume) -> Result<PathBuf, DriverError> {
    Path::new(&volume.id)
        .canonicalize()
        .map_err(|error| engine("find the volume", &error))
}

/// A directory of the volume, created if need be; links that lead out are refused.
fn directory(root: &Path, path: &str) -> Result<PathBuf, DriverError> {
    let mut place = root.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => place.push(part),
            Component::CurDir | Component::RootDir => continue,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(file(path, "it leads out of the volume"));
            }
        }
        if !place.exists() {
            fs::create_dir(&place).map_err(|error| file(path, error.to_string()))?;
        }
        place = place
            .canonicalize()
            .map_err(|error| file(path, error.to_string()))?;
        if !place.starts_with(root) {
            return Err(file(path, "it leads out of the volume"));
        }
    }
    Ok(place)
}

pub(super) async fn read(volume: &Volume, path: &str) -> Result<TarStream, DriverError> {
    let root = canonical(volume)?;
    if Path::new(path)
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return Err(file(path, "it leads out of the volume"));
    }
    let found = root.join(plain(Path::new(path)));
    let found = found.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => file(path, "no such file in the volume"),
        _ => file(path, error.to_string()),
    })?;
    if !found.starts_with(&root) {
        return Err(file(path, "it leads out of the volume"));
    }
    Ok(tar_stream::produce(
        "read files of the volume",
        move |out| {
            let mut builder = tar::Builder::new(out);
            builder.follow_symlinks(false);
            builder.sparse(false);
            if found.is_dir() {
                builder.append_dir("./", &found)?;
                pack(&mut builder, &found, Path::new(""))?;
            } else if let Some(name) = found.file_name() {
                builder.append_path_with_name(&found, name)?;
            }
            builder.finish()
        },
    ))
}

fn pack(builder: &mut tar::Builder<&mut Outgoing>, root: &Path, at: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(root.join(at))?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = at.join(entry.file_name());
        let kind = entry.file_type()?;
        if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
            tracing::debug!(path = %name.display(), "left out of an archive: no file, directory or link");
            continue;
        }
        builder.append_path_with_name(entry.path(), &name)?;
        if kind.is_dir() {
            pack(builder, root, &name)?;
        }
    }
    Ok(())
}
