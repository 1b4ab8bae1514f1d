//! Terminals in a step's container while it runs: commands beside the step's own.
//!
//! The engine cannot stop such a command, so it is started by the image's shell, as a sandbox's are.

use super::super::place::{Input, Place, Size, Wanted};
use super::super::{DriverError, Output};
use super::place::{ended_by_us, write};
use super::sandbox::{self, STARTER};
use super::{DRAIN_WITHIN, DockerDriver, LogStream};
use async_trait::async_trait;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::ResizeExecOptions;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How long a killed process of a running container may take to be gone.
const KILL_WITHIN: Duration = Duration::from_secs(5);

/// A step's container while it runs.
pub(super) struct Running {
    pub(super) driver: DockerDriver,
    pub(super) id: String,
}

fn options(wanted: &Wanted) -> CreateExecOptions<String> {
    let tty = wanted.size.is_some();
    let mut command = ["/bin/sh", "-c", STARTER, "sh"].map(str::to_owned).to_vec();
    command.extend(wanted.command());
    CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(tty),
        env: tty.then(|| vec!["TERM=xterm".to_owned()]),
        cmd: Some(command),
        ..CreateExecOptions::default()
    }
}

#[async_trait]
impl Place for Running {
    async fn terminal(
        &self,
        wanted: Wanted,
        input: mpsc::Receiver<Input>,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<i32, DriverError> {
        let docker = self.driver.client()?;
        let failed = |error| self.driver.error("run the command", error);
        let exec = docker.create_exec(&self.id, options(&wanted)).await;
        let exec = exec.map_err(failed)?;
        let options = StartExecOptions {
            tty: wanted.size.is_some(),
            ..StartExecOptions::default()
        };
        let started = docker.start_exec(&exec.id, Some(options)).await;
        let StartExecResults::Attached {
            output: from,
            input: into,
        } = started.map_err(failed)?
        else {
            return Err(DriverError::Engine {
                action: "run the command",
                detail: "the engine did not attach".into(),
            });
        };
        let resize = |size: Size| {
            let (docker, id) = (&docker, &exec.id);
            async move {
                let options = ResizeExecOptions {
                    h: size.rows.into(),
                    w: size.cols.into(),
                };
                // One that has ended has no size.
                let _ = docker.resize_exec(id, options).await;
            }
        };
        if let Some(size) = wanted.size {
            resize(size).await;
        }
        self.follow(from, output, write(into, input, resize), &stop)
            .await?;
        let ended = docker.inspect_exec(&exec.id).await.map_err(failed)?;
        let code = ended.exit_code.and_then(|code| i32::try_from(code).ok());
        Ok(code.unwrap_or(-1))
    }

    async fn keep(&self, _until: SystemTime) -> Result<(), DriverError> {
        Err(DriverError::Invalid("the step still runs".to_owned()))
    }

    async fn discard(&self) {
        // It is the step's.
    }
}

impl Running {
    /// Passes output on until the command has ended, or ends it.
    async fn follow(
        &self,
        from: LogStream,
        output: mpsc::Sender<Output>,
        writing: impl Future<Output = ()>,
        stop: &CancellationToken,
    ) -> Result<(), DriverError> {
        let (told_pid, pid) = oneshot::channel();
        let reading = sandbox::read(from, output, told_pid);
        tokio::pin!(reading);
        tokio::pin!(writing);
        tokio::select! {
            () = &mut reading => return Ok(()),
            () = &mut writing => {}
            () = stop.cancelled() => {}
        }
        let kill = async {
            if let Ok(pid) = pid.await {
                sandbox::signal(&self.driver, &self.id, pid.trim(), "KILL").await;
            }
        };
        // What left its group and keeps the output open lives as long as the step.
        let _ = tokio::time::timeout(KILL_WITHIN, kill).await;
        let _ = tokio::time::timeout(DRAIN_WITHIN.min(KILL_WITHIN), reading).await;
        Err(ended_by_us())
    }
}
