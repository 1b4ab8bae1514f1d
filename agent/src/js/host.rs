//! What a job's JavaScript may ask of the world around it.
//!
//! The engine knows only this trait; the real host (`attempt`) turns the calls into reports, log chunks and containers,
//! the tests' host records them.

use crate::container::OutputStream;
use crate::js::calls::Event;
use crate::js::journal::Journal;
pub use crate::js::request::Request;
use crate::webhook_body::{WebhookBody, WebhookFile};
use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Which output of the job itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleStream {
    /// `console.log`, `info`, `debug`.
    Stdout,
    /// `console.error`, `warn`.
    Stderr,
    /// PocketCI's own words, for example an invalid trigger expression.
    System,
}

/// What `http.respond` says; already checked (status 200–599, legal header names and values).
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// In the author's order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// The webhook that started the run.
#[derive(Clone, Default)]
pub struct WebhookRequest {
    /// `github`, `slack`, `generic`…
    pub provider: String,
    /// Provider-specific.
    pub event_type: String,
    /// HTTP method.
    pub method: String,
    /// Path with query, as received.
    pub url: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// Raw.
    pub body: WebhookBody,
    /// All lines of headers that came more than once, names in lower case.
    pub repeated_headers: Vec<(String, String)>,
    /// The provider's id of the delivery, or empty.
    pub delivery_id: String,
    /// Which try of the provider, from 1; 0 if it does not say.
    pub attempt: u32,
    /// A secret was checked and fits.
    pub verified: bool,
    /// Fingerprint of that secret, or empty.
    pub secret_id: String,
    /// The event that it is a message of, or empty.
    pub event_key: String,
    /// The caller's address.
    pub remote_addr: String,
    /// Milliseconds since 1970 by the server's clock; 0 if it does not say.
    pub received_at_ms: u64,
    /// SHA-256 of the body, or empty.
    pub body_sha256: Bytes,
    /// Fields of a multipart body, in order.
    pub form: Vec<(String, String)>,
    /// Files of a multipart body, in order.
    pub files: Vec<WebhookFile>,
}

impl WebhookRequest {
    /// The `Content-Type`, or the empty text.
    pub fn content_type(&self) -> &str {
        self.headers.get("content-type").map_or("", String::as_str)
    }

    /// The query as it came, without `?`.
    pub fn raw_query(&self) -> &str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }
}

/// A file of the webhook in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMount {
    /// The whole body.
    Body,
    /// A part of a multipart body, by its number.
    Part(u32),
}

/// `pipelineContext`, and what the engine needs to know of the job.
#[derive(Clone, Default)]
pub struct JobContext {
    /// The run's id.
    pub run_id: String,
    /// The pipeline's id.
    pub pipeline_id: String,
    /// The pipeline's name.
    pub pipeline_name: String,
    /// `webhook`, `manual`.
    pub triggered_by: String,
    /// Arguments of a manual trigger.
    pub args: Vec<String>,
    /// Jobs asked for (YAML).
    pub target_jobs: Vec<String>,
    /// `docker` or `native`: what `runtime.run` uses.
    pub driver_name: String,
    /// Which attempt of the job this is, from 1.
    pub attempt: u32,
    /// Present iff the run came from a webhook.
    pub webhook: Option<WebhookRequest>,
}

/// The argument of `runtime.run`, checked.
#[derive(Clone, Default)]
pub struct RunRequest {
    /// The how-manieth call of the program this is.
    pub call: u32,
    /// Identifies what it asks for (SHA-256).
    pub content: [u8; 32],
    /// Display name.
    pub name: String,
    /// Container image.
    pub image: String,
    /// Executable.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// User inside the container.
    pub user: String,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Fed to the process.
    pub stdin: Option<Bytes>,
    /// Working directory.
    pub work_dir: String,
    /// Docker's CPU shares; 0 is the default.
    pub cpu_shares: u64,
    /// Bytes; 0 is no limit.
    pub memory_bytes: u64,
    /// The operator must allow it.
    pub privileged: bool,
    /// `None` is no limit of its own.
    pub timeout: Option<Duration>,
    /// Volumes by path: relative to the working directory, or absolute.
    pub mounts: BTreeMap<String, String>,
    /// Files of the webhook by path, as [`RunRequest::mounts`].
    pub files: BTreeMap<String, FileMount>,
    /// When the image is pulled.
    pub pull: Pull,
    /// For images that cannot be pulled anonymously.
    pub registry_auth: Option<RegistryAuth>,
    /// The container has no network at all.
    pub no_network: bool,
    /// Further tries while it fails.
    pub retries: u32,
    /// Present iff the pipeline gave an `onOutput`: every piece of output is also sent here, in the order read.
    pub output: Option<OutputSink>,
}

/// When a container's image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// If the engine does not have it.
    #[default]
    Missing,
    /// Before every step.
    Always,
    /// A missing image is an error.
    Never,
}

/// Credentials of an image registry; texts may be `secret:NAME`.
#[derive(Clone)]
pub struct RegistryAuth {
    /// User.
    pub username: String,
    /// Password or token.
    pub password: String,
    /// Empty: the one in the image's name.
    pub registry: String,
}

