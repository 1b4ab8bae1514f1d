//! Files of the webhook in a step: they are cut out of its body on the way into a volume, never whole in memory.

use super::holdings::Holdings;
use super::steps::told;
use crate::container::tar_stream::{self, Outgoing};
use crate::container::{Driver, DriverError, Mount, Volume};
use crate::js::host::{FileMount, RunRequest, WebhookRequest};
use crate::webhook_body::{boundary, other_bytes};
use futures_util::{StreamExt, TryStreamExt};
use pocketci_pipeline::multipart::{Event, Multipart};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Tar archives consist of blocks of so many bytes.
const BLOCK_BYTES: u64 = 512;
/// Owner may write, everybody may read.
const MODE: u32 = 0o644;

/// What goes into one file of the archive.
#[derive(Clone)]
struct Entry {
    name: String,
    size: u64,
}

/// Volumes for the files that a step mounts, one for each folder; they are the job's until it ends.
pub(super) async fn mounts(
    holdings: &Holdings,
    driver: &Arc<dyn Driver>,
    webhook: &WebhookRequest,
    request: &RunRequest,
) -> Result<Vec<Mount>, String> {
    let mut folders: BTreeMap<&str, Vec<(&str, FileMount)>> = BTreeMap::new();
    for (path, file) in &request.files {
        let (folder, name) = path
            .rsplit_once('/')
            .filter(|(folder, name)| !folder.is_empty() && !name.is_empty())
            .ok_or_else(|| {
                format!(
                    "mounts[{path:?}]: a file needs a folder of its own, for example \"in/{path}\""
                )
            })?;
        folders.entry(folder).or_default().push((name, *file));
    }
    let mut made = Vec::new();
    for (number, (folder, files)) in folders.into_iter().enumerate() {
        // No name that a program can give.
        let name = format!("_files-{}-{number}", request.call);
        let (_, volume) = holdings.create_volume(name).await?;
        fill(driver, &volume, webhook, files).await?;
        made.push(Mount {
            path: folder.to_owned(),
            volume: volume.id,
        });
    }
    Ok(made)
}

/// Writes the files into the volume; the body passes by once, and again where the same file is wanted twice.
async fn fill(
    driver: &Arc<dyn Driver>,
    volume: &Volume,
    webhook: &WebhookRequest,
    mut left: Vec<(&str, FileMount)>,
) -> Result<(), String> {
    while !left.is_empty() {
        let mut parts: BTreeMap<u32, Entry> = BTreeMap::new();
        let mut whole = None;
        let mut later = Vec::new();
        for (name, file) in left {
            let entry = |size: u64| Entry {
                name: name.to_owned(),
                size,
            };
            match file {
                FileMount::Body if whole.is_none() && parts.is_empty() => {
                    whole = Some(entry(webhook.body.len()));
                }
                FileMount::Part(index) if whole.is_none() && !parts.contains_key(&index) => {
                    let found = webhook.files.iter().find(|file| file.index == index);
                    let size = found.ok_or("the request has no such file")?.size;
                    parts.insert(index, entry(size));
                }
                FileMount::Body | FileMount::Part(_) => later.push((name, file)),
            }
        }
        pass(driver, volume, webhook, whole, parts).await?;
        left = later;
    }
    Ok(())
}

async fn pass(
    driver: &Arc<dyn Driver>,
    volume: &Volume,
    webhook: &WebhookRequest,
    whole: Option<Entry>,
    parts: BTreeMap<u32, Entry>,
) -> Result<(), String> {
    const ACTION: &str = "take files out of the request";
    let failed = |detail: String| DriverError::Engine {
        action: ACTION,
        detail,
    };
    let pieces = webhook.body.pieces().await?.map_err(failed).boxed();
    let archive = match whole {
        Some(entry) => tar_stream::convert(ACTION, pieces, move |from, to| {
            let mut writer = EntryWriter::new(to);
            writer.begin(&entry)?;
            each(from, |bytes| writer.data(bytes).map(|()| true))?;
            writer.end()?;
            writer.finish()
        }),
        None => {
            let boundary = boundary(webhook.content_type())?;
            tar_stream::convert(ACTION, pieces, move |from, to| {
                cut(from, to, &boundary, &parts)
            })
        }
    };
    let written = driver.write_tar(volume, "", archive).await;
    written.map_err(|error| told(&error))
}

/// Hands on what is read until `take` wants no more.
fn each(from: &mut impl Read, mut take: impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 || !take(&piece[..count])? {
            return Ok(());
        }
    }
}

/// Writes the wanted parts of a multipart body as an archive.
fn cut(
    from: &mut impl Read,
    to: &mut Outgoing,
    boundary: &str,
    parts: &BTreeMap<u32, Entry>,
) -> io::Result<()> {
    let mut multipart = Multipart::new(boundary);
    let mut writer = EntryWriter::new(to);
    let mut part: Option<u32> = None;
    let mut left = parts.len();
    let mut failed = None;
    each(from, |bytes| {
        let mut tell = |event: Event<'_>| {
            let wrote = match event {
                Event::Begin(_) => {
                    let now = part.map_or(0, |part| part + 1);
                    part = Some(now);
                    parts.get(&now).map_or(Ok(()), |entry| writer.begin(entry))
                }
                Event::Data(bytes) if writer.is_open() => writer.data(bytes),
                Event::End if writer.is_open() => {
                    left -= 1;
                    writer.end()
                }
                Event::Data(_) | Event::End => Ok(()),
            };
            if let Err(error) = wrote {
                failed.get_or_insert(error);
            }
        };
        multipart.push(bytes, &mut tell).map_err(io::Error::other)?;
        match failed.take() {
            Some(error) => Err(error),
            None => Ok(left > 0),
        }
    })?;
    match left {
        0 => writer.finish(),
        _ => Err(io::Error::other(other_bytes())),
    }
}

/// Writes entries whose size is known before their bytes are.
struct EntryWriter<'a> {
    to: &'a mut Outgoing,
    /// Size and bytes so far of the entry under way.
    open: Option<(u64, u64)>,
}

impl<'a> EntryWriter<'a> {
    fn new(to: &'a mut Outgoing) -> Self {
        Self { to, open: None }
    }

    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(&entry.name)?;
        header.set_size(entry.size);
        header.set_mode(MODE);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.open = Some((entry.size, 0));
        self.to.write_all(header.as_bytes())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some((size, written)) = &mut self.open else {
            return Ok(());
        };
        *written += bytes.len() as u64;
        if *written > *size {
            return Err(io::Error::other(other_bytes()));
        }
        self.to.write_all(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        let Some((size, written)) = self.open.take() else {
            return Ok(());
        };
        if size != written {
            return Err(io::Error::other(other_bytes()));
        }
        let padding = size.next_multiple_of(BLOCK_BYTES) - size;
        self.to.write_all(&vec![0; padding as usize])
    }

    fn finish(self) -> io::Result<()> {
        self.to.write_all(&[0; 2 * BLOCK_BYTES as usize])
    }
}
