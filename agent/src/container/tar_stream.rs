//! Tar archives that pass by: blocking code reads one from a stream ([`consume`]), writes one to a stream ([`produce`]), or
//! changes one on its way ([`rewrite`]). However large the archive is, only a few pieces of it are in memory.

use super::{DriverError, Owner, TarStream};
use bytes::{Buf, Bytes};
use futures_util::{StreamExt, stream};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use tokio::sync::mpsc;

/// Pieces between the two sides; each is at most what one side hands over at once, for our own [`PIECE_BYTES`].
const PIECES: usize = 8;
/// Bytes that are gathered before they are handed over.
const PIECE_BYTES: usize = 64 * 1024;

fn failed(action: &'static str, error: impl std::error::Error) -> DriverError {
    let mut detail = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        detail.push_str(&format!(": {source}"));
        cause = source.source();
    }
    DriverError::Engine { action, detail }
}

/// What blocking code reads.
pub struct Incoming {
    pieces: mpsc::Receiver<Result<Bytes, DriverError>>,
    piece: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

/// Both ends of what blocking code reads; the future feeds it.
fn incoming(mut archive: TarStream) -> (impl Future<Output = ()> + Send, Incoming) {
    let (sender, pieces) = mpsc::channel(PIECES);
    let feeding = async move {
        while let Some(piece) = archive.next().await {
            let broken = piece.is_err();
            // The code may have read enough.
            if sender.send(piece).await.is_err() || broken {
                return;
            }
        }
    };
    let piece = Bytes::new();
    (feeding, Incoming { pieces, piece })
}

/// Has blocking code read a stream. If the future is dropped the code reads an end too early.
pub async fn consume<T: Send + 'static>(
    action: &'static str,
    archive: TarStream,
    work: impl FnOnce(&mut Incoming) -> io::Result<T> + Send + 'static,
) -> Result<T, DriverError> {
    let (feeding, mut incoming) = incoming(archive);
    let working = tokio::task::spawn_blocking(move || work(&mut incoming));
    let ((), worked) = tokio::join!(feeding, working);
    worked
        .map_err(|error| failed(action, error))?
        .map_err(|error| failed(action, error))
}

/// A stream of what blocking code makes of another.
pub fn convert(
    action: &'static str,
    archive: TarStream,
    work: impl FnOnce(&mut Incoming, &mut Outgoing) -> io::Result<()> + Send + 'static,
) -> TarStream {
    let (feeding, mut incoming) = incoming(archive);
    let made = produce(action, move |out| work(&mut incoming, out));
    // Polled with the stream that it feeds, so that it ends with it.
    let feeding = stream::once(feeding).filter_map(|()| async { None });
    stream::select(feeding, made).boxed()
}

/// What blocking code writes.
pub struct Outgoing {
    pieces: mpsc::Sender<Bytes>,
    gathered: Vec<u8>,
}

