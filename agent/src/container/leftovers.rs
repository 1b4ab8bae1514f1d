//! Containers that a killed agent left behind: removed at its next start, and nothing else is touched.

use super::docker::{DockerDriver, remove};
use bollard::query_parameters::ListContainersOptions;
use std::collections::HashMap;

/// Removes the containers labelled as this agent's; returns how many there were, `None` if the engine cannot be asked.
pub async fn remove_of_agent(driver: &DockerDriver, agent: &str) -> Option<usize> {
    let docker = driver.client().ok()?;
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([(
            "label".to_owned(),
            vec![format!("pocketci.agent={agent}")],
        )])),
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
    Some(ids.len())
}
