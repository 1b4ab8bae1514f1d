//! Steps as processes on the agent's own machine: a process group and a directory each, no isolation.
//!
//! The image, CPU and memory limits and `privileged` have no meaning here and are ignored. The environment is the
//! step's own: nothing of the agent's is inherited but PATH.

use super::leftovers::directory_prefix;
use super::native_place::{Claims, NativePlace};
use super::{
    Driver, DriverError, Groups, NewVolume, Output, OutputStream, Owner, STOP_GRACE, Sandbox,
    StepExit, StepSpec, TarStream, Volume,
};
use super::{native_files, native_tree, native_user};
use async_trait::async_trait;
use bytes::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pocketci_proto::api::Driver as DriverName;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Largest piece of output, in bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// Where programs are looked for if the agent itself has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long output may still be read once every process of the step is gone.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// See the module; clones share what they know.
#[derive(Clone)]
pub struct NativeDriver {
    /// Between the polite signal and the kill.
    grace: Duration,
    claims: Claims,
}

impl Default for NativeDriver {
    fn default() -> Self {
        Self::with_grace(STOP_GRACE)
    }
}

impl NativeDriver {
    /// With another time between the polite signal and the kill.
    pub fn with_grace(grace: Duration) -> Self {
        Self {
            grace,
            claims: Claims::default(),
        }
    }
}

#[async_trait]
impl Driver for NativeDriver {
    fn name(&self) -> DriverName {
        DriverName::Native
    }

    async fn run(
        &self,
        spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        let home = Arc::new(home()?);
        let Some(remains) = spec.remains.clone() else {
            return self.run_in(home.path(), spec, output, stop).await;
        };
        let place = NativePlace::begin(home.clone(), &spec, &self.claims);
        remains.set(place.clone());
        let ended = self.run_in(home.path(), spec.clone(), output, stop).await;
        match spec.is_done(&ended) {
            true => remains.clear(),
            false => place.left(),
        }
        ended
    }

    async fn create_volume(
        &self,
        _name: &str,
        _labels: BTreeMap<String, String>,
    ) -> Result<Volume, DriverError> {
        native_files::create_volume()
    }

    async fn has_volume(&self, volume: &Volume) -> bool {
        Path::new(&volume.id).is_dir()
    }

    async fn remove_volume(&self, volume: &Volume) {
        if !self.claims.hold(volume) {
            native_files::remove_volume(volume).await;
        }
    }

    async fn derive_volume(
        &self,
        from: &Volume,
        new: NewVolume<'_>,
    ) -> Result<Volume, DriverError> {
        let made = native_files::create_volume()?;
        let copied = native_tree::copy(from, &made, new.owner).await;
        if copied.is_err() {
            native_files::remove_volume(&made).await;
        }
        copied.map(|()| made)
    }

    async fn own_volume(&self, volume: &Volume, owner: Owner) -> Result<(), DriverError> {
        native_tree::own(volume, owner)
    }

    async fn write_tar(
        &self,
        volume: &Volume,
        path: &str,
        archive: TarStream,
    ) -> Result<(), DriverError> {
        native_tree::write(volume, path, archive).await
    }

    async fn read_tar(&self, volume: &Volume, path: &str) -> Result<TarStream, DriverError> {
        native_tree::read(volume, path).await
    }

    async fn read_files(
        &self,
        volume: &Volume,
        paths: &[String],
    ) -> Result<BTreeMap<String, Bytes>, DriverError> {
        native_files::read(PathBuf::from(&volume.id), paths.to_vec()).await
    }

    async fn start_sandbox(&self, spec: StepSpec) -> Result<Arc<dyn Sandbox>, DriverError> {
        let home = home()?;
        let work_dir = work_dir(&spec.work_dir, home.path())?;
        let links = native_files::link(&spec.mounts, &work_dir, home.path())?;
        Ok(Arc::new(NativeSandbox {
            driver: self.clone(),
            spec,
            closing: CancellationToken::new(),
            place: tokio::sync::RwLock::new(Some((home, links))),
        }))
    }
}

/// A directory in which commands run.
struct NativeSandbox {
    driver: NativeDriver,
    spec: StepSpec,
    closing: CancellationToken,
    place: tokio::sync::RwLock<Option<(TempDir, native_files::Links)>>,
}

#[async_trait]
impl Sandbox for NativeSandbox {
    async fn exec(
        &self,
        mut spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        let place = self.place.read().await;
        let Some((home, _)) = place.as_ref() else {
            return Err(DriverError::Invalid("the sandbox is closed".into()));
        };
        let mut env = self.spec.env.clone();
        env.append(&mut spec.env);
        spec.env = env;
        if spec.work_dir.is_empty() {
            spec.work_dir.clone_from(&self.spec.work_dir);
        }
        let closing = self.closing.clone();
        let ending = stop.clone();
        let running = self.driver.run_in(home.path(), spec, output, stop);
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => ended,
            () = closing.cancelled() => {
                ending.cancel();
                running.await
            }
        }
    }

    async fn close(&self) {
        self.closing.cancel();
        // Waits for commands that are being stopped; then the directory goes.
        drop(self.place.write().await.take());
    }
}

fn home() -> Result<TempDir, DriverError> {
    tempfile::Builder::new()
        .prefix(&directory_prefix("step"))
        .tempdir()
        .map_err(|error| engine("create the step's directory", &error))
}

