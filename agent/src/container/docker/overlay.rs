//! Copy-on-write volumes: an overlay over the files of other volumes, where the engine's machine can mount one.
//!
//! The engine's own `local` volume driver mounts it when a container needs it. A volume `X-cow` has two parts that hold
//! what is written: `X-cow-upper` and `X-cow-work`. Its labels name every volume that lies beneath, and such a volume
//! is not removed before the last one above it, nor before a container that has it: what cannot be removed yet is
//! remembered and tried again. Whether the
//! machine can is found out by mounting one. Where it cannot, the files are copied.

use super::super::{DriverError, NewVolume, Volume, tar_stream};
use super::volume::{self, volume_id};
use super::{DockerDriver, volume_archive};
use bollard::Docker;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::ListVolumesOptions;
use std::collections::{BTreeMap, HashMap};

/// Ends the name of a volume that is an overlay.
const SUFFIX: &str = "-cow";
const UPPER: &str = "-upper";
const WORK: &str = "-work";
/// `pocketci.over.VOLUME`: that volume lies beneath this one.
const OVER: &str = "pocketci.over.";
/// Names the overlay that a volume is a part of.
pub(in crate::container) const PART_OF: &str = "pocketci.part-of";
/// The kernel takes one page of mount options; deeper than that the files are copied, which makes one layer of many.
const MAX_OPTION_BYTES: usize = 3800;
/// In a path these would end it, for the kernel.
const SEPARATORS: [char; 3] = [':', ',', '\\'];

/// See [`crate::container::Driver::derive_volume`].
pub(super) async fn derive(
    driver: &DockerDriver,
    from: &Volume,
    new: NewVolume<'_>,
) -> Result<Volume, DriverError> {
    if new.owner.is_none() && can(driver, &new.labels).await {
        let docker = driver.client()?;
        let _none_is_removed = driver.layers.read().await;
        if let Some(made) = over(driver, &docker, from, &new).await? {
            return Ok(made);
        }
    }
    copy(driver, from, new).await
}

async fn copy(
    driver: &DockerDriver,
    from: &Volume,
    new: NewVolume<'_>,
) -> Result<Volume, DriverError> {
    let made = volume::create(driver, new.name, new.labels).await?;
    if let Err(error) = volume_archive::copy(driver, from, &made, new.owner).await {
        remove(driver, &made.id).await;
        return Err(error);
    }
    Ok(made)
}

/// What lies beneath a volume that is made over another.
struct Beneath {
    /// Directories on the engine's machine, the topmost first.
    layers: Vec<String>,
    /// `OVER…` for each volume.
    labels: BTreeMap<String, String>,
}

async fn beneath(
    driver: &DockerDriver,
    docker: &Docker,
    from: &Volume,
) -> Result<Beneath, DriverError> {
    let found = docker
        .inspect_volume(&from.id)
        .await
        .map_err(|error| driver.error("look at the volume", error))?;
    let mut labels: BTreeMap<String, String> = found
        .labels
        .into_iter()
        .filter(|(name, _)| name.starts_with(OVER))
        .collect();
    labels.insert(format!("{OVER}{}", from.id), String::new());
    let options = found.options.get("o").map(String::as_str);
    let layers = match options.filter(|_| from.id.ends_with(SUFFIX)) {
        Some(options) => {
            let option = |name: &str| options.split(',').find_map(|one| one.strip_prefix(name));
            let upper = option("upperdir=").into_iter();
            let lower = option("lowerdir=").into_iter().flat_map(|l| l.split(':'));
            upper.chain(lower).map(str::to_owned).collect()
        }
        None => vec![found.mountpoint],
    };
    Ok(Beneath { layers, labels })
}

/// `None` if the options would be too long.
async fn over(
    driver: &DockerDriver,
    docker: &Docker,
    from: &Volume,
    new: &NewVolume<'_>,
) -> Result<Option<Volume>, DriverError> {
    let beneath = beneath(driver, docker, from).await?;
    let id = format!("{}{SUFFIX}", volume_id(new.name, &new.labels));
    let part = |end: &str| {
        let mut labels = new.labels.clone();
        labels.insert(PART_OF.to_owned(), id.clone());
        create(driver, docker, format!("{id}{end}"), labels, HashMap::new())
    };
    let (upper, work) = (part(UPPER).await?, part(WORK).await?);
    let unusual = |path: &String| path.is_empty() || path.contains(SEPARATORS);
    let options = format!(
        "lowerdir={},upperdir={upper},workdir={work}",
        beneath.layers.join(":")
    );
    if options.len() > MAX_OPTION_BYTES || beneath.layers.iter().chain([&upper, &work]).any(unusual)
    {
        remove_parts(docker, &id).await;
        return Ok(None);
    }
    let mut labels = new.labels.clone();
    labels.extend(beneath.labels);
    let mount = [("type", "overlay"), ("device", "overlay"), ("o", &options)];
    let mount = mount.map(|(name, value)| (name.to_owned(), value.to_owned()));
    create(driver, docker, id.clone(), labels, mount.into()).await?;
    Ok(Some(Volume {
        path: id.clone(),
        id,
    }))
}

