//! Where a step's process runs: one trait, a driver a file.
//!
//! A driver owns nothing between calls: whatever `run` creates (container, process group, directory) is gone when it
//! returns or its future is dropped. Volumes and sandboxes live until they are removed; the job that made them holds
//! them and removes them at its end.

pub mod docker;
pub mod leftovers;
pub mod native;
mod native_files;
mod native_place;
mod native_tree;
mod native_user;
pub mod place;
pub mod tar_stream;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use pocketci_proto::api::Driver as DriverName;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use place::Remains;
pub use tar_stream::Rewrite;

/// Which of a process's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a process's output, in the order it was read. Never empty.
pub type Output = (OutputStream, Bytes);

/// What a step runs and where.
#[derive(Clone, Default)]
pub struct StepSpec {
    /// The author's name for it; need not be unique.
    pub name: String,
    /// Container image; ignored by the native driver.
    pub image: String,
    /// Executable, not split by a shell.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// User inside the container (`name`, `uid`, `uid:gid`); empty is the image's own.
    pub user: String,
    /// Environment, added to the image's own. Values may be secret.
    pub env: BTreeMap<String, String>,
    /// Fed to the process, then closed; `None` is no input at all.
    pub stdin: Option<Bytes>,
    /// Working directory; empty is the driver's default.
    pub work_dir: String,
    /// Relative CPU weight (Docker's CPU shares); 0 is the engine's default.
    pub cpu_shares: u64,
    /// Memory limit in bytes; 0 is none.
    pub memory_bytes: u64,
    /// All capabilities and devices; the operator must allow it.
    pub privileged: bool,
    /// What is mounted where.
    pub mounts: Vec<Mount>,
    /// When the image is pulled.
    pub pull: PullPolicy,
    /// For images that cannot be pulled anonymously.
    pub registry: Option<RegistryLogin>,
    /// No network at all.
    pub no_network: bool,
    /// The certificates that the engine's machine trusts are mounted at `/etc/ssl/certs`, read-only, where the engine is
    /// on this machine and they are files there, not links to other places.
    pub host_certificates: bool,
    /// A volume without files hides what the image has at its place; otherwise the engine fills it with a copy of that, and
    /// gives it that owner.
    pub no_copy: bool,
    /// Told of process groups on this machine.
    pub groups: Option<Arc<dyn Groups>>,
    /// Takes what is left of the step unless it ended with code 0, and tells where it runs before.
    pub remains: Option<Arc<Remains>>,
    /// Marks everything the driver creates: `pocketci.run`, `.job`, `.attempt`, `.step`, `.agent`.
    pub labels: BTreeMap<String, String>,
}

/// Whoever remembers process groups, to kill them should this process die.
pub trait Groups: Send + Sync {
    /// A group has begun.
    fn began(&self, group: i32);
    /// Nothing of it is left.
    fn ended(&self, group: i32);
}

/// A volume in a step's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Relative to the working directory, or absolute.
    pub path: String,
    /// [`Volume::id`].
    pub volume: String,
}

/// When a container's image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// If the engine does not have it.
    #[default]
    Missing,
    /// Before every step.
    Always,
    /// A missing image is an error.
    Never,
}

/// Credentials of an image registry; never shown.
#[derive(Clone)]
pub struct RegistryLogin {
    /// User.
    pub username: String,
    /// Password or token.
    pub password: String,
    /// Which registry; empty takes it from the image's name.
    pub registry: String,
}

/// Files that several steps share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The driver's own name for it.
    pub id: String,
    /// What the pipeline is shown as its path.
    pub path: String,
}

/// How a volume that is made from another is called and marked.
#[derive(Debug, Clone)]
pub struct NewVolume<'a> {
    /// Part of its name.
    pub name: &'a str,
    /// As in [`StepSpec::labels`].
    pub labels: BTreeMap<String, String>,
    /// Whose the files become; `None` leaves them as they are, which is cheaper.
    pub owner: Option<Owner>,
}

/// A user and group of a container, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The bytes of a tar archive as they come.
pub type TarStream = BoxStream<'static, Result<Bytes, DriverError>>;

/// What an image says about the processes that run in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// As [`StepSpec::user`]; empty is root.
    pub user: String,
    /// Before the command; empty is none.
    pub entrypoint: Vec<String>,
    /// What runs if nothing else is named.
    pub cmd: Vec<String>,
    /// Empty is the root directory.
    pub work_dir: String,
}

impl StepSpec {
    /// Whether nobody wants to look at what is left.
    fn is_done(&self, ended: &Result<StepExit, DriverError>) -> bool {
        matches!(ended, Ok(StepExit::Exited { code: 0, .. }))
            && !self
                .remains
                .as_ref()
                .is_some_and(|remains| remains.wants_all())
    }
}

fn lacks(what: &str) -> DriverError {
    DriverError::Invalid(format!("this driver does not offer {what}"))
}

/// How a step's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepExit {
    /// By itself; a process killed by signal N has code 128 + N.
    Exited {
        /// Exit code.
        code: i32,
        /// The kernel killed it for memory.
        oom: bool,
    },
    /// Because `stop` was cancelled; nothing of it runs any more.
    Stopped,
}

