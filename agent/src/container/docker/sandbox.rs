//! A container that stays, and commands in it.
//!
//! The engine cannot stop a command of a container, so each one is started by the image's shell, which tells its
//! process id first; a command is stopped by a second one that signals that process and its group.

use super::super::{DriverError, Output, OutputStream, Sandbox, StepExit, StepSpec};
use super::{Container, DRAIN_WITHIN, DockerDriver, LogStream, feed, spec};
use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::StartContainerOptions;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Keeps the container alive; ends at once when told to.
const KEEP_ALIVE: [&str; 3] = ["tail", "-f", "/dev/null"];
/// Tells its process id, then becomes the command.
pub(super) const STARTER: &str = "echo $$; exec \"$@\"";
/// Signals a process and, where it leads one, its group.
const STOPPER: &str = "kill -s \"$1\" -- \"-$2\" 2>/dev/null || kill -s \"$1\" \"$2\"";
/// How long the engine may take to pass a signal on.
const SIGNAL_WITHIN: Duration = Duration::from_secs(10);
/// Largest process id, in digits, with its line end.
const MAX_PID_BYTES: usize = 12;

/// See the module.
struct DockerSandbox {
    driver: DockerDriver,
    spec: StepSpec,
    id: String,
    container: Mutex<Option<Container>>,
}

/// Creates and starts the container.
pub(super) async fn start(
    driver: &DockerDriver,
    spec: StepSpec,
) -> Result<Arc<dyn Sandbox>, DriverError> {
    spec::check_image(&spec)?;
    let docker = driver.client()?;
    let keep_alive = StepSpec {
        path: KEEP_ALIVE[0].to_owned(),
        args: KEEP_ALIVE[1..].iter().map(|&arg| arg.to_owned()).collect(),
        stdin: None,
        ..spec.clone()
    };
    let mut body = spec::body(&keep_alive);
    if let Some(host) = &mut body.host_config {
        // A first process that passes signals on and reaps what commands leave behind.
        host.init = Some(true);
    }
    let container = driver.create_from(&docker, &spec, body).await?;
    let started = docker
        .start_container(&container.id, None::<StartContainerOptions>)
        .await;
    if let Err(error) = started {
        let told = super::running::start_error(driver, &keep_alive, error);
        container.remove().await;
        return Err(told);
    }
    Ok(Arc::new(DockerSandbox {
        driver: driver.clone(),
        spec,
        id: container.id.clone(),
        container: Mutex::new(Some(container)),
    }))
}

#[async_trait]
impl Sandbox for DockerSandbox {
    async fn exec(
        &self,
        spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        if spec.path.is_empty() {
            return Err(DriverError::Invalid(
                "command.path is missing: name the program to run".into(),
            ));
        }
        let docker = self.driver.client()?;
        let failed = |error| self.driver.error("run the command", error);
        let exec = docker
            .create_exec(&self.id, self.options(&spec))
            .await
            .map_err(failed)?;
        let options = Some(StartExecOptions::default());
        let started = docker.start_exec(&exec.id, options).await.map_err(failed)?;
        let StartExecResults::Attached {
            output: from,
            input,
        } = started
        else {
            return Err(DriverError::Engine {
                action: "run the command",
                detail: "the engine did not attach".into(),
            });
        };
        let (told_pid, pid) = oneshot::channel();
        let reading = read(from, output, told_pid);
        let feeding = feed(input, spec.stdin.clone());
        let stopping = self.stop(pid, &stop);
        tokio::pin!(reading);
        tokio::pin!(feeding);
        tokio::pin!(stopping);
        let mut fed = false;
        loop {
            tokio::select! {
                () = &mut reading => break,
                () = &mut feeding, if !fed => fed = true,
                () = &mut stopping => {
                    // Killed: what keeps the output open now is no part of the command.
                    let _ = tokio::time::timeout(DRAIN_WITHIN, &mut reading).await;
                    break;
                }
            }
        }
        if stop.is_cancelled() {
            return Ok(StepExit::Stopped);
        }
        let ended = docker.inspect_exec(&exec.id).await.map_err(failed)?;
        let code = ended
            .exit_code
            .and_then(|code| i32::try_from(code).ok())
            .unwrap_or(-1);
        Ok(StepExit::Exited { code, oom: false })
    }