impl Outgoing {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE_BYTES));
        self.pieces
            .blocking_send(Bytes::from(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE_BYTES {
            self.hand_over()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

/// A stream of what blocking code writes. If the stream is dropped the code's next writing fails.
pub fn produce(
    action: &'static str,
    work: impl FnOnce(&mut Outgoing) -> io::Result<()> + Send + 'static,
) -> TarStream {
    let (sender, pieces) = mpsc::channel(PIECES);
    let working = tokio::task::spawn_blocking(move || {
        let mut outgoing = Outgoing {
            pieces: sender,
            gathered: Vec::with_capacity(PIECE_BYTES),
        };
        work(&mut outgoing)?;
        outgoing.flush()
    });
    stream::unfold(
        (pieces, Some(working)),
        move |(mut pieces, working)| async move {
            if let Some(piece) = pieces.recv().await {
                return Some((Ok(piece), (pieces, working)));
            }
            // All was written: now its end is looked at.
            match working?.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some((Err(failed(action, error)), (pieces, None))),
                Err(error) => Some((Err(failed(action, error)), (pieces, None))),
            }
        },
    )
    .boxed()
}

/// How an archive is changed on its way.
#[derive(Debug, Clone, Default)]
pub struct Rewrite {
    /// Below which directory its entries come to lie.
    pub below: Option<&'static str>,
    /// Whose they become.
    pub owner: Option<Owner>,
}

/// The archive with its entries changed. Extended attributes of files are kept.
pub fn rewrite(archive: TarStream, change: Rewrite) -> TarStream {
    convert("change an archive", archive, move |from, to| {
        let mut builder = tar::Builder::new(to);
        for entry in tar::Archive::new(from).entries()? {
            copy_entry(entry?, &mut builder, &change)?;
        }
        builder.finish()
    })
}

fn copy_entry<R: Read>(
    mut entry: tar::Entry<'_, R>,
    to: &mut tar::Builder<&mut Outgoing>,
    change: &Rewrite,
) -> io::Result<()> {
    let below = |path: &Path| match change.below {
        Some(directory) => Path::new(directory).join(plain(path)),
        None => plain(path),
    };
    let path = below(&entry.path()?);
    let link = entry.link_name()?.map(|link| link.into_owned());
    let mut header = header(&entry);
    if let Some(owner) = change.owner {
        header.set_uid(owner.uid.into());
        header.set_gid(owner.gid.into());
        // A name would come before the number; an old header has none.
        let _ = header.set_username("");
        let _ = header.set_groupname("");
    }
    let attributes = attributes(&mut entry)?;
    if !attributes.is_empty() {
        let attributes = attributes.iter();
        to.append_pax_extensions(attributes.map(|(key, value)| (key.as_str(), &value[..])))?;
    }
    match (header.entry_type(), link) {
        (tar::EntryType::Link, Some(link)) => to.append_link(&mut header, &path, below(&link)),
        (tar::EntryType::Symlink, Some(link)) => to.append_link(&mut header, &path, link),
        _ if path.as_os_str().is_empty() => to.append_data(&mut header, "./", io::empty()),
        _ => to.append_data(&mut header, &path, &mut entry),
    }
}

/// An entry's header with the size that the entry has: beyond 8 GiB an archive may tell it in an extension that comes before,
/// which is not kept.
pub(crate) fn header<R: Read>(entry: &tar::Entry<'_, R>) -> tar::Header {
    let mut header = entry.header().clone();
    header.set_size(entry.size());
    header
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut kept = Vec::new();
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(kept);
    };
    for extension in extensions {
        let extension = extension?;
        if let Ok(key) = extension.key()
            && key.starts_with("SCHILY.xattr.")
        {
            kept.push((key.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(kept)
}

/// Without `.` and what leads elsewhere.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let parts = path.components();
    parts
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

/// A small archive made of files and directories, in this order; a path that ends in `/` is a directory.
pub fn of_files<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8], u32)>,
) -> io::Result<Bytes> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        builder.append_data(&mut header, path, bytes)?;
    }
    Ok(Bytes::from(builder.into_inner()?))
}

/// A stream of bytes that are there already.
pub fn of_bytes(bytes: Bytes) -> TarStream {
    stream::iter([Ok(bytes)]).boxed()
}

/// The contents of the first regular file of an archive, as they come.
pub fn first_file(archive: TarStream) -> TarStream {
    convert("read a file of an archive", archive, |from, to| {
        for entry in tar::Archive::new(from).entries()? {
            let mut entry = entry?;
            if entry.header().entry_type().is_file() {
                io::copy(&mut entry, to)?;
                return Ok(());
            }
        }
        Err(io::Error::other("there is no regular file in it"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_size_in_an_extension_is_kept_when_an_archive_is_rewritten() {
        let text = b"a file of many bytes";
        let mut builder = tar::Builder::new(Vec::new());
        let size = text.len().to_string();
        let said = [("size", size.as_bytes())];
        builder.append_pax_extensions(said).unwrap();
        // As it is written if it does not fit: the number in the header is none.
        let mut header = tar::Header::new_ustar();
        header.set_path("large").unwrap();
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, &text[..]).unwrap();
        let given = Bytes::from(builder.into_inner().unwrap());
        let change = Rewrite {
            below: Some("d"),
            owner: None,
        };
        let read = consume("read", rewrite(of_bytes(given), change), |from| {
            let mut found = Vec::new();
            for entry in tar::Archive::new(from).entries()? {
                let mut entry = entry?;
                let mut text = Vec::new();
                entry.read_to_end(&mut text)?;
                found.push((entry.path()?.into_owned(), text));
            }
            Ok(found)
        });
        let expected = (PathBuf::from("d/large"), text.to_vec());
        assert_eq!(read.await.unwrap(), [expected]);
    }
}