/// The step could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The engine cannot be used at all.
    #[error(
        "docker engine cannot be reached at {address}; start it, point the agent's --docker-host to it, or use --driver native"
    )]
    EngineUnreachable {
        /// Where it was looked for.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The image is neither here nor to be had.
    #[error("image {image:?} cannot be pulled: {detail}")]
    ImagePull {
        /// As the author wrote it.
        image: String,
        /// The engine's own words.
        detail: String,
    },
    /// The request itself is wrong (no image, no path, bad user…).
    #[error("{0}")]
    Invalid(String),
    /// The process could not be started, for example no such executable.
    #[error("cannot start {path:?}: {detail}")]
    Start {
        /// The executable.
        path: String,
        /// Why.
        detail: String,
    },
    /// A file of a volume cannot be read.
    #[error("{path:?}: {detail}")]
    File {
        /// As the author wrote it.
        path: String,
        /// Why.
        detail: String,
    },
    /// Anything else the engine or the system refused.
    #[error("{action}: {detail}")]
    Engine {
        /// What was tried.
        action: &'static str,
        /// The engine's own words.
        detail: String,
    },
}

impl DriverError {
    /// The error with what lies beneath it.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            text.push_str(&format!(": {source}"));
            cause = source.source();
        }
        text
    }
}

/// How long a process has between the polite signal and the kill, unless the operator says otherwise: whoever cancels a
/// run expects it to be over at once.
pub const STOP_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// Whether something with these labels is left behind.
pub type IsLeft<'a> = dyn Fn(&BTreeMap<String, String>) -> bool + Send + Sync + 'a;

/// A way to run steps.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Its name in the protocol.
    fn name(&self) -> DriverName;

    /// Runs one step to its end.
    ///
    /// Output goes to `output` as it comes, stdout and stderr told apart, in the order read; a full channel holds the
    /// process back rather than losing bytes, a closed one discards. All output has been sent when this returns.
    /// Cancelling `stop` sends the polite signal, then after [`STOP_GRACE`] the kill, to everything the step started.
    /// Dropping the future kills at once. Whatever was created is removed in every case.
    async fn run(
        &self,
        spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError>;

    /// Creates an empty volume; `labels` mark it as in [`StepSpec::labels`].
    async fn create_volume(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<Volume, DriverError>;

    /// Goes on with a step that an earlier process of this agent began, found by its labels: all of its output comes, from
    /// the beginning, and it is removed at its end. `None` if nothing of it runs or is left.
    async fn reattach(
        &self,
        _spec: &StepSpec,
        _output: mpsc::Sender<Output>,
        _stop: &CancellationToken,
    ) -> Result<Option<StepExit>, DriverError> {
        Ok(None)
    }

    /// What earlier processes kept ([`place::Place::keep`]) and this one can still reach.
    async fn kept(&self) -> Vec<place::Kept> {
        Vec::new()
    }

    /// Removes what is labelled, by `is_left`, as left behind, but for what is kept; it is asked after everything was listed. How many there
    /// were, `None` if the engine cannot be asked.
    async fn sweep(&self, _is_left: &IsLeft<'_>) -> Option<usize> {
        Some(0)
    }

    /// Whether a volume is (still) there; no answer is no.
    async fn has_volume(&self, volume: &Volume) -> bool;

    /// Removes a volume with its files; one that is gone is no error.
    async fn remove_volume(&self, volume: &Volume);

    /// A volume that begins with the files of another and is written without the other seeing it.
    ///
    /// `from` must not be written any more: it may lie beneath the new volume. With an owner every file becomes theirs.
    async fn derive_volume(
        &self,
        _from: &Volume,
        _new: NewVolume<'_>,
    ) -> Result<Volume, DriverError> {
        Err(lacks("copies of volumes"))
    }

    /// Hands the root directory of a new, empty volume to a user of the image that is going to write it.
    async fn own_volume(&self, _volume: &Volume, _owner: Owner) -> Result<(), DriverError> {
        Err(lacks("owners of volumes"))
    }

    /// Unpacks a tar archive below a directory of the volume, which is created if it is not there; nothing outside the
    /// volume is written. Memory stays small whatever the archive's size.
    async fn write_tar(
        &self,
        _volume: &Volume,
        _path: &str,
        _archive: TarStream,
    ) -> Result<(), DriverError> {
        Err(lacks("archives"))
    }

    /// What lies below a directory of the volume as a tar archive, names relative to it (the first entry is `./`); a
    /// regular file is an archive of one entry. Symbolic links are entries of their own; nothing outside is read. An
    /// empty path is the whole volume.
    async fn read_tar(&self, _volume: &Volume, _path: &str) -> Result<TarStream, DriverError> {
        Err(lacks("archives"))
    }

    /// The volumes with this label, with all their labels; a driver whose volumes end with the process answers none.
    async fn labelled_volumes(
        &self,
        _label: &str,
    ) -> Result<Vec<(Volume, BTreeMap<String, String>)>, DriverError> {
        Ok(Vec::new())
    }

    /// The Docker engine behind it, for what only an engine can do: images.
    fn engine(&self) -> Option<&docker::DockerDriver> {
        None
    }

    /// Reads regular files of a volume, at most [`READ_FILES_BYTES`] in all; nothing outside the volume is read.
    async fn read_files(
        &self,
        volume: &Volume,
        paths: &[String],
    ) -> Result<BTreeMap<String, Bytes>, DriverError>;

    /// Starts something that stays until it is closed; of `spec` the command, input and timeout are ignored.
    async fn start_sandbox(&self, spec: StepSpec) -> Result<Arc<dyn Sandbox>, DriverError>;
}

/// Most bytes that one `read_files` answers with.
pub const READ_FILES_BYTES: u64 = 10 << 20;

/// A place for several commands.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Runs a command in it as [`Driver::run`] does; of `spec` the command, environment, input and directory count.
    async fn exec(
        &self,
        spec: StepSpec,
        output: mpsc::Sender<Output>,
        stop: CancellationToken,
    ) -> Result<StepExit, DriverError>;

    /// Ends and removes it with everything that runs in it; twice is no error.
    async fn close(&self);
}