    async fn close(&self) {
        let container = self
            .container
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(container) = container {
            container.remove().await;
        }
    }
}

impl DockerSandbox {
    fn options(&self, spec: &StepSpec) -> CreateExecOptions<String> {
        let mut command = vec![
            "/bin/sh".to_owned(),
            "-c".to_owned(),
            STARTER.to_owned(),
            "sh".to_owned(),
            spec.path.clone(),
        ];
        command.extend(spec.args.iter().cloned());
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let work_dir = match spec.work_dir.as_str() {
            "" => String::new(),
            dir if dir.starts_with('/') => dir.to_owned(),
            dir => {
                let base = spec::work_dir(&self.spec);
                format!(
                    "{}/{dir}",
                    if base.is_empty() { "/workspace" } else { &base }
                )
            }
        };
        CreateExecOptions {
            attach_stdin: Some(spec.stdin.is_some()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            env: Some(
                spec.env
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
            ),
            cmd: Some(command),
            user: some(&spec.user),
            working_dir: some(&work_dir),
            ..CreateExecOptions::default()
        }
    }

    /// Waits for the request to stop, then ends the command: politely first. Returns when the kill is sent.
    async fn stop(&self, pid: oneshot::Receiver<String>, stop: &CancellationToken) {
        stop.cancelled().await;
        let Ok(pid) = pid.await else {
            return; // it ended before it had begun
        };
        signal(&self.driver, &self.id, &pid, "TERM").await;
        tokio::time::sleep(self.driver.grace).await;
        signal(&self.driver, &self.id, &pid, "KILL").await;
    }
}

/// Signals a process of a container.
pub(super) async fn signal(driver: &DockerDriver, id: &str, pid: &str, signal: &str) {
    let command = ["/bin/sh", "-c", STOPPER, "sh", signal, pid];
    let options = CreateExecOptions {
        cmd: Some(command.map(str::to_owned).to_vec()),
        ..CreateExecOptions::default()
    };
    let Ok(docker) = driver.client() else {
        return;
    };
    let sent = async {
        let exec = docker.create_exec(id, options).await?;
        let detached = StartExecOptions {
            detach: true,
            ..StartExecOptions::default()
        };
        docker.start_exec(&exec.id, Some(detached)).await
    };
    // The container may be gone, and the command with it.
    if let Ok(Err(error)) = tokio::time::timeout(SIGNAL_WITHIN, sent).await {
        tracing::debug!(%error, "cannot signal a command of a container");
    }
}

/// Passes output on but for the first line of stdout, which is the process id.
pub(super) async fn read(
    mut from: LogStream,
    to: mpsc::Sender<Output>,
    pid: oneshot::Sender<String>,
) {
    let mut pid = Some(pid);
    let mut first = BytesMut::new();
    while let Some(Ok(piece)) = from.next().await {
        let (stream, mut bytes) = match piece {
            LogOutput::StdErr { message } => (OutputStream::Stderr, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                (OutputStream::Stdout, message)
            }
            LogOutput::StdIn { .. } => continue,
        };
        if stream == OutputStream::Stdout && pid.is_some() {
            first.extend_from_slice(&bytes);
            match first.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let line = String::from_utf8_lossy(&first[..end]).into_owned();
                    first.advance(end + 1);
                    bytes = first.split().freeze();
                    if let Some(pid) = pid.take() {
                        // Nobody asks once the command has ended.
                        let _ = pid.send(line);
                    }
                }
                // Not ours: the image's shell is none.
                None if first.len() > MAX_PID_BYTES => {
                    bytes = first.split().freeze();
                    pid = None;
                }
                None => continue,
            }
        }
        if !bytes.is_empty() {
            // Nobody wants it: read on, so that the process is not held up.
            let _ = to.send((stream, bytes)).await;
        }
    }
    if !first.is_empty() {
        let _ = to.send((OutputStream::Stdout, Bytes::from(first))).await;
    }
}
