//! A container that an earlier process of this agent started: its log is read again from the beginning, and its end
//! awaited.

use super::super::{DriverError, Output, StepExit, StepSpec};
use super::{Container, DRAIN_WITHIN, DockerDriver, LogStream, copy};
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions, LogsOptions};
use std::collections::HashMap;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// See [`crate::container::Driver::reattach`].
pub(super) async fn reattach(
    driver: &DockerDriver,
    spec: &StepSpec,
    output: mpsc::Sender<Output>,
    stop: &CancellationToken,
) -> Result<Option<StepExit>, DriverError> {
    let Some(container) = find(driver, spec).await? else {
        return Ok(None);
    };
    if spec.stdin.is_some() {
        // Its input broke off with the process that fed it: it may have taken a part for the whole.
        container.remove().await;
        return Ok(None);
    }
    let inspected = container
        .docker
        .inspect_container(&container.id, None::<InspectContainerOptions>)
        .await
        .map_err(|error| driver.error("look at the container", error))?;
    let status = inspected.state.and_then(|state| state.status);
    if status == Some(ContainerStateStatusEnum::CREATED) {
        // Nothing has run in it.
        container.remove().await;
        return Ok(None);
    }
    let options = LogsOptions {
        follow: true,
        stdout: true,
        stderr: true,
        ..LogsOptions::default()
    };
    let log = container.docker.logs(&container.id, Some(options));
    let exit = follow(driver, &container, Box::pin(log), output, stop).await;
    container.remove().await;
    exit.map(Some)
}

/// Passes the log on until the container has ended.
async fn follow(
    driver: &DockerDriver,
    container: &Container,
    log: LogStream,
    output: mpsc::Sender<Output>,
    stop: &CancellationToken,
) -> Result<StepExit, DriverError> {
    let reading = copy(log, output);
    let ending = driver.end(container, stop);
    tokio::pin!(reading);
    tokio::pin!(ending);
    let mut read = false;
    let exit = loop {
        tokio::select! {
            exit = &mut ending => break exit?,
            () = &mut reading, if !read => read = true,
        }
    };
    if !read && tokio::time::timeout(DRAIN_WITHIN, reading).await.is_err() {
        tracing::warn!("the engine keeps a container's log open after its end");
    }
    Ok(exit)
}

/// The container with all of the step's labels.
async fn find(driver: &DockerDriver, spec: &StepSpec) -> Result<Option<Container>, DriverError> {
    let docker = driver.client()?;
    let labels = spec.labels.iter();
    let labels = labels.map(|(name, value)| format!("{name}={value}"));
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), labels.collect())])),
        ..ListContainersOptions::default()
    };
    let found = docker
        .list_containers(Some(options))
        .await
        .map_err(|error| driver.error("look for the step's container", error))?;
    let id = found.into_iter().find_map(|container| container.id);
    Ok(id.map(|id| Container {
        docker,
        id,
        runtime: Handle::current(),
        removed: false,
    }))
}
