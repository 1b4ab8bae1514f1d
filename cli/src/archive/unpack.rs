//! A tar becomes a folder. The tar is not trusted: whatever it says, nothing outside of the folder is written, and no link
//! leads out of it.
//!
//! A name is taken apart into plain parts, none of which may be a link on the disk: so each entry lands where its name
//! says. A link's target may begin with `..` as often as the link is deep, and has none later: so wherever links inside
//! lead, they stay inside.

use super::Tally;
use bytes::{Buf, Bytes};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use tar::{Archive, Entry, EntryType};
use tokio::sync::mpsc;

/// Permissions that a file keeps: whose it is is decided here, so nothing runs as somebody else.
const MODE_BITS: u32 = 0o777;

/// A piece of the tar, or why there is no more; the end of the channel without [`Piece::End`] is no end.
pub enum Piece {
    /// Some bytes.
    Bytes(Bytes),
    /// That was all.
    End,
}

/// What blocking code reads.
pub struct Reading {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    over: bool,
}

impl Reading {
    /// Of a channel.
    pub fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self {
            pieces,
            piece: Bytes::new(),
            over: false,
        }
    }
}

impl Read for Reading {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.over {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(piece)) => self.piece = piece,
                Some(Piece::End) => self.over = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

/// Unpacks into a folder, which is made if it is missing; what is there of the same names is replaced. At most
/// `max_bytes` of files are written.
///
/// # Errors
/// Of the disk, and for an entry that would leave the folder. What came before it stays.
pub fn unpack(tar: impl Read, folder: &Path, max_bytes: u64) -> io::Result<Tally> {
    fs::create_dir_all(folder)?;
    let mut unpacking = Unpacking {
        root: fs::canonicalize(folder)?,
        tally: Tally::default(),
        room: max_bytes,
        folders: Vec::new(),
    };
    let mut archive = Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        unpacking.entry(&mut entry, &name).map_err(|error| {
            io::Error::new(error.kind(), format!("{:?}: {error}", name.display()))
        })?;
    }
    // To the end of the stream, so that one that broke off is noticed.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    // At last and the deepest first: a folder may forbid to write in it.
    for (path, mode) in unpacking.folders.iter().rev() {
        fs::set_permissions(path, Permissions::from_mode(*mode))?;
    }
    Ok(unpacking.tally)
}

struct Unpacking {
    root: PathBuf,
    tally: Tally,
    room: u64,
    folders: Vec<(PathBuf, u32)>,
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The plain parts of a name.
fn parts(name: &Path) -> io::Result<Vec<&std::ffi::OsStr>> {
    let mut parts = Vec::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(refused("this name leads out of the folder"));
            }
        }
    }
    Ok(parts)
}

impl Unpacking {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>, name: &Path) -> io::Result<()> {
        let parts = parts(name)?;
        let Some((last, folders)) = parts.split_last() else {
            // The folder itself.
            return Ok(());
        };
        let mut path = self.root.clone();
        for part in folders {
            path.push(part);
            make_folder(&path)?;
        }
        path.push(last);
        let mode = entry.header().mode()? & MODE_BITS;
        match entry.header().entry_type() {
            EntryType::Directory => {
                make_folder(&path)?;
                self.folders.push((path, mode));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(entry, &path, mode)?;
            }
            EntryType::Symlink => {
                let target = target(entry)?;
                stays_inside(&target, folders.len())?;
                make_room(&path)?;
                symlink(target, &path)?;
                self.tally.files += 1;
            }
            EntryType::Link => {
                let other = self.known_file(&target(entry)?)?;
                if other != path {
                    make_room(&path)?;
                    fs::hard_link(other, &path)?;
                }
                self.tally.files += 1;
            }
            _ => self.tally.left_out += 1,
        }
        Ok(())
    }

    fn file(&mut self, entry: &mut Entry<'_, impl Read>, path: &Path, mode: u32) -> io::Result<()> {
        make_room(path)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let written = io::copy(
            &mut entry.by_ref().take(self.room.saturating_add(1)),
            &mut file,
        )?;
        self.room = self
            .room
            .checked_sub(written)
            .ok_or_else(|| refused("with this file there are more bytes than may be"))?;
        self.tally.files += 1;
        self.tally.bytes += written;
        set_time(&file, entry.header().mtime()?);
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// A file of this archive, by its name in it.
    fn known_file(&self, name: &Path) -> io::Result<PathBuf> {
        let mut path = self.root.clone();
        let parts = parts(name)?;
        for (at, part) in parts.iter().enumerate() {
            path.push(part);
            let found = fs::symlink_metadata(&path)?.file_type();
            let fits = match at + 1 == parts.len() {
                true => found.is_file(),
                false => found.is_dir(),
            };
            if !fits {
                return Err(refused("it is the same as something that is no file here"));
            }
        }
        Ok(path)
    }
}

