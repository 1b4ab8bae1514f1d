//! Images of the engine beyond pulling: what they say of themselves, and making one of a volume's files.

use super::super::{DriverError, ImageConfig, Owner, PullPolicy, RegistryLogin, StepSpec, Volume};
use super::{Container, DockerDriver, image, volume, volume_archive};
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerConfig, ImageInspect};
use bollard::query_parameters::{
    CommitContainerOptions, CreateImageOptions, DownloadFromContainerOptions, RemoveImageOptions,
};
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;

/// Where images of volumes are, by a random tag.
const MADE: &str = "pocketci/rootfs";
/// Largest list of users that is read.
const MAX_USERS_BYTES: usize = 1 << 20;

/// `metadata.json` of an image's artifact.
#[derive(Deserialize, Default)]
struct Metadata {
    env: Option<Vec<String>>,
    user: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

impl DockerDriver {
    /// What the engine knows of an image; `None` if it does not have it.
    pub(crate) async fn local_image(
        &self,
        image: &str,
    ) -> Result<Option<ImageInspect>, DriverError> {
        match self.client()?.inspect_image(&image::with_tag(image)).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => Ok(None),
            Err(error) => Err(self.error("look at the image", error)),
        }
    }

    /// Has the engine fetch an image, whether it has it or not.
    pub(crate) async fn pull_image(
        &self,
        image: &str,
        login: Option<&RegistryLogin>,
    ) -> Result<(), DriverError> {
        let spec = StepSpec {
            image: image.to_owned(),
            registry: login.cloned(),
            ..StepSpec::default()
        };
        self.pull(&self.client()?, &spec).await
    }

    /// What the image says of its processes; it is pulled if the engine does not have it.
    pub async fn image_config(
        &self,
        image: &str,
        login: Option<&RegistryLogin>,
    ) -> Result<ImageConfig, DriverError> {
        let mut found = self.local_image(image).await?;
        if found.is_none() {
            self.pull_image(image, login).await?;
            found = self.local_image(image).await?;
        }
        let config =
            found
                .and_then(|found| found.config)
                .ok_or_else(|| DriverError::ImagePull {
                    image: image.to_owned(),
                    detail: "the engine pulled it and does not have it".to_owned(),
                })?;
        Ok(ImageConfig {
            env: config.env.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            work_dir: config.working_dir.unwrap_or_default(),
        })
    }

    /// The numbers of a user (`name`, `uid`, `name:group`, `uid:gid`) by the image's own lists; `None` is root. The image
    /// must be there; `labels` mark what is created on the way.
    pub async fn image_owner(
        &self,
        image: &str,
        user: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Option<Owner>, DriverError> {
        let (name, group) = match user.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (user, None),
        };
        if matches!(name, "" | "0" | "root") {
            return Ok(None);
        }
        let number = |text: &str| text.parse::<u32>().ok();
        if let (Some(uid), Some(gid)) = (number(name), group.and_then(number)) {
            return Ok(Some(Owner { uid, gid }));
        }
        let container = self.idle(image, labels).await?;
        let users = read_list(&container, "/etc/passwd").await;
        let groups = read_list(&container, "/etc/group").await;
        container.remove().await;
        owner(name, group, &users, &groups)
            .map(Some)
            .ok_or_else(|| {
                DriverError::Invalid(format!(
                    "user {user:?} is not in /etc/passwd and /etc/group of image {image:?}; name uid:gid instead"
                ))
            })
    }

