//! A folder becomes a tar. Links stay links and are never followed, so nothing outside of the folder is read.

use super::Tally;
use bytes::Bytes;
use futures_util::{Stream, stream};
use ignore::{DirEntry, WalkBuilder};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

/// Pieces between the walk and the connection.
const PIECES: usize = 8;
/// Bytes that are gathered before they are handed over.
const PIECE_BYTES: usize = 64 * 1024;
/// Git's own folder, which nobody builds.
const GIT: &str = ".git";

/// What to pack.
#[derive(Debug, Clone)]
pub struct Packing {
    /// The folder.
    pub root: PathBuf,
    /// Also what Git ignores, and Git's own folder.
    pub include_ignored: bool,
    /// The tar's largest size; more is an error.
    pub max_bytes: u64,
}

enum Packed {
    Piece(Bytes),
    /// It is complete: without this a walk that ended early would look like a small folder.
    End(Tally),
}

/// The tar of a folder, made while it is read. `done` gets the tally before the last piece is out.
pub fn pack(
    packing: Packing,
    done: impl FnOnce(Tally) + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (pieces, receiver) = mpsc::channel(PIECES);
    // Its end is looked at: what it says last, or that it says nothing more.
    tokio::task::spawn_blocking(move || {
        let mut out = Outgoing {
            pieces: pieces.clone(),
            gathered: Vec::with_capacity(PIECE_BYTES),
            room: packing.max_bytes,
            max_bytes: packing.max_bytes,
        };
        let packed = write(&packing, &mut out);
        // Nobody listens any more if the request has failed.
        let _ = pieces.blocking_send(packed.map(Packed::End));
    });
    stream::try_unfold((receiver, Some(done)), |(mut receiver, mut done)| async {
        match receiver.recv().await {
            Some(Ok(Packed::Piece(piece))) => Ok(Some((piece, (receiver, done)))),
            Some(Ok(Packed::End(tally))) => {
                if let Some(done) = done.take() {
                    done(tally);
                }
                Ok(None)
            }
            Some(Err(error)) => Err(error),
            None => Err(io::Error::other("reading the folder broke off")),
        }
    })
}

struct Outgoing {
    pieces: mpsc::Sender<io::Result<Packed>>,
    gathered: Vec<u8>,
    room: u64,
    max_bytes: u64,
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(room) = self.room.checked_sub(bytes.len() as u64) else {
            return Err(io::Error::other(format!(
                "it has more than {} MiB; leave out what the task does not need (.gitignore)",
                self.max_bytes >> 20
            )));
        };
        self.room = room;
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE_BYTES));
        let piece = Ok(Packed::Piece(piece.into()));
        let sent = self.pieces.blocking_send(piece);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Writes the whole tar.
pub(super) fn write(packing: &Packing, out: &mut impl Write) -> io::Result<Tally> {
    // The folder that is named may be a link; those inside are not followed.
    let root = fs::canonicalize(&packing.root)?;
    let mut tar = Builder::new(out);
    let mut tally = Tally::default();
    for entry in walk(&root, packing.include_ignored) {
        let entry = entry.map_err(io::Error::other)?;
        let Ok(name) = entry.path().strip_prefix(&root) else {
            continue;
        };
        if name.as_os_str().is_empty() {
            continue;
        }
        append(&mut tar, entry.path(), name, &mut tally).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", entry.path().display()))
        })?;
    }
    tar.into_inner()?.flush()?;
    Ok(tally)
}

fn walk(
    root: &Path,
    include_ignored: bool,
) -> impl Iterator<Item = Result<DirEntry, ignore::Error>> + use<> {
    let mut walk = WalkBuilder::new(root);
    walk.standard_filters(false).follow_links(false);
    walk.sort_by_file_name(|a, b| a.cmp(b));
    if !include_ignored {
        // Outside of a repository the folder's own .gitignore counts, but not those of folders around it, which may be
        // about something else altogether.
        let in_repository = root.ancestors().any(|folder| folder.join(GIT).exists());
        walk.git_ignore(true)
            .git_exclude(true)
            .git_global(true)
            .require_git(in_repository)
            .parents(in_repository)
            .filter_entry(|entry| entry.file_name() != GIT);
    }
    walk.build()
}

fn append(
    tar: &mut Builder<&mut impl Write>,
    path: &Path,
    name: &Path,
    tally: &mut Tally,
) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    if kind.is_dir() {
        let mut header = header(&found, EntryType::Directory);
        return tar.append_data(&mut header, name, io::empty());
    }
    if kind.is_symlink() {
        tally.files += 1;
        let mut header = header(&found, EntryType::Symlink);
        return tar.append_link(&mut header, name, fs::read_link(path)?);
    }
    if !kind.is_file() {
        tally.left_out += 1;
        return Ok(());
    }
    let file = File::open(path)?;
    // Of the file that was opened, as the name may be another's by now.
    let found = file.metadata()?;
    let mut header = header(&found, EntryType::Regular);
    header.set_size(found.len());
    tally.files += 1;
    tally.bytes += found.len();
    let exactly = Exactly {
        file,
        left: found.len(),
    };
    tar.append_data(&mut header, name, exactly)
}