/// The way of a step's output to the pipeline's `onOutput`.
#[derive(Clone)]
pub struct OutputSink {
    pub(super) call: u64,
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// Bounds the pieces on their way: the channel itself is unbounded so that a call's end can always be told.
    pub(super) room: Arc<Semaphore>,
    pub(super) step: u32,
    pub(super) seen: Seen,
    /// What the program has seen of it is passed over.
    pub(super) resumes: bool,
}

/// A piece of a step's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Printed {
    /// The step's number among the job's; 0 if that is not known.
    pub step: u32,
    pub stream: OutputStream,
    pub bytes: Bytes,
}

/// Bytes of one call that the program saw before its agent was started again, by step and whether it is stderr.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<BTreeMap<(u32, bool), usize>>>);

impl Seen {
    fn of<T>(&self, step: u32, stream: OutputStream, look: impl FnOnce(&mut usize) -> T) -> T {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        look(
            seen.entry((step, stream == OutputStream::Stderr))
                .or_default(),
        )
    }

    /// The program has seen this.
    pub fn add(&self, printed: &Printed) {
        self.of(printed.step, printed.stream, |seen| {
            *seen += printed.bytes.len();
        });
    }

    /// How many of these bytes, the next ones of their stream, were seen; they count once.
    fn take(&self, step: u32, stream: OutputStream, bytes: usize) -> usize {
        self.of(step, stream, |seen| {
            let taken = bytes.min(*seen);
            *seen -= taken;
            taken
        })
    }
}

impl OutputSink {
    /// The sink for the step with this number. If it `resumes`, the step was begun by an earlier process and is read from
    /// its beginning: what the program has seen of it is passed over.
    pub fn of_step(&self, step: u32, resumes: bool) -> Self {
        Self {
            step,
            resumes,
            ..self.clone()
        }
    }

    /// Hands a piece over; waits while the pipeline is busy, discards once it has ended.
    pub async fn send(&self, stream: OutputStream, mut bytes: Bytes) {
        if self.resumes {
            bytes.advance(self.seen.take(self.step, stream, bytes.len()));
        }
        if bytes.is_empty() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
            return; // the job is over
        };
        // A closed channel means the same.
        let _ = self.events.send(Event::Output {
            call: self.call,
            printed: Printed {
                step: self.step,
                stream,
                bytes,
            },
            permit,
        });
    }
}

/// What `runtime.run` resolves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunResult {
    /// Exit code; 0 when aborted.
    pub code: i32,
    /// Output, bounded by the host: head and tail are kept, with a line in between that says what is missing.
    pub stdout: String,
    /// See `stdout`.
    pub stderr: String,
    /// `complete` (ended by itself, whatever the code) or `abort` (timeout, or the run was stopped).
    pub status: &'static str,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub ended_at: String,
    /// From start to end.
    pub duration_ms: u64,
    /// How often it was run.
    pub attempts: u32,
    /// The number of its last run among the job's steps; not shown to the program.
    pub step: u32,
}

/// What a call resolves to.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// `undefined`.
    Nothing,
    /// Any JSON value.
    Json(serde_json::Value),
    /// A step's end.
    Run(RunResult),
    /// An object and, as its property `body`, bytes.
    Blob {
        /// The object.
        head: serde_json::Value,
        /// The bytes.
        body: Bytes,
    },
}

/// Why a call's promise rejects: an `Error` with this name and message, and the members of `detail` as properties.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// `Error`, `TypeError`, `GateError`, `AbortError`…
    pub name: &'static str,
    /// For people.
    pub message: String,
    /// A JSON object, or null.
    pub detail: serde_json::Value,
}

impl<M: Into<String>> From<M> for Failure {
    fn from(message: M) -> Self {
        Self {
            name: "Error",
            message: message.into(),
            detail: serde_json::Value::Null,
        }
    }
}

/// A call under way.
pub type Answered = BoxFuture<'static, Result<Answer, Failure>>;

/// The world, as one job sees it. Calls come from the job's own thread.
pub trait Host: Send + Sync {
    /// A line or piece of output of the job itself. Never blocks for long; bounded by the host.
    fn console(&self, stream: ConsoleStream, text: &str);

    /// Sends the reply on its way; called at most once for a job, only when a webhook started it.
    fn respond(&self, reply: Reply);

    /// Whether the webhook that started the run satisfies an expr-lang expression; called only when there is one.
    /// An `Err` says what is wrong with the expression: it counts as `false` and is written to the run's log.
    fn webhook_trigger(&self, expression: &str) -> Result<bool, String>;

    /// An expression's value over the webhook as text; called only when there is one.
    fn webhook_value(&self, expression: &str) -> Result<String, String>;

    /// Anything else. Nothing happens before the future is polled: it may be dropped at once. The future is spawned on the host's runtime and may be dropped to stop it at once.
    fn call(&self, request: Request) -> Answered;

    /// The job's journal; asked for once, when the job begins. `None` records nothing.
    fn journal(&self) -> Option<Journal> {
        None
    }

    /// Whether a volume that an earlier attempt made (its answer to [`Request::CreateVolume`]) is still there; from then
    /// on it is this attempt's.
    fn revive(&self, _volume: serde_json::Value) -> BoxFuture<'static, bool> {
        Box::pin(async { false })
    }

    /// Runs a step. The future is spawned on the host's runtime and may be dropped to stop it at once. An `Err` rejects the promise.
    fn run(&self, request: RunRequest) -> BoxFuture<'static, Result<RunResult, String>>;
}