impl NativeDriver {
    async fn run_in(
        &self,
        home: &Path,
        spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError> {
        let work_dir = work_dir(&spec.work_dir, home)?;
        let _links = native_files::link(&spec.mounts, &work_dir, home)?;
        let mut child = spawn(&spec, home, &work_dir)?;
        let group = Group::of(&child, spec.groups.clone())?;
        let (stdout, stderr, stdin) =
            (child.stdout.take(), child.stderr.take(), child.stdin.take());
        let reading = async {
            tokio::join!(
                copy(stdout, OutputStream::Stdout, &output),
                copy(stderr, OutputStream::Stderr, &output)
            );
        };
        let feeding = feed(stdin, spec.stdin.clone());
        let ending = self.end(&mut child, &group, &stop);
        tokio::pin!(reading);
        tokio::pin!(feeding);
        tokio::pin!(ending);
        // Output and input go on while the process runs; none of them decides when it is over.
        let mut fed = false;
        let mut read = false;
        let exit = loop {
            tokio::select! {
                exit = &mut ending => break exit?,
                () = &mut feeding, if !fed => fed = true,
                () = &mut reading, if !read => read = true,
            }
        };
        // What is left of the group would hold the pipes open.
        group.kill(Signal::SIGKILL);
        if !read && tokio::time::timeout(DRAIN_WITHIN, reading).await.is_err() {
            tracing::warn!(
                "a process that left its group keeps a step's output open; it is not read any more"
            );
        }
        Ok(exit)
    }
}

impl NativeDriver {
    /// Waits for the process, or stops its group: politely first.
    async fn end(
        &self,
        child: &mut Child,
        group: &Group,
        stop: &CancellationToken,
    ) -> Result<StepExit, DriverError> {
        let failed = |error: std::io::Error| engine("wait for the process", &error);
        tokio::select! {
            status = child.wait() => return Ok(exited(status.map_err(failed)?)),
            () = stop.cancelled() => {}
        }
        group.kill(Signal::SIGTERM);
        if tokio::time::timeout(self.grace, child.wait())
            .await
            .is_err()
        {
            group.kill(Signal::SIGKILL);
            child.wait().await.map_err(failed)?;
        }
        Ok(StepExit::Stopped)
    }
}

pub(super) fn exited(status: ExitStatus) -> StepExit {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1);
    StepExit::Exited { code, oom: false }
}

pub(super) fn engine(action: &'static str, error: &dyn std::fmt::Display) -> DriverError {
    DriverError::Engine {
        action,
        detail: error.to_string(),
    }
}

/// A process group that does not outlive this.
pub(super) struct Group(Pid, Option<Arc<dyn Groups>>);

impl Group {
    pub(super) fn of(child: &Child, told: Option<Arc<dyn Groups>>) -> Result<Self, DriverError> {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.ok_or_else(|| engine("start the process", &"it has no id"))?;
        if let Some(told) = &told {
            told.began(id);
        }
        Ok(Self(Pid::from_raw(id), told))
    }

    pub(super) fn kill(&self, signal: Signal) {
        // No such group: everything has ended already.
        let _ = killpg(self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill(Signal::SIGKILL);
        if let Some(told) = &self.1 {
            told.ended(self.0.as_raw());
        }
    }
}

pub(super) fn spawn(spec: &StepSpec, home: &Path, work_dir: &Path) -> Result<Child, DriverError> {
    if spec.path.is_empty() {
        return Err(DriverError::Invalid(
            "command.path is missing: name the program to run".into(),
        ));
    }
    let mut command = Command::new(&spec.path);
    command
        .args(&spec.args)
        .current_dir(work_dir)
        .env_clear()
        .envs(environment(spec, home))
        .stdin(if spec.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if !spec.user.is_empty() {
        native_user::become_user(&mut command, &spec.user, home, &spec.mounts)?;
    }
    command.spawn().map_err(|error| DriverError::Start {
        path: spec.path.clone(),
        detail: match error.kind() {
            std::io::ErrorKind::NotFound => "no such program on the agent's PATH".into(),
            _ => error.to_string(),
        },
    })
}

/// Nothing of the agent's own but PATH.
pub(super) fn environment(spec: &StepSpec, home: &Path) -> Vec<(OsString, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let own = [
        ("PATH", path),
        ("HOME", home.into()),
        ("TMPDIR", home.into()),
        ("LANG", "C.UTF-8".into()),
    ];
    let own = own.map(|(name, value)| (name.into(), value));
    let given = spec.env.iter();
    let given = given.map(|(name, value)| (name.into(), value.into()));
    own.into_iter().chain(given).collect()
}

/// Relative ones lie below the step's own directory and cannot leave it.
pub(super) fn work_dir(wanted: &str, home: &Path) -> Result<PathBuf, DriverError> {
    let path = Path::new(wanted);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(DriverError::Invalid(format!(
            "workDir {wanted:?} leads out of the step's directory"
        )));
    }
    let joined = home.join(path);
    std::fs::create_dir_all(&joined).map_err(|error| engine("create workDir", &error))?;
    Ok(joined)
}

async fn feed(stdin: Option<ChildStdin>, data: Option<Bytes>) {
    if let (Some(mut stdin), Some(data)) = (stdin, data) {
        // A process that does not read its input is no error.
        let _ = stdin.write_all(&data).await;
        let _ = stdin.shutdown().await;
    }
}

pub(super) async fn copy<R: AsyncRead + Unpin>(
    from: Option<R>,
    stream: OutputStream,
    to: &mpsc::Sender<Output>,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            // Nobody wants it: read on, so that the process is not held up.
            Ok(read) => drop(
                to.send((stream, Bytes::copy_from_slice(&buffer[..read])))
                    .await,
            ),
        }
    }
}
