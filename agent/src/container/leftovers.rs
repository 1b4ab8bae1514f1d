//! What a killed agent left behind: removed at the next start on its machine, and nothing else is touched.
//!
//! Containers and volumes are labelled with the agent's name, directories carry the process id of their maker. A name
//! that ends in a process id ([`process_name`]) belongs to nobody once that process is gone.

use super::IsLeft;
use super::docker::{DockerDriver, PART_OF, kept_until, remove, remove_image, remove_volume};
use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, ListVolumesOptions};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::SystemTime;

/// The label that names the agent.
const LABEL: &str = "pocketci.agent";

/// The name of an agent that lives and dies with this process; unique among machines with different names.
pub fn process_name(kind: &str) -> String {
    format!("{}{}", process_prefix(kind), std::process::id())
}

fn process_prefix(kind: &str) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("{kind}-{}-", host.to_string_lossy())
}

/// How directories of this process are named: `pocketci-KIND-PID-…`.
pub(crate) fn directory_prefix(kind: &str) -> String {
    format!("pocketci-{kind}-{}-", std::process::id())
}

fn is_alive(pid: &str) -> bool {
    pid.parse::<u32>()
        .is_ok_and(|pid| Path::new("/proc").join(pid.to_string()).exists())
}

/// Removes the containers and volumes of agents of this kind and machine whose process is gone; returns how many there
/// were, `None` if the engine cannot be asked.
pub async fn remove_of_dead_processes(driver: &DockerDriver, kind: &str) -> Option<usize> {
    let prefix = process_prefix(kind);
    let is_left = |labels: &BTreeMap<String, String>| {
        let pid = labels
            .get(LABEL)
            .and_then(|name| name.strip_prefix(&prefix));
        pid.is_some_and(|pid| !is_alive(pid))
    };
    // Nobody is left to remove what was kept when its time has come.
    remove_left(driver, &is_left, false).await
}

/// Removes labelled containers, volumes and images that `is_left` says are left behind, on demand but for containers that
/// are kept (the engine keeps their volumes); returns how many, `None` if the engine cannot be asked.
pub(super) async fn remove_left(
    driver: &DockerDriver,
    is_left: &IsLeft<'_>,
    spare_kept: bool,
) -> Option<usize> {
    let docker = driver.client().ok()?;
    let labelled = HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]);
    let ours = |labels: &HashMap<String, String>| {
        let labels = labels.clone().into_iter().collect();
        is_left(&labels)
    };
    let options = ListContainersOptions {
        all: true,
        filters: Some(labelled.clone()),
        ..ListContainersOptions::default()
    };
    let found = docker.list_containers(Some(options)).await.ok()?;
    let ids: Vec<String> = found
        .into_iter()
        .filter(|container| container.labels.as_ref().is_some_and(&ours))
        .filter(|container| {
            let until = kept_until(container.names.as_ref());
            !(spare_kept && until.is_some_and(|until| until > SystemTime::now()))
        })
        .filter_map(|container| container.id)
        .collect();
    for id in &ids {
        remove(&docker, id).await;
    }
    let options = ListVolumesOptions {
        filters: Some(labelled.clone()),
    };
    let found = docker.list_volumes(Some(options)).await.ok()?;
    let found = found.volumes.unwrap_or_default();
    let all: HashSet<&String> = found.iter().map(|volume| &volume.name).collect();
    // A part goes with its whole, unless that was never made.
    let whole = |labels: &HashMap<String, String>| {
        let whole = labels.get(PART_OF);
        whole.is_none_or(|whole| !all.contains(whole))
    };
    let left = found.iter();
    let left = left.filter(|volume| whole(&volume.labels) && ours(&volume.labels));
    let volumes: Vec<&String> = left.map(|volume| &volume.name).collect();
    for volume in &volumes {
        remove_volume(driver, volume).await;
    }
    let images = images_left(driver, &labelled, &ours).await?;
    Some(ids.len() + volumes.len() + images)
}

/// Removes images that were made for a job.
async fn images_left(
    driver: &DockerDriver,
    labelled: &HashMap<String, Vec<String>>,
    ours: &(dyn Fn(&HashMap<String, String>) -> bool + Sync),
) -> Option<usize> {
    let options = ListImagesOptions {
        filters: Some(labelled.clone()),
        ..ListImagesOptions::default()
    };
    let found = driver
        .client()
        .ok()?
        .list_images(Some(options))
        .await
        .ok()?;
    let left = found.into_iter().filter(|image| ours(&image.labels));
    let ids: Vec<String> = left.map(|image| image.id).collect();
    for id in &ids {
        remove_image(driver, id).await;
    }
    Some(ids.len())
}

/// Removes directories of native steps and volumes, and of resources that are fetched here, whose process is gone; returns how many there were.
pub fn remove_directories() -> usize {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return 0;
    };
    let mut removed = 0;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let rest = ["pocketci-step-", "pocketci-volume-", "pocketci-git-"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        let Some((pid, _)) = rest.and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        if pid.parse::<u32>().is_ok() && !is_alive(pid) {
            match std::fs::remove_dir_all(entry.path()) {
                Ok(()) => removed += 1,
                // Another user's, on a shared machine.
                Err(error) => tracing::debug!(%error, %name, "cannot remove a left directory"),
            }
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_dead_processes_go_and_those_of_living_ones_stay() {
        // No process has the highest number that the kernel can give.
        let dead = tempfile::Builder::new()
            .prefix("pocketci-step-4194305-")
            .tempdir()
            .unwrap()
            .keep();
        let living = tempfile::Builder::new()
            .prefix(&directory_prefix("volume"))
            .tempdir()
            .unwrap();
        assert!(remove_directories() >= 1);
        assert!(!dead.exists() && living.path().exists());
    }
}
