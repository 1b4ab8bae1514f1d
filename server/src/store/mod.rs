//! The contract of storage: verbs of the domain, each one atomic, every consequence in the same transaction.
//!
//! Small traits by noun; their sum is [`Store`]. An implementation may group concurrent calls into one commit, as
//! long as no caller is answered before its own part is durable. Nothing outside `store/postgres` and `store/sqlite`
//! names a database driver. One test suite (`server/tests/store_contract`) runs every verb against both.

mod archives;
mod batch;
mod bodies;
mod builds;
mod codec;
mod deliveries;
mod hooks;
mod kept;
mod new_run;
mod outbox;
pub mod postgres;
mod queue;
mod receipt_log;
pub mod sqlite;
mod versions;
pub mod wake;

pub use archives::{Added, ArchiveStore, Begun};
pub use bodies::BodyStore;
pub use builds::{Admission, Admitted, BuildInputs, BuildLimit, BuildStore, OpenRun};
pub use deliveries::{
    ClaimedDeliveries, DAMAGED_WAIT, DeliveryClaim, DeliveryStore, FAILED_WITHIN, GONE, NewTry,
    Queued, REPLAY_PAGE, Recorded, SEND_ENDS_WITHIN, SEND_UNENDED, SUCCESS_NOTED_EVERY, SendTry,
    SubscriptionFilter, SubscriptionPut, SubscriptionStore, TryRecord,
};
pub use hooks::{EndpointPut, HookStore, MessageStored, TargetOutcome};
pub use kept::{
    GateFilter, GateStore, MAX_VALUE_BYTES, MAX_VALUES, Sighting, ValueStore, Write, Written,
};
pub use new_run::{Enqueued, HandOff, NewBuild, NewJob, NewRun};
pub use queue::{Demand, MAX_DEMAND, MAX_WAITING, QueueStore, QueuedView};
pub use receipt_log::{MAX_RECEIPTS, ReceiptFilter, ReceiptLog, ReceiptStore};
pub use versions::{Pinned, Saved, Taken, VersionStore};

use crate::model::agent::{Agent, AgentToken, Registration};
use crate::model::assignment::Assignment;
use crate::model::journal::{JournalEntry, JournalHolder, Journaled};
use crate::model::pipeline::{Labels, Pipeline, PutOutcome, PutPipeline, Revision, WebhookSecret};
use crate::model::receipt::Receipt;
use crate::model::run::{Event, Job, LogStream, Reply, Run};
use crate::model::secret::{Scope, SealedSecret, SecretInfo};
use crate::model::settings::MAX_PRIORITY;
use crate::model::transition::{Applied, Change};
use crate::model::vault::KeyId;
use crate::model::{AgentId, JobId, PipelineId, RevisionId, RunId, SessionId, TokenId};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use pocketci_proto::api::{Driver, PipelineSettings, RunStatus};
use std::time::Duration;
use wake::WakeBus;

/// Why a verb failed. Nothing was changed, or (connection lost during commit) it is unknown whether it was; every
/// verb may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer or refuses for now; try again later.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A defect: unexpected content, refused SQL, broken constraint.
    #[error("the database refused or returned something unexpected")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The schema was written by a newer PocketCI.
    #[error(
        "the database has schema version {found}, this program knows up to {known}; run a newer pocketci"
    )]
    SchemaTooNew {
        /// In the database.
        found: i64,
        /// Newest migration of this program.
        known: i64,
    },
}

impl StoreError {
    /// The same for another caller of a group; the source is kept as its words.
    fn duplicate(&self) -> Self {
        match self {
            Self::Unavailable(source) => Self::Unavailable(source.to_string().into()),
            Self::Internal(source) => Self::Internal(source.to_string().into()),
            Self::SchemaTooNew { found, known } => Self::SchemaTooNew {
                found: *found,
                known: *known,
            },
        }
    }
}