    /// A container of an image that is never started.
    pub(super) async fn idle(
        &self,
        image: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Container, DriverError> {
        let spec = StepSpec {
            image: image.to_owned(),
            path: "none".to_owned(),
            pull: PullPolicy::Never,
            labels: labels.clone(),
            ..StepSpec::default()
        };
        self.create(&self.client()?, &spec).await
    }

    /// Makes an image of a volume with `rootfs/` and `metadata.json` `{env, user, entrypoint, cmd}`; answers its name. It
    /// carries the labels, and is removed by the sweep that they match.
    pub async fn import_image(
        &self,
        volume: &Volume,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, DriverError> {
        let metadata = self.metadata(volume).await?;
        let docker = self.client()?;
        let id = self.import_files(&docker, volume, labels).await?;
        // The files alone carry no configuration; a container that never ran gives it exactly, unquoted.
        let made = self.configure(&docker, &id, metadata, labels).await;
        if made.is_err() {
            remove(self, &id).await;
        }
        made
    }

    async fn metadata(&self, volume: &Volume) -> Result<Metadata, DriverError> {
        const FILE: &str = "metadata.json";
        let read = volume::read_files(self, volume, &[FILE.to_owned()]).await?;
        let bytes = read.into_values().next().unwrap_or_default();
        serde_json::from_slice(&bytes).map_err(|error| DriverError::File {
            path: FILE.to_owned(),
            detail: format!("expected {{\"env\": […], \"user\": …}}: {error}"),
        })
    }

    async fn import_files(
        &self,
        docker: &Docker,
        volume: &Volume,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, DriverError> {
        let files = volume_archive::read(self, volume, "rootfs").await?;
        let files = files.map_err(|error| std::io::Error::other(error.to_string()));
        let quoted = |text: &str| text.replace(['\\', '"', '$', '\n'], "_");
        let changes = labels
            .iter()
            .map(|(name, value)| format!("LABEL \"{}\"=\"{}\"", quoted(name), quoted(value)));
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            changes: changes.collect(),
            ..CreateImageOptions::default()
        };
        let body = bollard::body_try_stream(files);
        let mut progress = docker.create_image(Some(options), Some(body), None);
        let mut id = None;
        while let Some(step) = progress.next().await {
            let step = step.map_err(|error| self.error("make an image of the files", error))?;
            if let Some(status) = step.status
                && status.starts_with("sha256:")
            {
                id = Some(status);
            }
        }
        id.ok_or_else(|| DriverError::Engine {
            action: "make an image of the files",
            detail: "the engine did not tell its id".to_owned(),
        })
    }

    async fn configure(
        &self,
        docker: &Docker,
        id: &str,
        metadata: Metadata,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, DriverError> {
        let container = self.idle(id, labels).await?;
        let tag = format!("{:016x}", rand::random::<u64>());
        let options = CommitContainerOptions {
            container: Some(container.id.clone()),
            repo: Some(MADE.to_owned()),
            tag: Some(tag.clone()),
            pause: false,
            ..CommitContainerOptions::default()
        };
        let config = ContainerConfig {
            env: metadata.env,
            user: metadata.user,
            entrypoint: Some(metadata.entrypoint.unwrap_or_default()),
            cmd: Some(metadata.cmd.unwrap_or_default()),
            labels: Some(labels.clone().into_iter().collect()),
            ..ContainerConfig::default()
        };
        let made = docker.commit_container(options, config).await;
        container.remove().await;
        made.map_err(|error| self.error("make an image of the files", error))?;
        Ok(format!("{MADE}:{tag}"))
    }

    /// Removes an image of the engine; one that is gone is no error.
    pub async fn remove_image(&self, image: &str) {
        remove_unused(self, image, true).await;
    }

    /// Removes an image that was made for a job, once nothing needs it any more.
    pub async fn release_image(&self, image: &str) {
        remove(self, image).await;
    }
}

/// Removes an image by name or id, with what it alone is made of: now, or when no kept container needs it any more.
pub(in crate::container) async fn remove(driver: &DockerDriver, image: &str) {
    if !remove_unused(driver, image, false).await {
        driver.doomed().images.insert(image.to_owned());
    }
}

/// Removes images that only waited for a container, or an image made of it, to go.
pub(super) async fn remove_doomed(driver: &DockerDriver) {
    let waiting: Vec<String> = driver.doomed().images.iter().cloned().collect();
    for image in waiting {
        if remove_unused(driver, &image, false).await {
            driver.doomed().images.remove(&image);
        }
    }
}

/// `false` if it is in use. Forced, the engine takes it away even from a container that is kept.
async fn remove_unused(driver: &DockerDriver, image: &str, force: bool) -> bool {
    let Ok(docker) = driver.client() else {
        return true;
    };
    let options = RemoveImageOptions {
        force,
        ..RemoveImageOptions::default()
    };
    match docker.remove_image(image, Some(options), None).await {
        Ok(_)
        | Err(Error::DockerResponseServerError {
            status_code: 404, ..
        }) => {}
        Err(Error::DockerResponseServerError {
            status_code: 409, ..
        }) => return false,
        Err(error) => tracing::warn!(%error, image, "cannot remove an image; the next start will"),
    }
    true
}

/// A text file of a container; empty if it is none.
async fn read_list(container: &Container, path: &str) -> String {
    let options = DownloadFromContainerOptions {
        path: path.to_owned(),
    };
    let mut pieces = container
        .docker
        .download_from_container(&container.id, Some(options))
        .boxed();
    let mut archive = Vec::new();
    while let Some(Ok(piece)) = pieces.next().await {
        archive.extend_from_slice(&piece);
        if archive.len() > MAX_USERS_BYTES {
            return String::new();
        }
    }
    let mut archive = tar::Archive::new(archive.as_slice());
    let first = archive.entries().ok().and_then(|mut found| found.next());
    let mut text = Vec::new();
    if let Some(Ok(mut entry)) = first
        && entry.read_to_end(&mut text).is_err()
    {
        return String::new();
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// As the engine finds a user: by name or number in `/etc/passwd`, the group in `/etc/group`.
fn owner(name: &str, group: Option<&str>, users: &str, groups: &str) -> Option<Owner> {
    let row = |list: &str, wanted: &str| -> Option<Vec<String>> {
        let rows = list
            .lines()
            .map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
        rows.into_iter().find(|row| {
            row.first().is_some_and(|name| name == wanted)
                || row.get(2).is_some_and(|id| id == wanted)
        })
    };
    let number = |row: &Option<Vec<String>>, at: usize| -> Option<u32> {
        row.as_ref()?.get(at)?.parse().ok()
    };
    let user = row(users, name);
    let uid = number(&user, 2).or_else(|| name.parse().ok())?;
    let gid = match group {
        Some(group) => number(&row(groups, group), 2).or_else(|| group.parse().ok())?,
        None => number(&user, 3).unwrap_or(0),
    };
    Some(Owner { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::{Owner, owner};

    #[test]
    fn a_user_is_found_by_name_or_number_in_the_images_own_lists() {
        let users = "root:x:0:0::/:/bin/sh\nnode:x:1000:1001::/:/bin/sh\n";
        let groups = "root:x:0:\nstaff:x:50:node\n";
        let of = |name, group| owner(name, group, users, groups).map(|o| (o.uid, o.gid));
        assert_eq!(of("node", None), Some((1000, 1001)));
        assert_eq!(of("1000", None), Some((1000, 1001)));
        assert_eq!(of("node", Some("staff")), Some((1000, 50)));
        assert_eq!(of("7", None), Some((7, 0)));
        assert_eq!(of("nobody", None), None);
        assert_eq!(of("node", Some("none")), None);
        assert_ne!(
            owner("node", None, users, groups),
            Some(Owner { uid: 0, gid: 0 })
        );
    }
}