fn header(found: &Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(found);
    header.set_entry_type(kind);
    header.set_size(0);
    // Whoever it belongs to here is nobody over there.
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// As many bytes as were announced, whatever becomes of the file meanwhile.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(into.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut into[..most])?;
        if count == 0 {
            return Err(io::Error::other(
                "it became shorter while it was sent; try again when nobody changes it",
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn packing(root: &Path) -> Packing {
        Packing {
            root: root.to_owned(),
            include_ignored: false,
            max_bytes: 1 << 20,
        }
    }

    /// Names with type and content or target.
    fn packed(packing: &Packing) -> BTreeMap<String, String> {
        let mut bytes = Vec::new();
        write(packing, &mut bytes).unwrap();
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let said = match entry.header().entry_type() {
                EntryType::Directory => "folder".to_owned(),
                EntryType::Symlink => {
                    format!("-> {}", entry.link_name().unwrap().unwrap().display())
                }
                _ => {
                    let mut text = String::new();
                    entry.read_to_string(&mut text).unwrap();
                    text
                }
            };
            found.insert(name.trim_end_matches('/').to_owned(), said);
        }
        found
    }

    fn write_all(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn ignored_files_stay_here_unless_they_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            (".gitignore", "*.log\n/target\n"),
            (".hidden", "h"),
            ("a.log", "no"),
            ("sub/.gitignore", "!b.log\nsecret\n"),
            ("sub/b.log", "b"),
            ("sub/secret", "no"),
            ("target/x", "no"),
            (".git/HEAD", "no"),
        ];
        write_all(folder.path(), &files);
        let names: Vec<String> = packed(&packing(folder.path())).into_keys().collect();
        let expected = [
            ".gitignore",
            ".hidden",
            "sub",
            "sub/.gitignore",
            "sub/b.log",
        ];
        assert_eq!(names, expected);
        let mut all = packing(folder.path());
        all.include_ignored = true;
        let found = packed(&all);
        for name in ["a.log", "target/x", ".git/HEAD", "sub/secret"] {
            assert!(found.contains_key(name), "{name}");
        }
    }

    #[test]
    fn the_rules_of_a_repository_count_in_its_folders_and_others_do_not() {
        let around = tempfile::tempdir().unwrap();
        let files = [
            (".gitignore", "*\n"),
            ("plain/a", "a"),
            ("repo/.git/HEAD", ""),
            ("repo/.gitignore", "b\n"),
            ("repo/sub/b", "b"),
            ("repo/sub/c", "c"),
        ];
        write_all(around.path(), &files);
        let names = |sub: &str| -> Vec<String> {
            packed(&packing(&around.path().join(sub)))
                .into_keys()
                .collect()
        };
        assert_eq!(names("plain"), ["a"]);
        assert_eq!(names("repo/sub"), ["c"]);
    }

    #[test]
    fn links_are_sent_as_links_and_modes_are_kept() {
        let outside = tempfile::tempdir().unwrap();
        write_all(outside.path(), &[("secret", "do not send")]);
        let folder = tempfile::tempdir().unwrap();
        let long = "d".repeat(120);
        write_all(folder.path(), &[(&format!("{long}/run"), "x")]);
        let run = folder.path().join(&long).join("run");
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        symlink(outside.path(), folder.path().join("out")).unwrap();
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        let _pipe = std::os::unix::net::UnixListener::bind(folder.path().join("pipe")).unwrap();
        let found = packed(&packing(folder.path()));
        assert_eq!(found["out"], format!("-> {}", outside.path().display()));
        assert_eq!(found["dangling"], "-> nowhere");
        assert_eq!(found[&format!("{long}/run")], "x");
        assert!(!found.contains_key("pipe") && !found.keys().any(|name| name.contains("secret")));
        let mut bytes = Vec::new();
        let tally = write(&packing(folder.path()), &mut bytes).unwrap();
        let expected = Tally {
            files: 3,
            bytes: 1,
            left_out: 1,
        };
        assert_eq!(tally, expected);
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let run = entries.find(|entry| entry.path().unwrap().ends_with("run"));
        assert_eq!(run.unwrap().header().mode().unwrap() & 0o777, 0o755);
    }

    #[tokio::test]
    async fn a_walk_that_fails_is_an_error_and_never_a_shorter_archive() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path(), &[("big", &"x".repeat(300_000))]);
        let mut small = packing(folder.path());
        small.max_bytes = 200_000;
        let packed = pack(small, |_| panic!("it is not complete"));
        let error = packed.try_collect::<Vec<Bytes>>().await.unwrap_err();
        assert!(error.to_string().contains("more than 0 MiB"), "{error}");
        let gone = pack(packing(&folder.path().join("gone")), |_| {});
        assert!(gone.try_collect::<Vec<Bytes>>().await.is_err());
        let (told, tally) = tokio::sync::oneshot::channel();
        let whole = pack(packing(folder.path()), |tally| told.send(tally).unwrap());
        assert!(whole.try_collect::<Vec<Bytes>>().await.is_ok());
        assert_eq!(tally.await.unwrap().bytes, 300_000);
    }
}
