//! Verbs of receiving points: endpoints, listeners of events, messages for them, answers, keys of requests.

use super::Result;
use crate::model::dedup::{DedupKey, First};
use crate::model::endpoint::Endpoint;
use crate::model::fanout::{Listener, MessageTarget, TargetState};
use crate::model::receipt::{Answer, Receipt};
use crate::model::run::{Outcome, Trigger};
use crate::model::{EndpointId, JobId, PipelineId, ReceiptId, RunId};
use async_trait::async_trait;
use std::time::Duration;

/// Most answers that wait to be written; more are lost.
pub(super) const MAX_UNWRITTEN_ANSWERS: usize = 20_000;

/// What became of a put of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointPut {
    /// Stored.
    Done,
    /// It was changed meanwhile, or another one has this name: load it and decide again. Nothing was stored.
    Stale,
    /// Its pipeline is gone. Nothing was stored.
    NoPipeline,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageStored {
    /// Its receipt and these targets are stored and durable; fewer than were wanted, if it came before and failed for
    /// these only.
    Done(Vec<MessageTarget>),
    /// It came before; nothing was stored.
    Duplicate(First),
    /// It came before with another body; nothing was stored.
    Conflict(First),
    /// The body that its receipt names was forgotten; nothing was stored.
    BodyGone,
}

/// How a try for a listener ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetOutcome {
    /// The message.
    pub receipt_id: ReceiptId,
    /// The listener.
    pub pipeline_id: PipelineId,
    /// What became of it; a pending one is tried again after `wait`.
    pub state: TargetState,
    /// For the operator.
    pub reason: String,
    /// See `state`.
    pub wait: Duration,
}

/// Receiving points and what follows them.
#[async_trait]
pub trait HookStore: Send + Sync {
    /// Writes an endpoint: a new one (version 1), or the one whose stored version is one less.
    async fn put_endpoint(&self, endpoint: Endpoint) -> Result<EndpointPut>;
    /// By id.
    async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>>;
    /// By name.
    async fn endpoint_by_name(&self, name: &str) -> Result<Option<Endpoint>>;
    /// By the digest of a secret id that is taken now.
    async fn endpoint_by_uuid(&self, hash: [u8; 32]) -> Result<Option<Endpoint>>;
    /// In the order of names, those after `after`, at most `limit`.
    async fn endpoints(&self, after: Option<&str>, limit: i64) -> Result<Vec<Endpoint>>;
    /// Removes one; `false` if unknown. Its receipts stay.
    async fn delete_endpoint(&self, id: EndpointId) -> Result<bool>;
    /// Who listens to an event, in the order of ids, at most `limit`.
    async fn listeners(&self, event_key: &str, limit: i64) -> Result<Vec<Listener>>;
    /// Stores the receipt of a message with its targets and claims its key, in one transaction. Pending targets are
    /// first tried by others after `patience`. The receipt of one that is done again gets its `redelivery_of` here.
    async fn store_message(
        &self,
        receipt: Receipt,
        targets: Vec<MessageTarget>,
        key: Option<DedupKey>,
        patience: Duration,
    ) -> Result<MessageStored>;
    /// The targets of a message, in the order of pipelines' ids.
    async fn message_targets(&self, receipt_id: ReceiptId) -> Result<Vec<MessageTarget>>;
    /// Pending targets that are due, oldest first, at most `limit`; they are not due again for `patience`. Those of a
    /// paused pipeline are due when it is unpaused, or when their message is too old (see
    /// [`crate::model::fanout::GIVE_UP_AFTER`]).
    async fn due_targets(&self, limit: i64, patience: Duration) -> Result<Vec<MessageTarget>>;
    /// Writes how a try ended, if the target is still pending.
    async fn settle_target(&self, outcome: TargetOutcome) -> Result<()>;
    /// How a run ended; `None` if it has not, or is unknown.
    async fn outcome(&self, run_id: RunId) -> Result<Option<Outcome>>;
    /// What started a run; `None` if it is unknown.
    async fn trigger(&self, run_id: RunId) -> Result<Option<Trigger>>;
    /// Whether one of these jobs is of a run without rights ([`Trigger::anonymous`]).
    async fn any_anonymous(&self, jobs: &[JobId]) -> Result<bool>;
    /// Writes what was answered to a request, some time later; nobody waits for it. What cannot be written is lost, and
    /// so is what would make the queue too long.
    fn answered(&self, receipt_id: ReceiptId, answer: Answer);
    /// Forgets keys that were claimed longer ago than this, at most `limit`; returns how many there were.
    async fn forget_keys(&self, kept: Duration, limit: i64) -> Result<u64>;
}
