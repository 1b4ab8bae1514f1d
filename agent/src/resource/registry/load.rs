//! Images as archives: out of the engine into a volume, and out of an artifact into the engine.
//!
//! An archive says under which names it wants to be loaded; any job could so replace an image that others use. Only its
//! layers are taken, under a random name.

use crate::container::docker::DockerDriver;
use crate::container::{Driver, DriverError, TarStream, Volume, tar_stream};
use crate::resource::Stop;
use crate::resource::built_in::Call;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Largest list of an archive's images.
const MAX_INDEX_BYTES: u64 = 1 << 20;
/// Names of images in the index of an OCI archive.
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// Writes `image.tar`. An archive tells a file's size before the file, so it is on the agent's disk first.
pub(super) async fn save(
    call: &Call<'_>,
    engine: &DockerDriver,
    image: &str,
    into: &Volume,
) -> Result<(), Stop> {
    let saved = engine
        .save_image(image)
        .map_err(|error| Stop::errored(&error))?;
    let file = tar_stream::consume("read the image", saved, |from| {
        let mut file = tempfile::tempfile()?;
        io::copy(from, &mut file)?;
        file.rewind()?;
        Ok(file)
    });
    let mut file = file.await.map_err(|error| Stop::errored(&error))?;
    let archive = tar_stream::produce("write the image", move |out| {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.metadata()?.len());
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let mut builder = tar::Builder::new(out);
        builder.append_data(&mut header, "image.tar", &mut file)?;
        builder.finish()
    });
    let written = call.driver.write_tar(into, "", archive).await;
    written.map_err(|error| Stop::errored(&error))
}

/// Takes the archive in a file of a volume into the engine, under this name. If it is stopped what the engine has of it may
/// have the name all the same.
pub(super) async fn load(
    driver: &dyn Driver,
    engine: &DockerDriver,
    (volume, path): (&Volume, &str),
    name: &str,
    stop: &CancellationToken,
) -> Result<(), Stop> {
    let stopped = |error: DriverError| Stop::errored(&error);
    let found = driver.read_tar(volume, path).await;
    let archive = tar_stream::first_file(found.map_err(stopped)?);
    // An archive that ends too early, rather than a request that nobody waits for: the engine is done with it afterwards.
    let archive = renamed(archive, name.to_owned()).take_until(stop.clone().cancelled_owned());
    let loaded = engine.load_image(archive.boxed()).await;
    if stop.is_cancelled() {
        return Err(Stop::Stopped);
    }
    loaded.map_err(stopped)?;
    match engine.local_image(name).await.map_err(stopped)? {
        Some(_) => Ok(()),
        None => Err(super::wrong(
            "params.image",
            "the engine found no image in the archive; expected one as docker save writes it",
        )),
    }
}

/// The archive with the one name.
fn renamed(archive: TarStream, name: String) -> TarStream {
    tar_stream::convert("read the image's archive", archive, move |from, to| {
        let mut builder = tar::Builder::new(to);
        let mut archive = tar::Archive::new(from);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = tar_stream::plain(&entry.path()?);
            match path.to_str() {
                Some("manifest.json") => rename(&mut builder, &mut entry, &path, |list| {
                    manifest(list, &name)
                })?,
                Some("index.json") => {
                    rename(&mut builder, &mut entry, &path, |list| index(list, &name))?
                }
                // An older list of names.
                Some("repositories") | Some("") => {}
                _ => {
                    let mut header = tar_stream::header(&entry);
                    match entry.link_name()? {
                        Some(link) => {
                            let link = link.into_owned();
                            builder.append_link(&mut header, &path, link)?;
                        }
                        None => builder.append_data(&mut header, &path, &mut entry)?,
                    }
                }
            }
        }
        builder.finish()
    })
}

fn rename<R: Read, W: Write>(
    to: &mut tar::Builder<W>,
    entry: &mut tar::Entry<'_, R>,
    path: &Path,
    change: impl FnOnce(&mut Value) -> Option<()>,
) -> io::Result<()> {
    let mut text = Vec::new();
    entry.take(MAX_INDEX_BYTES).read_to_end(&mut text)?;
    let mut list: Value = serde_json::from_slice(&text)?;
    change(&mut list).ok_or_else(|| {
        io::Error::other(format!(
            "{} does not list exactly one image",
            path.display()
        ))
    })?;
    let text = list.to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    to.append_data(&mut header, path, text.as_bytes())
}

fn manifest(list: &mut Value, name: &str) -> Option<()> {
    let [image] = list.as_array_mut()?.as_mut_slice() else {
        return None;
    };
    image
        .as_object_mut()?
        .insert("RepoTags".to_owned(), json!([name]));
    Some(())
}

fn index(list: &mut Value, name: &str) -> Option<()> {
    let [image] = list.get_mut("manifests")?.as_array_mut()?.as_mut_slice() else {
        return None;
    };
    let image = image.as_object_mut()?;
    let annotations = image.entry("annotations").or_insert_with(|| json!({}));
    let annotations = annotations.as_object_mut()?;
    for name in NAMES {
        annotations.remove(name);
    }
    annotations.insert(NAMES[0].to_owned(), json!(name));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_names_nothing_but_what_we_say() {
        let mut list = json!([{"Config": "c", "RepoTags": ["busybox:latest"], "Layers": []}]);
        assert!(manifest(&mut list, "x:1").is_some());
        assert_eq!(list[0]["RepoTags"], json!(["x:1"]));
        assert!(manifest(&mut json!([]), "x:1").is_none());
        assert!(manifest(&mut json!([{}, {}]), "x:1").is_none());
        let mut list = json!({"manifests": [{"digest": "d", "annotations": {"org.opencontainers.image.ref.name": "busybox"}}]});
        assert!(index(&mut list, "localhost/x:1").is_some());
        let said = json!({"io.containerd.image.name": "localhost/x:1"});
        assert_eq!(list["manifests"][0]["annotations"], said);
    }
}