/// Answers the directory on the engine's machine.
async fn create(
    driver: &DockerDriver,
    docker: &Docker,
    name: String,
    labels: BTreeMap<String, String>,
    options: HashMap<String, String>,
) -> Result<String, DriverError> {
    let request = VolumeCreateRequest {
        name: Some(name),
        labels: Some(labels.into_iter().collect()),
        driver_opts: Some(options),
        ..VolumeCreateRequest::default()
    };
    let created = docker.create_volume(request).await;
    created
        .map(|volume| volume.mountpoint)
        .map_err(|error| driver.error("create the volume", error))
}

async fn remove_parts(docker: &Docker, id: &str) {
    for end in [UPPER, WORK] {
        volume::remove(docker, &format!("{id}{end}")).await;
    }
}

/// Removes a volume, now or when the last one above it goes.
pub(in crate::container) async fn remove(driver: &DockerDriver, id: &str) {
    let Ok(docker) = driver.client() else {
        return;
    };
    let _none_is_derived = driver.layers.write().await;
    if !remove_uncovered(driver, &docker, id).await {
        driver.doomed().volumes.insert(id.to_owned());
        return;
    }
    drain_doomed(driver, &docker).await;
}

/// Something is gone that may have held volumes: removes those that only waited for it.
pub(super) async fn remove_doomed(driver: &DockerDriver) {
    let Ok(docker) = driver.client() else {
        return;
    };
    let _none_is_derived = driver.layers.write().await;
    drain_doomed(driver, &docker).await;
}

/// Each one that goes may uncover another.
async fn drain_doomed(driver: &DockerDriver, docker: &Docker) {
    loop {
        let waiting: Vec<String> = driver.doomed().volumes.iter().cloned().collect();
        let mut gone = false;
        for id in waiting {
            if remove_uncovered(driver, docker, &id).await {
                gone |= driver.doomed().volumes.remove(&id);
            }
        }
        if !gone {
            return;
        }
    }
}

/// Whether it is gone: nothing lies above it, and no container has it.
async fn remove_uncovered(driver: &DockerDriver, docker: &Docker, id: &str) -> bool {
    let label = format!("{OVER}{id}");
    let options = ListVolumesOptions {
        filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
    };
    match docker.list_volumes(Some(options)).await {
        Ok(found)
            if found
                .volumes
                .as_ref()
                .is_some_and(|found| !found.is_empty()) =>
        {
            return false;
        }
        Ok(_) => {}
        Err(error) => {
            let error = driver.error("look for volumes above it", error);
            tracing::warn!(%error, volume = id, "cannot remove a volume; the next start will");
            return true;
        }
    }
    if !volume::remove(docker, id).await {
        return false;
    }
    if id.ends_with(SUFFIX) {
        remove_parts(docker, id).await;
    }
    true
}

/// Whether the engine's machine mounts overlays over volumes; asked once.
async fn can(driver: &DockerDriver, labels: &BTreeMap<String, String>) -> bool {
    let tried = driver.overlays.get_or_try_init(|| async {
        let tried = try_one(driver, labels).await;
        match &tried {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("the engine mounts no overlays; inputs of steps are copied")
            }
            // The engine said no, or did not answer: then the next one asks again.
            Err(error) => tracing::debug!(%error, "cannot try an overlay"),
        }
        tried
    });
    tried.await.copied().unwrap_or(false)
}

/// Writes into an overlay, and looks whether the volume beneath stays as it was.
async fn try_one(
    driver: &DockerDriver,
    labels: &BTreeMap<String, String>,
) -> Result<bool, DriverError> {
    let docker = driver.client()?;
    let base = volume::create(driver, "probe", labels.clone()).await?;
    let tried = async {
        let file = |text: &'static [u8]| {
            let made = tar_stream::of_files([("file", text, 0o644)]);
            made.map(tar_stream::of_bytes)
                .map_err(|error| DriverError::Engine {
                    action: "make an archive",
                    detail: error.to_string(),
                })
        };
        let paths = ["file".to_owned()];
        volume_archive::write(driver, &base, "", file(b"old")?).await?;
        let new = NewVolume {
            name: "probe",
            labels: labels.clone(),
            owner: None,
        };
        let Some(above) = over(driver, &docker, &base, &new).await? else {
            return Ok(false);
        };
        let written = volume_archive::write(driver, &above, "", file(b"new")?).await;
        let seen = match &written {
            Ok(()) => volume::read_files(driver, &above, &paths).await.ok(),
            Err(_) => None,
        };
        remove(driver, &above.id).await;
        // An engine that is there and refuses cannot; one that is gone says nothing.
        if let Err(error @ DriverError::EngineUnreachable { .. }) = written {
            return Err(error);
        }
        let kept = volume::read_files(driver, &base, &paths).await?;
        let is = |found: &BTreeMap<_, bytes::Bytes>, text: &[u8]| {
            found.values().all(|bytes| bytes == text) && !found.is_empty()
        };
        Ok(seen.is_some_and(|seen| is(&seen, b"new")) && is(&kept, b"old"))
    };
    let tried = tried.await;
    remove(driver, &base.id).await;
    tried
}
