//! Verbs of subscriptions, of the events they are told, and of deliveries.
//!
//! Events and their deliveries are stored by the verbs that make them happen ([`super::AttemptStore::submit`],
//! [`super::GateStore::open_gate`], [`SubscriptionStore::disable_subscription`]), in the same transaction. Whatever becomes due
//! is told by [`super::wake::Wake::Deliveries`].

use super::Result;
use crate::model::delivery::{
    Delivery, DeliveryFilter, DeliveryTry, DueDelivery, Next, OutgoingEvent, Replay, ReplayFilter,
    TryEnd, TryRequest,
};
use crate::model::subscription::{DisabledReason, EventName, Subscription, SubscriptionTerms};
use crate::model::{DeliveryId, EventId, JobId, PipelineId, ReplayId, RunId, SubscriptionId};
use async_trait::async_trait;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// Events looked at for a replay in one transaction, and so the most deliveries made in it.
pub const REPLAY_PAGE: i64 = 500;
/// Why a delivery is dropped whose event or subscription is no more.
pub const GONE: &str = "what it tells of, or whom, was deleted before it could be sent";
/// A pipeline's `webhook.send` of which nothing was heard for so long has no end any more: its agent or its attempt is gone.
pub const SEND_ENDS_WITHIN: Duration = Duration::from_secs(3600);
/// What is said of it.
pub const SEND_UNENDED: &str = "its end was never told";
/// How long a delivery waits that cannot be read: a newer server may.
pub const DAMAGED_WAIT: Duration = Duration::from_secs(60);
/// Whoever was sent nothing for longer may have come back meanwhile.
pub const FAILED_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// A success is noted at the subscription at most this often: it is a row that many tries would write.
pub const SUCCESS_NOTED_EVERY: Duration = Duration::from_secs(60);

/// What became of a change of a subscription.
#[derive(Clone, PartialEq)]
pub enum SubscriptionPut {
    /// As it is stored now.
    Stored(Box<Subscription>),
    /// Another one has this name; nothing was stored.
    NameTaken,
    /// Its pipeline is unknown; nothing was stored.
    NoPipeline,
    /// It was changed meanwhile, or is gone: load it and decide again. Nothing was stored.
    Stale,
    /// There are [`crate::model::subscription::MAX_SUBSCRIPTIONS`]; nothing was stored.
    Full,
}

/// Which subscriptions to list.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionFilter {
    /// Only those that are told what happens in this pipeline: its own and everybody's.
    pub hears: Option<PipelineId>,
    /// Only those of this pipeline.
    pub of: Option<PipelineId>,
    /// Only those whose name comes after this one.
    pub after: Option<String>,
    /// At most so many, 1..=200.
    pub limit: i64,
}

/// Subscriptions.
#[async_trait]
pub trait SubscriptionStore: Send + Sync {
    /// Stores a new one under an id chosen by the caller (its secrets are sealed for it); repeating the call with the
    /// same id and terms stores nothing twice.
    async fn create_subscription(
        &self,
        id: SubscriptionId,
        terms: SubscriptionTerms,
    ) -> Result<SubscriptionPut>;
    /// Replaces the terms if the version is still this one. Equal terms change nothing (same version). A changed URL
    /// forgets failures and pauses.
    async fn change_subscription(
        &self,
        id: SubscriptionId,
        version: i64,
        terms: SubscriptionTerms,
    ) -> Result<SubscriptionPut>;
    /// Enables again, forgetting failures and pauses: what waited is due at once. `None` if unknown.
    async fn enable_subscription(&self, id: SubscriptionId) -> Result<Option<Subscription>>;
    /// Disables, unless it is disabled or, where a version is given, has another one by now: and tells the others who want it
    /// ([`crate::model::subscription::EventName::SubscriptionDisabled`]; not if an operator did it). `None` if unknown.
    async fn disable_subscription(
        &self,
        id: SubscriptionId,
        version: Option<i64>,
        reason: DisabledReason,
    ) -> Result<Option<Subscription>>;
    /// Disables those that had no success for `failing_for` although `failures` tries at least were made, the last one
    /// within [`FAILED_WITHIN`]; their names.
    async fn disable_failing(&self, failing_for: Duration, failures: i64) -> Result<Vec<String>>;
    /// By id.
    async fn subscription(&self, id: SubscriptionId) -> Result<Option<Subscription>>;
    /// By name.
    async fn subscription_by_name(&self, name: &str) -> Result<Option<Subscription>>;
    /// In the order of names (of their bytes).
    async fn subscriptions(&self, filter: SubscriptionFilter) -> Result<Vec<Subscription>>;
    /// Removes it with its replays; `false` if unknown. Nothing more is sent to it; its deliveries and their tries are
    /// removed by [`DeliveryStore::forget_deliveries`]. Removing a pipeline removes its own.
    async fn delete_subscription(&self, id: SubscriptionId) -> Result<bool>;
    /// Replaces sealed bytes if the version is still this one (it stays); `false` if it is not. For a change of the key.
    async fn reseal_subscription(
        &self,
        id: SubscriptionId,
        version: i64,
        terms: SubscriptionTerms,
    ) -> Result<bool>;
}

/// A server that looks for deliveries.
#[derive(Debug, Clone)]
pub struct DeliveryClaim {
    /// Names the server process: what it took is its own until the lease ends.
    pub sender: Uuid,
    /// Most deliveries, at least 1.
    pub max: i64,
    /// Of which at most so many of unproven receivers: those that failed last, or never succeeded.
    pub max_unproven: i64,
    /// How long it has for everything up to the record.
    pub lease: Duration,
}

/// What a server was given.
#[derive(Clone, Default)]
pub struct ClaimedDeliveries {
    /// Sending; each subscription in its turn.
    pub due: Vec<DueDelivery>,
    /// How long until more becomes due without anybody's doing, as far as it is known.
    pub wait: Option<Duration>,
}

