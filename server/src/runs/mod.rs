//! Runs: starting them, handing their jobs to agents, waiting for their replies, following their events.

mod archives;
mod bodies;
mod cache;
pub mod dispatch;
pub mod expire;
mod follow;
mod group;
pub mod matcher;
mod one_off;
mod replay;
mod reply;
mod schedule;
mod secrets;
mod set_pipeline;
mod start;
pub mod terminals;
mod wait;

pub use archives::{ArchiveError, Incoming};
pub use bodies::BodyError;
pub use follow::Follow;
pub use one_off::{Execute, Executed};
pub use replay::{Decision, Replay, ReplayError, Replayed};
pub use reply::{Replied, ReplyWait};
pub use schedule::Program;
pub use secrets::KeyError;
pub use set_pipeline::{SetByJob, SetPipeline};
pub use start::{MAX_TRIES, NotStarted, Refused, StartRun, Started};

use crate::model::pipeline::{Pipeline, Revision, WebhookSecret};
use crate::model::run::{CancelReason, Cancelled};
use crate::model::secret;
use crate::model::transition::{Applied, Change};
use crate::model::vault::Vault;
use crate::model::{PipelineId, RevisionId, RunId};
use crate::store::{Result, Store, StoreError};
use cache::Cache;
use dispatch::Dispatch;
use pocketci_pipeline::expression::ExpressionCache;
use schedule::Programs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use terminals::Terminals;

/// Times and limits of runs.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// How long a session may take to accept an assignment.
    pub accept_within: Duration,
    /// How long an agent holds a job without renewing.
    pub lease: Duration,
    /// Most queued jobs in the store.
    pub max_queue: i64,
    /// Most jobs in agents' hands, over all servers; no limit if `None`.
    pub max_running: Option<i64>,
    /// How long a job may be queued if its pipeline says nothing; for ever if `None`.
    pub queue_timeout: Option<Duration>,
    /// Where users reach the server, if it is known.
    pub external_url: Option<String>,
    /// How long receipts are kept; for ever if `None`.
    pub receipts_kept: Option<Duration>,
    /// Most bytes of their bodies that are kept; no limit if `None`.
    pub receipt_bytes_kept: Option<i64>,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            accept_within: Duration::from_secs(5),
            lease: Duration::from_secs(30),
            max_queue: 10_000,
            max_running: None,
            queue_timeout: None,
            external_url: None,
            receipts_kept: None,
            receipt_bytes_kept: None,
        }
    }
}

/// The entrance to everything about runs; clones are cheap.
#[derive(Clone)]
pub struct Runs {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    vault: Vault,
    settings: RunSettings,
    cache: Cache,
    dispatch: Dispatch,
    /// Of concurrency groups and filters.
    expressions: Arc<ExpressionCache>,
    programs: Programs,
    terminals: Terminals,
    /// Until when this server starts runs for new versions and looks for them: one of all servers does.
    leads: Mutex<Option<Instant>>,
}

impl Runs {
    /// Runs over this store.
    pub fn new(store: Arc<dyn Store>, settings: RunSettings, vault: Vault) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                vault,
                settings,
                cache: Cache::default(),
                dispatch: Dispatch::default(),
                expressions: Arc::default(),
                programs: Programs::default(),
                terminals: Terminals::default(),
                leads: Mutex::default(),
            }),
        }
    }

    /// The store beneath.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Whether this server has the scheduler's duty.
    pub fn leads(&self) -> bool {
        let until = *self
            .inner
            .leads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// It has it until then, or no more.
    pub fn set_leads(&self, until: Option<Instant>) {
        *self
            .inner
            .leads
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Times and limits.
    pub fn settings(&self) -> &RunSettings {
        &self.inner.settings
    }

    /// The sessions connected to this server.
    pub fn dispatch(&self) -> &Dispatch {
        &self.inner.dispatch
    }

    /// Terminals that are being opened at this server.
    pub fn terminals(&self) -> &Terminals {
        &self.inner.terminals
    }

    /// A pipeline, at most a second old. Deciding on a stale one is safe: [`Runs::start`] answers [`Started::Stale`].
    pub async fn pipeline(&self, id: PipelineId) -> Result<Option<Arc<Pipeline>>> {
        match self.inner.cache.pipeline(id) {
            Some(found) => Ok(Some(found)),
            None => self.reload_pipeline(id).await,
        }
    }

    /// What seals secrets.
    pub fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    /// A pipeline as it is stored now, its webhook secrets opened. One that cannot be opened is an error: without its
    /// secrets a pipeline would take anybody's webhooks.
    pub async fn reload_pipeline(&self, id: PipelineId) -> Result<Option<Arc<Pipeline>>> {
        let found = self.inner.store.pipeline(id).await?;
        let found = found.map(|found| self.opened(found)).transpose()?;
        let found = found.map(Arc::new);
        self.inner.cache.keep_pipeline(id, found.clone());
        Ok(found)
    }

    fn opened(&self, mut pipeline: Pipeline) -> Result<Pipeline> {
        let place = secret::webhook_place(&pipeline.name);
        for sealed in &mut pipeline.webhook_secrets {
            let opened = self.inner.vault.open(&place, sealed.expose());
            let opened = opened.map_err(|error| StoreError::Internal(error.into()))?;
            *sealed = WebhookSecret::new(opened)
                .ok_or_else(|| StoreError::Internal("a stored webhook secret is empty".into()))?;
        }
        Ok(pipeline)
    }

    /// A program, which never changes once stored.
    pub async fn revision(&self, id: RevisionId) -> Result<Option<Arc<Revision>>> {
        if let Some(found) = self.inner.cache.revision(id) {
            return Ok(Some(found));
        }
        let found = self.inner.store.revision(id).await?.map(Arc::new);
        if let Some(revision) = &found {
            self.inner.cache.keep_revision(revision.clone());
        }
        Ok(found)
    }

    /// Asks a run to stop; queued jobs end at once, running ones when their agent has stopped them.
    pub async fn stop(&self, id: RunId, actor: String) -> Result<Applied> {
        let wish = Cancelled {
            actor,
            reason: CancelReason::User,
        };
        self.inner.store.submit(id, Change::Cancel(wish)).await
    }

    /// Follows a run's events after `after` (0 for all); `None` if the run is unknown.
    pub async fn follow(&self, id: RunId, after: i64) -> Result<Option<Follow>> {
        Follow::open(self.inner.store.clone(), id, after).await
    }
}