/// What a verb returns.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Pipelines and their revisions.
#[async_trait]
pub trait PipelineStore: Send + Sync {
    /// Creates or updates by name. Content equal to the newest revision's makes no new revision; no difference at
    /// all changes nothing (same version).
    async fn put_pipeline(&self, put: PutPipeline) -> Result<PutOutcome>;
    /// By id.
    async fn pipeline(&self, id: PipelineId) -> Result<Option<Pipeline>>;
    /// By name.
    async fn pipeline_by_name(&self, name: &str) -> Result<Option<Pipeline>>;
    /// In the order of names, those after `after`, at most `limit`.
    async fn pipelines(&self, after: Option<&str>, limit: i64) -> Result<Vec<Pipeline>>;
    /// A program.
    async fn revision(&self, id: RevisionId) -> Result<Option<Revision>>;
    /// Removes it with its revisions, runs, events and receipts; `false` if unknown. Attempts under way become stale.
    async fn delete_pipeline(&self, id: PipelineId) -> Result<bool>;
    /// Pauses (by whom) or resumes (`None`): a new version, if it differs; `None` if unknown. What is queued is held
    /// while it lasts; what has begun goes on, also in another attempt.
    async fn set_paused(&self, id: PipelineId, by: Option<&str>) -> Result<Option<Pipeline>>;
    /// Replaces the settings of a pipeline: a new version. `false` if it is not at `version` (any more); nothing is
    /// changed then.
    async fn set_settings(
        &self,
        id: PipelineId,
        version: i64,
        settings: PipelineSettings,
    ) -> Result<bool>;
}

/// A run as people look at it.
#[derive(Clone)]
pub struct RunView {
    /// The run.
    pub run: Run,
    /// Its pipeline's name.
    pub pipeline_name: String,
    /// Its jobs, each with the name of the agent that has or had it.
    pub jobs: Vec<(Job, Option<String>)>,
    /// Its reply.
    pub reply: Option<Reply>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only of this pipeline.
    pub pipeline_id: Option<PipelineId>,
    /// Only with this status.
    pub status: Option<RunStatus>,
    /// Those that looked for versions as well.
    pub checks: bool,
    /// Only older than this one (runs are listed newest first).
    pub after: Option<RunId>,
    /// At most so many, 1..=200.
    pub limit: i64,
}

/// How far one stream of output of an attempt is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// From 1; 0 is the job itself.
    pub step: i32,
    /// Which of its streams.
    pub stream: LogStream,
    /// Offset of the first byte that is not stored; gaps count as stored.
    pub end: i64,
}

/// How far the output of an attempt is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOffsets {
    /// Highest stored chunk; 0 if the attempt is not the job's current one.
    pub seq: i64,
    /// The streams that have any output, in no order.
    pub ends: Vec<LogEnd>,
}

/// Runs.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// Stores receipt, run and jobs in one transaction; publishes a wake if a job was queued. Grouped.
    async fn enqueue(&self, run: NewRun) -> Result<Enqueued>;
    /// One run, whole.
    async fn run(&self, id: RunId) -> Result<Option<RunView>>;
    /// A page, newest first, without jobs and replies.
    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunView>>;
    /// The stored replies among these runs, for callers that wait.
    async fn replies(&self, ids: &[RunId]) -> Result<Vec<(RunId, Reply)>>;
    /// Events after `after` (0 for all) in order, at most `limit`; `None` if the run is unknown.
    async fn events(&self, id: RunId, after: i64, limit: i64) -> Result<Option<Vec<Event>>>;
    /// How far the output of an attempt is stored; nothing if there is none.
    async fn log_offsets(&self, id: RunId, job_id: JobId, attempt: i32) -> Result<LogOffsets>;
}

/// A session that looks for work.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The agent.
    pub agent_id: AgentId,
    /// Its session.
    pub session_id: SessionId,
    /// Its labels.
    pub labels: Labels,
    /// Drivers it offers.
    pub drivers: Vec<Driver>,
    /// Free slots, at least 1.
    pub max: i64,
    /// The lease until it must have accepted.
    pub accept_within: Duration,
    /// Waiting so long counts as one level of priority; [`AGE_STEP`] but in tests.
    pub age_step: Duration,
    /// Most jobs in agents' hands in the whole store, if there is a limit.
    pub max_running: Option<i64>,
}

