//! Containers and volumes that a killed agent left behind: removed at its next start, and nothing else is touched.

use super::docker::{DockerDriver, remove, remove_volume};
use bollard::query_parameters::{ListContainersOptions, ListVolumesOptions};
use std::collections::HashMap;

/// Removes the containers and volumes labelled as this agent's; returns how many there were, `None` if the engine cannot be asked.
pub async fn remove_of_agent(driver: &DockerDriver, agent: &str) -> Option<usize> {
    let docker = driver.client().ok()?;
    let mine = HashMap::from([("label".to_owned(), vec![format!("pocketci.agent={agent}")])]);
    let options = ListContainersOptions {
        all: true,
        filters: Some(mine.clone()),
        ..ListContainersOptions::default()
    };
    let found = docker.list_containers(Some(options)).await.ok()?;
    let ids: Vec<String> = found
        .into_iter()
        .filter_map(|container| container.id)
        .collect();
    for id in &ids {
        remove(&docker, id).await;
    }
    let volumes = ListVolumesOptions {
        filters: Some(mine),
    };
    let found = docker.list_volumes(Some(volumes)).await.ok()?;
    let volumes = found.volumes.unwrap_or_default();
    for volume in &volumes {
        remove_volume(&docker, &volume.name).await;
    }
    Some(ids.len() + volumes.len())
}
