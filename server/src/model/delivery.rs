//! Events that subscribers are told, their deliveries, and each try of one.

use super::subscription::{EventName, Subscription, words};
use super::{DeliveryId, EventId, JobId, PipelineId, ReplayId, RunId, SubscriptionId};
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;

/// Bytes of a response's body that are kept with a try; as many as are read.
pub const MAX_KEPT_RESPONSE_BYTES: usize = 64 * 1024;

/// What a transition of a run leaves to be told; the storage adds what it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingFact {
    /// See [`super::derived::event_id`].
    pub id: EventId,
    /// What happened.
    pub name: EventName,
    /// In which pipeline.
    pub pipeline_id: PipelineId,
    /// In which run.
    pub run_id: RunId,
    /// To which job, where it is about one.
    pub job_id: Option<JobId>,
    /// The job's attempt that ended it; 0 where it is about no job.
    pub attempt: i32,
    /// When (store's clock).
    pub at: OffsetDateTime,
    /// The outcome ([`super::run::Outcome::as_str`]), where something is over.
    pub status: Option<&'static str>,
}

/// Something that happened and that somebody is told. Stored only if a subscription wants it, be it a disabled one.
#[derive(Debug, Clone, PartialEq)]
pub struct OutgoingEvent {
    /// Its id: `id` of the body, `webhook-id` of every request.
    pub id: EventId,
    /// In the order in which events were stored.
    pub seq: i64,
    /// What happened.
    pub name: EventName,
    /// In which pipeline; `None` for what is about no run.
    pub pipeline_id: Option<PipelineId>,
    /// In which run.
    pub run_id: Option<RunId>,
    /// To which job.
    pub job_id: Option<JobId>,
    /// The attempt that ended the job, else 0.
    pub attempt: i32,
    /// When.
    pub at: OffsetDateTime,
    /// [`super::run::Outcome::as_str`] of what is over, else empty.
    pub status: String,
    /// What is not to be found elsewhere. `gate-waiting`: `{"gate_id", "name", "message", "expires_at"}`;
    /// `subscription-disabled`: `{"subscription_id", "name", "url", "reason", "failures", "failing_since"}` (of the URL
    /// scheme, host and port); `ping`: see [`Self::ping_data`]; else null.
    pub data: Value,
    /// The body's members after `webhook`, as the text of one JSON object, once built (see `deliveries::payload`).
    pub payload: Option<String>,
}

impl OutgoingEvent {
    /// [`Self::data`] of a ping: who pings, and the event that the receiver wants to see a sample of.
    pub fn ping_data(by: &str, sample: Option<EventName>) -> Value {
        json!({ "by": by, "sample": sample.map(EventName::as_str) })
    }

    /// What the receiver is told that it is: of a ping with a sample the sample's name, so that the receiver's own way
    /// for that event is tried.
    pub fn told_as(&self) -> EventName {
        let sample = match self.name {
            EventName::Ping => self.data.get("sample").and_then(Value::as_str),
            _ => None,
        };
        sample.and_then(EventName::parse).unwrap_or(self.name)
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Waits for its (next) try.
    Pending,
    /// A server has it.
    Sending,
    /// The receiver answered 2xx.
    Delivered,
    /// Given up after the last try.
    Failed,
    /// The subscription's filter is false for it; never sent.
    Filtered,
    /// Given up for another reason than failure: the receiver wants it stopped, or what it is about is gone.
    Dropped,
}

words!(DeliveryState {
    Pending = "pending",
    Sending = "sending",
    Delivered = "delivered",
    Failed = "failed",
    Filtered = "filtered",
    Dropped = "dropped",
});

impl DeliveryState {
    /// Whether it never changes again.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Sending)
    }
}

/// Why there is a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The event happened.
    Event,
    /// Somebody wants one sent again.
    Resend,
    /// Part of a [`Replay`].
    Replay,
    /// Somebody tries the subscription out.
    Ping,
    /// A pipeline's `webhook.send`; the agent sends, the server only keeps the log.
    Send,
}

words!(Origin {
    Event = "event",
    Resend = "resend",
    Replay = "replay",
    Ping = "ping",
    Send = "send",
});

/// One event on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id; not told to the receiver, who knows the event's.
    pub id: DeliveryId,
    /// In the order in which deliveries were stored.
    pub seq: i64,
    /// Why it is.
    pub origin: Origin,
    /// To whom; `None` for [`Origin::Send`].
    pub subscription_id: Option<SubscriptionId>,
    /// The subscription's name when it was stored: part of the body, so that all tries send the same bytes. Of
    /// [`Origin::Send`] the URL without query.
    pub receiver: String,
    /// What is told; `None` for [`Origin::Send`].
    pub event_id: Option<EventId>,
    /// The event's name.
    pub event: Option<EventName>,
    /// `webhook-id`: the event's id, or what `webhook.send` was given.
    pub webhook_id: String,
    /// The pipeline it is about.
    pub pipeline_id: Option<PipelineId>,
    /// The run it is about.
    pub run_id: Option<RunId>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why, for people; empty if there is nothing to say.
    pub reason: String,
    /// Tries begun.
    pub tries: i32,
    /// When it is due; set ⇔ pending.
    pub next_at: Option<OffsetDateTime>,
    /// [`Origin::Resend`]: which one is sent again.
    pub resend_of: Option<DeliveryId>,
    /// [`Origin::Replay`]: which one.
    pub replay_id: Option<ReplayId>,
    /// Stored.
    pub created_at: OffsetDateTime,
    /// Final.
    pub finished_at: Option<OffsetDateTime>,
}