/// See [`ClaimRequest::age_step`].
pub const AGE_STEP: Duration = Duration::from_secs(60);
/// Levels of priority that waiting can bring: enough to pass whatever keeps coming.
pub const MAX_AGE_LEVELS: i32 = 2 * MAX_PRIORITY + 1;

/// A job that was handed out, with everything the agent needs but the program and a large body.
#[derive(Clone)]
pub struct Claimed {
    /// Its run.
    pub run: Run,
    /// The job, assigned, with its new attempt number.
    pub job: Job,
    /// The pipeline's name.
    pub pipeline_name: String,
    /// Its settings as they are now.
    pub settings: PipelineSettings,
    /// The webhook that started the run.
    pub receipt: Option<Receipt>,
    /// What a build or check needs beside; completed by [`crate::runs`], not by the store.
    pub build: Option<Assignment>,
}

/// How long a job that lost its agent waits for another agent before the same one may have it again.
pub const PREFER_OTHER_AGENT: Duration = Duration::from_secs(5);

/// Jobs in agents' hands.
#[async_trait]
pub trait AttemptStore: Send + Sync {
    /// Hands out queued jobs that are not held and whose labels and driver the agent has: state assigned, attempt + 1,
    /// event numbering untouched. Higher priorities first (waiting raises it, see [`ClaimRequest::age_step`]), among
    /// equals each pipeline in its turn, oldest first. Jobs locked by others are passed over. The work grows with the
    /// number of distinct requirements, not of jobs. A job with `lost > 0` that this agent had last is
    /// passed over until it has been queued for [`PREFER_OTHER_AGENT`].
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>>;
    /// Applies a change to a run by [`crate::model::transition::apply`]; [`Applied::Stale`] if the run is unknown.
    ///
    /// Changes to one run are applied in the order of the calls: a call takes its place before it returns. Grouped;
    /// publishes what follows after the commit. The number of unanswered calls is bounded by the callers.
    fn submit(&self, run_id: RunId, change: Change) -> BoxFuture<'static, Result<Applied>>;
    /// Prolongs the leases that this session holds; returns those that it really holds.
    async fn renew(
        &self,
        session_id: SessionId,
        held: Vec<(JobId, i32)>,
        lease: Duration,
    ) -> Result<Vec<(JobId, i32)>>;
    /// Jobs whose lease has run out, oldest first, at most `limit`; feed them to [`Change::Expire`].
    async fn expired(&self, limit: i64) -> Result<Vec<(RunId, JobId)>>;
    /// Jobs of this session whose run is to be cancelled: `(run, job, attempt)`.
    async fn cancelled(&self, session_id: SessionId) -> Result<Vec<(RunId, JobId, i32)>>;
    /// The webhook of the run that this attempt holds; `None` if it does not hold it.
    async fn held_receipt(
        &self,
        job_id: JobId,
        attempt: i32,
        agent_id: AgentId,
    ) -> Result<Option<Receipt>>;
    /// The run and pipeline of the job that this session holds as this attempt; `None` if it does not hold it.
    async fn held_run(
        &self,
        job_id: JobId,
        attempt: i32,
        session_id: SessionId,
    ) -> Result<Option<(RunId, PipelineId)>>;
    /// Queued jobs in the store, for metrics.
    async fn queued_jobs(&self) -> Result<i64>;
}

/// What became of a [`Registration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// The agent's id.
    As(AgentId),
    /// Another process (other boot id) with this name is connected and was heard of lately.
    NameTaken,
}

