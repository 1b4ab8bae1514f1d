//! Looking into a native step: commands in its directory, with its environment and its volumes.
//!
//! There is no isolation: what a terminal changes in a directory that is kept is changed for the next one too. The
//! directory goes with the last who holds it, and so do volumes that were to be removed meanwhile.

use super::native::{Group, copy, engine, environment, exited, spawn, work_dir};
use super::native_files::{self, Links};
use super::native_user::user_and_group;
use super::place::{Input, Place, Size, Wanted};
use super::{DriverError, Output, OutputStream, StepExit, StepSpec, Volume};
use async_trait::async_trait;
use bytes::Bytes;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use pty_process::{OwnedReadPty, OwnedWritePty};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Largest piece of a terminal's output, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// Which volumes are looked at, and which of them are to be removed after that.
#[derive(Clone, Default)]
pub(super) struct Claims(Arc<Mutex<Claimed>>);

#[derive(Default)]
struct Claimed {
    counts: HashMap<String, usize>,
    doomed: HashSet<String>,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, Claimed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self, id: &str) {
        *self.lock().counts.entry(id.to_owned()).or_default() += 1;
    }

    /// Whether the volume is claimed: then it is removed when it is that no more.
    pub(super) fn hold(&self, volume: &Volume) -> bool {
        let mut claimed = self.lock();
        let held = claimed.counts.contains_key(&volume.id);
        if held {
            claimed.doomed.insert(volume.id.clone());
        }
        held
    }

    fn release(&self, id: &str) {
        let mut claimed = self.lock();
        match claimed.counts.get_mut(id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(claimed.counts.remove(id)),
        }
        if !claimed.counts.contains_key(id) && claimed.doomed.remove(id) {
            drop(claimed);
            native_files::remove_volume_now(id);
        }
    }
}

/// See the module.
pub(super) struct NativePlace {
    // Before the directory: they lie in it.
    links: Mutex<Option<Links>>,
    home: Arc<TempDir>,
    spec: StepSpec,
    claims: Claims,
}

impl NativePlace {
    pub(super) fn begin(home: Arc<TempDir>, spec: &StepSpec, claims: &Claims) -> Arc<Self> {
        let mut spec = spec.clone();
        // It would hold what holds this.
        spec.remains = None;
        spec.groups = None;
        let place = Self {
            links: Mutex::default(),
            home,
            spec,
            claims: claims.clone(),
        };
        for volume in place.volumes() {
            place.claims.claim(volume);
        }
        Arc::new(place)
    }

    fn volumes(&self) -> impl Iterator<Item = &str> {
        let mounts = self.spec.mounts.iter().map(|mount| mount.volume.as_str());
        // A working directory of a volume's own.
        mounts.chain(Some(self.spec.work_dir.as_str()).filter(|dir| dir.starts_with('/')))
    }

    /// The step has ended: its volumes are mounted again.
    pub(super) fn left(&self) {
        let linked = work_dir(&self.spec.work_dir, self.home.path())
            .and_then(|dir| native_files::link(&self.spec.mounts, &dir, self.home.path()));
        match linked {
            Ok(links) => {
                *self.links.lock().unwrap_or_else(PoisonError::into_inner) = Some(links);
            }
            Err(error) => tracing::debug!(%error, "a kept step lacks its volumes"),
        }
    }

    fn command(&self, wanted: &Wanted) -> StepSpec {
        let mut command = wanted.command().into_iter();
        let mut spec = self.spec.clone();
        spec.path = command.next().unwrap_or_default();
        spec.args = command.collect();
        spec.stdin = Some(Bytes::new());
        if wanted.size.is_some() {
            spec.env
                .entry("TERM".to_owned())
                .or_insert_with(|| "xterm".to_owned());
        }
        spec
    }
}

impl Drop for NativePlace {
    fn drop(&mut self) {
        for volume in self.volumes() {
            self.claims.release(volume);
        }
    }
}