/// How a try went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryState {
    /// Begun; its end was never recorded (yet): it may have reached the receiver.
    Unknown,
    /// 2xx.
    Delivered,
    /// Anything else.
    Failed,
}

words!(TryState { Unknown = "unknown", Delivered = "delivered", Failed = "failed" });

/// What is about to be sent, without secrets. The body is not kept: it follows from event and delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TryRequest {
    /// Without user information and query.
    pub url: String,
    /// `POST`, but for `webhook.send`.
    pub method: String,
    /// In order; values of custom headers are `***`.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub body_bytes: i64,
    /// SHA-256 of the body, hexadecimal.
    pub body_sha256: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TryEnd {
    /// Never [`TryState::Unknown`].
    pub state: TryState,
    /// HTTP status, if the receiver answered.
    pub status: Option<u16>,
    /// Of the response, at most what the client accepts; secrets that came back are `***`.
    pub headers: Vec<(String, String)>,
    /// Beginning of the response's body, up to [`MAX_KEPT_RESPONSE_BYTES`]; secrets that came back are `***`.
    pub body: Bytes,
    /// Why it failed, for people; empty if the status says it.
    pub error: String,
    /// The whole exchange.
    pub duration: Duration,
    /// Until the response's headers were here.
    pub first_byte: Option<Duration>,
    /// The address that was spoken to, with port.
    pub peer: Option<String>,
}

/// One try of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryTry {
    /// From 1, without holes.
    pub number: i32,
    /// When it began.
    pub began_at: OffsetDateTime,
    /// Which server, or which agent.
    pub sender: String,
    /// What was sent.
    pub request: TryRequest,
    /// Set ⇔ recorded; see [`TryState::Unknown`].
    pub end: Option<TryEnd>,
}

impl DeliveryTry {
    /// How it went.
    pub fn state(&self) -> TryState {
        self.end.as_ref().map_or(TryState::Unknown, |end| end.state)
    }
}

/// A delivery that a server has taken, with all it needs to send it.
#[derive(Clone)]
pub struct DueDelivery {
    /// Sending.
    pub delivery: Delivery,
    /// What is told.
    pub event: OutgoingEvent,
    /// To whom.
    pub subscription: Subscription,
}

/// What becomes of a delivery after a try, decided by the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// [`DeliveryState::Delivered`].
    Done,
    /// Another try after this time.
    Again(Duration),
    /// [`DeliveryState::Failed`], with the reason.
    Fail(String),
    /// [`DeliveryState::Dropped`], with the reason.
    Drop(String),
    /// [`DeliveryState::Filtered`]; only before the first try.
    Filter,
}

/// Which past events are delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayWhich {
    /// Those with a delivery that failed or was dropped, and none that was delivered or is on its way.
    Failed,
    /// Those that the subscription wants today and that have no delivery to it: they are older than it, or it was
    /// disabled.
    Missing,
    /// Every one that the subscription wants today.
    All,
}

words!(ReplayWhich { Failed = "failed", Missing = "missing", All = "all" });

/// See [`Replay`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayFilter {
    /// To whom.
    pub subscription_id: SubscriptionId,
    /// Which.
    pub which: ReplayWhich,
    /// Events that happened at this instant or later.
    pub since: OffsetDateTime,
    /// Events that happened before this instant.
    pub until: OffsetDateTime,
    /// Only these; empty is all.
    pub events: Vec<EventName>,
}

/// A request to deliver past events again. It is carried out in pages, each durable, so that whoever dies goes on where
/// it was; the subscription's own limits hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// What.
    pub filter: ReplayFilter,
    /// Events that matched when it was asked for.
    pub expected: i64,
    /// Deliveries made so far.
    pub created: i64,
    /// Whether all are made.
    pub done: bool,
    /// Asked for.
    pub created_at: OffsetDateTime,
}

/// Which deliveries to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// To this subscription.
    pub subscription_id: Option<SubscriptionId>,
    /// About this pipeline.
    pub pipeline_id: Option<PipelineId>,
    /// About this run.
    pub run_id: Option<RunId>,
    /// Of this event.
    pub event_id: Option<EventId>,
    /// Of events of this name.
    pub event: Option<EventName>,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Of this origin.
    pub origin: Option<Origin>,
    /// Stored at this instant or later.
    pub since: Option<OffsetDateTime>,
    /// Stored before this instant.
    pub until: Option<OffsetDateTime>,
    /// Only older than this one.
    pub after: Option<DeliveryId>,
    /// At most so many, 1..=200.
    pub limit: i64,
}