/// Agents and their credentials.
#[async_trait]
pub trait AgentStore: Send + Sync {
    /// Stores a credential by the SHA-256 of its token; the same hash again returns the stored one.
    async fn create_token(&self, name: &str, hash: [u8; 32]) -> Result<AgentToken>;
    /// The credential with this hash, unless revoked.
    async fn token_by_hash(&self, hash: [u8; 32]) -> Result<Option<TokenId>>;
    /// All credentials that are not revoked, oldest first.
    async fn tokens(&self) -> Result<Vec<AgentToken>>;
    /// Revokes; `false` if unknown or revoked before.
    async fn revoke_token(&self, id: TokenId) -> Result<bool>;
    /// Registers a connection. A connected namesake with another boot id that was heard of within `fresh` is
    /// [`Registered::NameTaken`], unless the new one succeeds it and has the same credential; otherwise the new session
    /// takes its place.
    async fn register(&self, registration: Registration, fresh: Duration) -> Result<Registered>;
    /// These sessions are alive.
    async fn seen(&self, sessions: &[SessionId]) -> Result<()>;
    /// The connection has ended; leases stay as they are.
    async fn disconnect(&self, session_id: SessionId) -> Result<()>;
    /// All agents by name.
    async fn agents(&self) -> Result<Vec<Agent>>;
}

/// Secrets, sealed before they come here.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// Sets a secret; `true` if it is new, `None` if its pipeline is unknown.
    async fn put_secret(&self, secret: SealedSecret) -> Result<Option<bool>>;
    /// Removes one; `false` if unknown.
    async fn delete_secret(&self, scope: Scope, name: &str) -> Result<bool>;
    /// The secrets of one scope by name.
    async fn secrets(&self, scope: Scope) -> Result<Vec<SecretInfo>>;
    /// Those of these names that a pipeline sees: its own before everybody's.
    async fn sealed_secrets(
        &self,
        pipeline_id: PipelineId,
        names: &[String],
    ) -> Result<Vec<SealedSecret>>;
    /// All of them, for a change of the key.
    async fn all_sealed_secrets(&self) -> Result<Vec<SealedSecret>>;
    /// Replaces the bytes of a secret if they are still `old`; `false` if they are not.
    async fn reseal_secret(&self, old: SealedSecret, sealed: Vec<u8>) -> Result<bool>;
    /// Replaces a pipeline's webhook secrets if its version is still this one (it stays); `false` if it is not.
    async fn reseal_webhook_secrets(
        &self,
        id: PipelineId,
        version: i64,
        secrets: Vec<WebhookSecret>,
    ) -> Result<bool>;
    /// The keys that something stored may be sealed with.
    async fn secret_keys(&self) -> Result<Vec<KeyId>>;
    /// From now on something may be sealed with this key.
    async fn add_secret_key(&self, id: KeyId) -> Result<()>;
    /// Nothing is sealed with any other key any more.
    async fn keep_only_secret_key(&self, id: KeyId) -> Result<()>;
}

/// Journals of jobs: see [`crate::model::journal`]. Every verb is fenced: the session must hold the attempt.
#[async_trait]
pub trait JournalStore: Send + Sync {
    /// Appends entries, numbered without holes; those that are stored already are passed over.
    async fn append_journal(
        &self,
        holder: JournalHolder,
        entries: Vec<JournalEntry>,
    ) -> Result<Journaled>;
    /// Entries after `after` in order, at most `limit` and about `max_bytes` (one at least, if there is one); `None` if
    /// the session does not hold the attempt.
    async fn journal(
        &self,
        holder: JournalHolder,
        after: i64,
        limit: i64,
        max_bytes: usize,
    ) -> Result<Option<Vec<JournalEntry>>>;
    /// Removes all entries; the next one has number 1 again. `false` if the session does not hold the attempt.
    async fn clear_journal(&self, holder: JournalHolder) -> Result<bool>;
}

/// Everything the server stores.
#[async_trait]
pub trait Store:
    PipelineStore
    + RunStore
    + AttemptStore
    + QueueStore
    + ReceiptStore
    + AgentStore
    + SecretStore
    + ValueStore
    + GateStore
    + JournalStore
    + BuildStore
    + VersionStore
    + ArchiveStore
    + BodyStore
    + HookStore
    + ReceiptLog
    + SubscriptionStore
    + DeliveryStore
{
    /// Hints that something changed, published after commits, of all servers where there are several.
    fn wakes(&self) -> &WakeBus;
    /// Whether the database answers.
    async fn ping(&self) -> Result<()>;
    /// Ends background work and flushes; no verb may be called afterwards.
    async fn close(&self);
}
