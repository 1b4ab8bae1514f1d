//! A container while it runs: its input and output, its end, and how it is stopped.

use super::super::{DriverError, Output, StepExit, StepSpec};
use super::{Container, DRAIN_WITHIN, DockerDriver, copy, feed};
use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::query_parameters::{
    AttachContainerOptions, InspectContainerOptions, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

impl DockerDriver {
    pub(super) async fn attach(
        &self,
        container: &Container,
        stdin: bool,
    ) -> Result<AttachContainerResults, DriverError> {
        let options = AttachContainerOptions {
            stream: true,
            stdin,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        container
            .docker
            .attach_container(&container.id, Some(options))
            .await
            .map_err(|error| self.error("attach to the container", error))
    }

    pub(super) async fn run_attached(
        &self,
        container: &Container,
        attached: AttachContainerResults,
        spec: &StepSpec,
        output: mpsc::Sender<Output>,
        stop: &CancellationToken,
    ) -> Result<StepExit, DriverError> {
        container
            .docker
            .start_container(&container.id, None::<StartContainerOptions>)
            .await
            .map_err(|error| start_error(self, spec, error))?;
        let reading = copy(attached.output, output);
        let feeding = feed(attached.input, spec.stdin.clone());
        let ending = self.end(container, stop);
        tokio::pin!(reading);
        tokio::pin!(feeding);
        tokio::pin!(ending);
        let (mut read, mut fed) = (false, false);
        let exit = loop {
            tokio::select! {
                exit = &mut ending => break exit?,
                () = &mut reading, if !read => read = true,
                () = &mut feeding, if !fed => fed = true,
            }
        };
        if !read && tokio::time::timeout(DRAIN_WITHIN, reading).await.is_err() {
            tracing::warn!("the engine keeps a container's output open after its end");
        }
        Ok(exit)
    }

    pub(super) async fn end(
        &self,
        container: &Container,
        stop: &CancellationToken,
    ) -> Result<StepExit, DriverError> {
        tokio::select! {
            ended = self.wait(container) => {
                let code = ended?;
                let oom = code != 0 && self.was_oom_killed(container).await;
                return Ok(StepExit::Exited { code, oom });
            }
            () = stop.cancelled() => {}
        }
        container.kill("SIGTERM").await;
        if tokio::time::timeout(self.grace, self.wait(container))
            .await
            .is_err()
        {
            container.kill("SIGKILL").await;
            self.wait(container).await?;
        }
        Ok(StepExit::Stopped)
    }

    pub(super) async fn wait(&self, container: &Container) -> Result<i32, DriverError> {
        let mut ended = container
            .docker
            .wait_container(&container.id, None::<WaitContainerOptions>);
        match ended.next().await {
            Some(Ok(answer)) => Ok(i32::try_from(answer.status_code).unwrap_or(-1)),
            // The engine's client tells any exit code but 0 as an error.
            Some(Err(Error::DockerContainerWaitError { code, .. })) => {
                Ok(i32::try_from(code).unwrap_or(-1))
            }
            Some(Err(error)) => Err(self.error("wait for the container", error)),
            None => Err(DriverError::Engine {
                action: "wait for the container",
                detail: "the engine ended the answer".into(),
            }),
        }
    }

    async fn was_oom_killed(&self, container: &Container) -> bool {
        let inspected = container
            .docker
            .inspect_container(&container.id, None::<InspectContainerOptions>)
            .await;
        let state = inspected.ok().and_then(|found| found.state);
        state.and_then(|state| state.oom_killed).unwrap_or(false)
    }
}

/// A program that is not in the image is the author's fault, told as such.
pub(super) fn start_error(driver: &DockerDriver, spec: &StepSpec, error: Error) -> DriverError {
    match error {
        Error::DockerResponseServerError { message, .. }
            if message.contains("executable file not found")
                || message.contains("no such file or directory") =>
        {
            DriverError::Start {
                path: spec.path.clone(),
                detail: format!("no such program in image {:?}", spec.image),
            }
        }
        other => driver.error("start the container", other),
    }
}