fn target(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    match entry.link_name()? {
        Some(target) if !target.as_os_str().is_empty() => Ok(target.into_owned()),
        _ => Err(refused("a link without a target")),
    }
}

/// Whether a link in a folder so deep leads nowhere outside.
fn stays_inside(target: &Path, depth: usize) -> io::Result<()> {
    let outside = || refused("this link leads out of the folder");
    let (mut up, mut began) = (0, false);
    for component in target.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) => began = true,
            Component::ParentDir if began => return Err(outside()),
            Component::ParentDir => up += 1,
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    match up <= depth {
        true => Ok(()),
        false => Err(outside()),
    }
}

/// A real folder, where there is none yet.
fn make_folder(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(refused(
            "there is a file or link where this needs a folder; remove it or choose another folder",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(path),
        Err(error) => Err(error),
    }
}

/// Removes a file or link that is in the way.
fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Err(refused(
            "there is a folder of this name; remove it or choose another folder",
        )),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Not every disk keeps times: then it has none.
fn set_time(file: &File, seconds: u64) {
    if let Some(at) = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) {
        let _ = file.set_modified(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    const MUCH: u64 = 1 << 20;

    /// An entry with any name and target, which the writer of tars would refuse.
    fn entry(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str, data: &[u8]) {
        let mut header = Header::new_gnu();
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_size(data.len() as u64);
        header.set_mtime(1_000_000);
        header.set_cksum();
        tar.append(&header, data).unwrap();
    }

    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (kind, name, content) in entries {
            match kind {
                EntryType::Regular => entry(&mut tar, *kind, name, "", content.as_bytes()),
                _ => entry(&mut tar, *kind, name, content, b""),
            }
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn what_was_packed_comes_out_again() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir_all(from.path().join("a/b")).unwrap();
        fs::write(from.path().join("a/b/file"), [0, 255, 10]).unwrap();
        fs::write(from.path().join("run"), "x").unwrap();
        let mode = Permissions::from_mode(0o700);
        fs::set_permissions(from.path().join("run"), mode).unwrap();
        symlink("../../run", from.path().join("a/b/link")).unwrap();
        fs::set_permissions(from.path().join("a/b"), Permissions::from_mode(0o555)).unwrap();
        let packing = super::super::Packing {
            root: from.path().to_owned(),
            include_ignored: true,
            max_bytes: MUCH,
        };
        let mut tar = Vec::new();
        let sent = super::super::pack::write(&packing, &mut tar).unwrap();
        let to = tempfile::tempdir().unwrap();
        let folder = to.path().join("new/folder");
        assert_eq!(unpack(&tar[..], &folder, MUCH).unwrap(), sent);
        assert_eq!(fs::read(folder.join("a/b/file")).unwrap(), [0, 255, 10]);
        assert_eq!(fs::read(folder.join("a/b/link")).unwrap(), b"x");
        let mode_of = |name: &str| {
            fs::metadata(folder.join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!(
            (mode_of("run") & 0o777, mode_of("a/b") & 0o777),
            (0o700, 0o555)
        );
        for folder in [from.path().join("a/b"), folder.join("a/b")] {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn whatever_leads_out_of_the_folder_is_refused() {
        use EntryType::{Directory, Link, Regular, Symlink};
        let hostile: &[&[(EntryType, &str, &str)]] = &[
            &[(Regular, "../escaped", "x")],
            &[(Regular, "a/../../escaped", "x")],
            &[(Regular, "/escaped", "x")],
            &[(Directory, "../escaped", "")],
            &[(Symlink, "link", "/etc")],
            &[(Symlink, "link", "..")],
            &[(Symlink, "a/link", "../../escaped")],
            // A way up through a way down: where `a/b/up` leads is not where its name says.
            &[
                (Symlink, "a/b/up", "../.."),
                (Symlink, "link", "a/b/up/../escaped"),
            ],
            &[(Symlink, "link", "a"), (Regular, "link/escaped", "x")],
            &[(Symlink, "link", "."), (Directory, "link", "")],
            &[(Link, "link", "../escaped")],
            &[(Link, "link", "/etc/hostname")],
            &[(Symlink, "a", "b"), (Link, "link", "a")],
            &[(Symlink, "link", "")],
        ];
        for entries in hostile {
            let around = tempfile::tempdir().unwrap();
            fs::write(around.path().join("escaped"), "mine").unwrap();
            let folder = around.path().join("in");
            fs::create_dir_all(folder.join("a")).unwrap();
            let refused = unpack(&archive(entries)[..], &folder, MUCH);
            assert!(refused.is_err(), "{entries:?}");
            assert_eq!(fs::read(around.path().join("escaped")).unwrap(), b"mine");
            assert_eq!(
                fs::read_dir(around.path()).unwrap().count(),
                2,
                "{entries:?}"
            );
        }
    }

    #[test]
    fn a_file_takes_the_place_of_a_link_and_never_goes_through_it() {
        let around = tempfile::tempdir().unwrap();
        fs::write(around.path().join("mine"), "mine").unwrap();
        let folder = around.path().join("in");
        fs::create_dir(&folder).unwrap();
        symlink("../mine", folder.join("file")).unwrap();
        let files = [
            (EntryType::Regular, "file", "new"),
            (EntryType::Link, "same", "file"),
            (EntryType::Fifo, "pipe", ""),
        ];
        let tally = unpack(&archive(&files)[..], &folder, MUCH).unwrap();
        assert_eq!((tally.files, tally.left_out), (2, 1));
        assert_eq!(fs::read(around.path().join("mine")).unwrap(), b"mine");
        let found = fs::symlink_metadata(folder.join("file")).unwrap();
        assert!(found.is_file());
        assert_eq!(found.permissions().mode() & 0o7777, 0o755, "no setuid");
        assert_eq!(fs::read(folder.join("same")).unwrap(), b"new");
        // A link of the user's own among the folders is not followed either.
        symlink("..", folder.join("up")).unwrap();
        let through = [(EntryType::Regular, "up/mine", "new")];
        assert!(unpack(&archive(&through)[..], &folder, MUCH).is_err());
        assert_eq!(fs::read(around.path().join("mine")).unwrap(), b"mine");
    }

    #[test]
    fn a_tar_that_is_too_large_or_breaks_off_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let tar = archive(&[(EntryType::Regular, "file", &"x".repeat(2000))]);
        assert!(unpack(&tar[..], folder.path(), 1999).is_err());
        assert!(unpack(&tar[..], folder.path(), 2000).is_ok());
        assert!(unpack(&tar[..1024], folder.path(), MUCH).is_err());
        let (pieces, receiver) = mpsc::channel(4);
        let whole = Bytes::from(tar);
        pieces.try_send(Piece::Bytes(whole.clone())).unwrap();
        drop(pieces);
        // Whole by chance, but nobody said so.
        assert!(unpack(Reading::new(receiver), folder.path(), MUCH).is_err());
        let (pieces, receiver) = mpsc::channel(4);
        pieces.try_send(Piece::Bytes(whole)).unwrap();
        pieces.try_send(Piece::End).unwrap();
        assert!(unpack(Reading::new(receiver), folder.path(), MUCH).is_ok());
    }
}