/// The beginning of a try.
#[derive(Debug, Clone)]
pub struct NewTry {
    /// Of which delivery.
    pub delivery_id: DeliveryId,
    /// Who claimed it.
    pub sender: Uuid,
    /// Tries begun when it was claimed: whoever claimed it twice carries it once.
    pub tries: i32,
    /// For people: the server's name.
    pub sender_name: String,
    /// What is about to be sent.
    pub request: TryRequest,
    /// The lease from now on.
    pub lease: Duration,
}

/// The end of a try, or of a delivery without one.
#[derive(Debug, Clone)]
pub struct TryRecord {
    /// Of which delivery.
    pub delivery_id: DeliveryId,
    /// To whom.
    pub subscription_id: SubscriptionId,
    /// The subscription's version when it was claimed: of another one the end says nothing, neither good nor bad.
    pub version: i64,
    /// Who claimed it.
    pub sender: Uuid,
    /// Which try and what came of it; `None`: it was not sent (filtered, gone, or not possible now).
    pub ended: Option<(i32, TryEnd)>,
    /// What becomes of the delivery.
    pub next: Next,
    /// Nothing is sent to the subscription for this time.
    pub pause: Option<Duration>,
}

/// What became of a [`TryRecord`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Stored.
    Done,
    /// The lease was lost meanwhile: the try is noted, and a success counts; otherwise another server decides.
    Late,
    /// Recorded before, or the delivery is gone.
    Stale,
}

/// One try of a pipeline's `webhook.send`, as its agent tells it.
#[derive(Debug, Clone)]
pub struct SendTry {
    /// `webhook-id`; with the run it names the delivery.
    pub webhook_id: String,
    /// The run.
    pub run_id: RunId,
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// The job.
    pub job_id: JobId,
    /// From 1.
    pub number: i32,
    /// The agent's name.
    pub sender: String,
    /// When it began, by the agent's clock.
    pub began_at: OffsetDateTime,
    /// What was sent.
    pub request: TryRequest,
    /// What came of it.
    pub end: TryEnd,
    /// Whether it was the last one.
    pub last: bool,
}

/// What became of a ping, a resend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// This delivery is on its way.
    As(DeliveryId),
    /// The subscription is disabled; nothing was stored.
    Disabled,
    /// There is no such subscription or delivery, or it cannot be sent again (`webhook.send`).
    Unknown,
}

/// Events and deliveries.
#[async_trait]
pub trait DeliveryStore: Send + Sync {
    /// Takes deliveries that are due, of enabled subscriptions that are not paused, within each one's concurrency (1 for
    /// ordered ones and unproven receivers) and rate, of all servers together; those of one subscription oldest first,
    /// the subscriptions in turn.
    async fn claim_deliveries(&self, claim: DeliveryClaim) -> Result<ClaimedDeliveries>;
    /// Keeps the payload of an event, unless it has one; the one that is kept. `None` if the event is gone.
    async fn keep_payload(&self, id: EventId, payload: String) -> Result<Option<String>>;
    /// A try begins: its number; `None` if the sender does not have the delivery (any more), or has begun this try
    /// already. Grouped.
    async fn begin_try(&self, new: NewTry) -> Result<Option<i32>>;
    /// A try has ended. Grouped.
    async fn record_try(&self, record: TryRecord) -> Result<Recorded>;
    /// Deliveries whose lease has run out are due again; how many. Settles what [`SEND_ENDS_WITHIN`] says, too.
    async fn expire_deliveries(&self, limit: i64) -> Result<i64>;
    /// Stores a ping with its delivery; `by` for people, `sample` as in [`OutgoingEvent::ping_data`].
    async fn ping_subscription(
        &self,
        id: SubscriptionId,
        by: &str,
        sample: Option<EventName>,
    ) -> Result<Queued>;
    /// Sends one again, whatever became of it: a new delivery of the same event.
    async fn resend(&self, id: DeliveryId) -> Result<Queued>;
    /// How many events a replay would deliver now.
    async fn count_replay(&self, filter: &ReplayFilter) -> Result<i64>;
    /// Stores a replay under an id chosen by the caller (repeating the call stores nothing twice); `None` if its
    /// subscription is unknown.
    async fn begin_replay(&self, id: ReplayId, filter: ReplayFilter) -> Result<Option<Replay>>;
    /// Looks at [`REPLAY_PAGE`] events of the oldest unfinished replay and makes their deliveries; `false` if there is none.
    async fn advance_replays(&self) -> Result<bool>;
    /// One replay.
    async fn replay(&self, id: ReplayId) -> Result<Option<Replay>>;
    /// Of one subscription, newest first.
    async fn replays(&self, id: SubscriptionId, limit: i64) -> Result<Vec<Replay>>;
    /// One event.
    async fn outgoing_event(&self, id: EventId) -> Result<Option<OutgoingEvent>>;
    /// One delivery with its tries in order.
    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Delivery, Vec<DeliveryTry>)>>;
    /// A page, newest first.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>>;
    /// Notes a try of `webhook.send`; `false` if it is noted already, or its run is unknown. No retry follows from it.
    async fn record_send(&self, noted: SendTry) -> Result<bool>;
    /// Forgets deliveries of subscriptions that are gone and what pipelines that are gone sent, deliveries stored longer than this ago that no server has in hand, with their tries, then events without
    /// delivery of that age, and finished replays; at most `limit` of each. How many deliveries and events.
    async fn forget_deliveries(&self, older: Duration, limit: i64) -> Result<i64>;
    /// Deliveries that wait or are in hand, for metrics.
    async fn waiting_deliveries(&self) -> Result<i64>;
}