#[async_trait]
impl Place for NativePlace {
    async fn terminal(
        &self,
        wanted: Wanted,
        input: mpsc::Receiver<Input>,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<i32, DriverError> {
        let spec = self.command(&wanted);
        let home = self.home.path();
        let work_dir = work_dir(&spec.work_dir, home)?;
        match wanted.size {
            Some(size) => {
                let (child, pty) = spawn_in_pty(&spec, home, &work_dir, size)?;
                let (from, into) = pty.into_split();
                follow(child, read_pty(from, output), write_pty(into, input), &stop).await
            }
            None => {
                let mut child = spawn(&spec, home, &work_dir)?;
                let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
                let into = child.stdin.take();
                let reading = async move {
                    tokio::join!(
                        copy(stdout, OutputStream::Stdout, &output),
                        copy(stderr, OutputStream::Stderr, &output)
                    );
                };
                follow(child, reading, write(into, input), &stop).await
            }
        }
    }

    async fn keep(&self, _until: SystemTime) -> Result<(), DriverError> {
        // Directories end with this process, or are found by its id when it is gone.
        Ok(())
    }

    async fn discard(&self) {
        // With the last who holds it.
    }
}

fn spawn_in_pty(
    spec: &StepSpec,
    home: &Path,
    work_dir: &Path,
    size: Size,
) -> Result<(Child, pty_process::Pty), DriverError> {
    let failed = |error: pty_process::Error| engine("open a terminal", &error);
    let (pty, pts) = pty_process::open().map_err(failed)?;
    pty.resize(pty_process::Size::new(size.rows, size.cols))
        .map_err(failed)?;
    let mut command = pty_process::Command::new(&spec.path)
        .args(&spec.args)
        .current_dir(work_dir)
        .env_clear()
        .envs(environment(spec, home))
        .kill_on_drop(true);
    if !spec.user.is_empty() {
        let (uid, gid) = user_and_group(&spec.user)?;
        if uid != Uid::effective() {
            command = command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }
    let child = command.spawn(pts).map_err(|error| DriverError::Start {
        path: spec.path.clone(),
        detail: error.to_string(),
    })?;
    Ok((child, pty))
}

/// Passes output on until the process has ended and all of it is read, or ends it.
async fn follow(
    mut child: Child,
    reading: impl Future<Output = ()>,
    writing: impl Future<Output = ()>,
    stop: &CancellationToken,
) -> Result<i32, DriverError> {
    let group = Group::of(&child, None)?;
    tokio::pin!(reading);
    tokio::pin!(writing);
    let (mut read, mut written) = (false, false);
    let ended = loop {
        tokio::select! {
            ended = child.wait() => break ended,
            () = &mut reading, if !read => read = true,
            () = &mut writing, if !written => written = true,
            () = stop.cancelled() => {
                group.kill(Signal::SIGHUP);
                group.kill(Signal::SIGKILL);
                // Reaped, so that nothing of it is left.
                let _ = child.wait().await;
                return Err(DriverError::Invalid("the terminal was closed".to_owned()));
            }
        }
    };
    // What is left of the group would hold the output open.
    group.kill(Signal::SIGKILL);
    if !read {
        tokio::select! {
            () = reading => {}
            () = stop.cancelled() => {}
        }
    }
    let ended = ended.map_err(|error| engine("wait for the process", &error))?;
    match exited(ended) {
        StepExit::Exited { code, .. } => Ok(code),
        StepExit::Stopped => Ok(-1),
    }
}

async fn write(into: Option<impl AsyncWrite + Unpin>, mut input: mpsc::Receiver<Input>) {
    let mut into = into;
    while let Some(input) = input.recv().await {
        match input {
            Input::Bytes(bytes) => {
                if let Some(into) = &mut into {
                    // A process that does not read its input is no error.
                    let _ = into.write_all(&bytes).await;
                    let _ = into.flush().await;
                }
            }
            Input::End => into = None,
            Input::Resize(_) => {}
        }
    }
}

async fn write_pty(mut into: OwnedWritePty, mut input: mpsc::Receiver<Input>) {
    while let Some(input) = input.recv().await {
        // A process that has ended reads nothing and has no size.
        match input {
            Input::Bytes(bytes) => drop(into.write_all(&bytes).await),
            Input::End => drop(into.write_all(&[END_OF_TRANSMISSION]).await),
            Input::Resize(size) => {
                let _ = into.resize(pty_process::Size::new(size.rows, size.cols));
            }
        }
    }
    // It ends the terminal, so only when the process does.
    std::future::pending::<()>().await;
}

/// Ends input where a terminal is in between.
const END_OF_TRANSMISSION: u8 = 4;

async fn read_pty(mut from: OwnedReadPty, to: mpsc::Sender<Output>) {
    let mut buffer = vec![0; PIECE_BYTES];
    // The last process's end is an error here.
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let piece = Bytes::copy_from_slice(&buffer[..read]);
        // Nobody wants it: read on, so that the process is not held up.
        let _ = to.send((OutputStream::Stdout, piece)).await;
    }
}
