//! Deliveries and their tries, as the API speaks of them.

use crate::ids::{DeliveryId, EventId, PipelineId, ReplayId, RunId, SubscriptionId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// One event on its way to one receiver.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// Its id; the receiver knows the event's.
    pub id: DeliveryId,
    /// Why there is one: `event`, `resend`, `replay`, `ping`, or `send` for a pipeline's `webhook.send`.
    pub origin: String,
    /// To whom; absent for `send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<SubscriptionId>,
    /// The subscription's name when it was stored; of `send` the URL without query.
    pub receiver: String,
    /// What is told; absent for `send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    /// The event's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The header `webhook-id`: the same over all tries.
    pub webhook_id: String,
    /// The pipeline it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_id: Option<PipelineId>,
    /// The run it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// `pending`, `sending`, `delivered`, `failed`, `filtered` or `dropped`.
    pub state: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Tries begun.
    pub tries: i32,
    /// When the next try is due.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<OffsetDateTime>,
    /// Of a resend: which delivery is sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resend_of: Option<DeliveryId>,
    /// Of a replay: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_id: Option<ReplayId>,
    /// Stored.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    /// When it became final.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<OffsetDateTime>,
}

/// `GET /api/deliveries/:id`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeliveryDetail {
    /// The delivery.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// The body, the same of every try; absent if none was built yet, and for `send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its tries in order.
    pub log: Vec<DeliveryTry>,
}

/// One try.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeliveryTry {
    /// From 1.
    pub number: i32,
    /// `delivered`, `failed`, or `unknown`: begun, and its end was never recorded.
    pub state: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub began_at: OffsetDateTime,
    /// Which server, or which agent.
    pub sender: String,
    /// What was sent, without secrets.
    pub request: TryRequest,
    /// What came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<TryResponse>,
    /// Why it failed, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The whole exchange, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Until the response's headers were here, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// The address that was spoken to, with port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// See [`DeliveryTry::request`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TryRequest {
    /// `POST`, but for `webhook.send`.
    pub method: String,
    /// Without query, which may be secret.
    pub url: String,
    /// In order; values of custom headers are `***`.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub body_bytes: i64,
    /// SHA-256 of the body.
    pub body_sha256: String,
}

/// See [`DeliveryTry::response`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TryResponse {
    /// HTTP status.
    pub status: u16,
    /// In order.
    pub headers: Vec<(String, String)>,
    /// Its beginning, up to 64 KiB, as text.
    pub body: String,
}

/// `POST /api/deliveries/replay`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayDeliveries {
    /// To whom: name or id.
    pub subscription: String,
    /// `failed` (the default): events whose delivery failed or was dropped. `missing`: events it wants today and never was
    /// told. `all`: both, and those that were delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub which: Option<String>,
    /// Events that happened at this instant or later.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub since: OffsetDateTime,
    /// Events that happened before this instant; now if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<OffsetDateTime>,
    /// Only these; absent is all that the subscription wants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
}

/// A replay, or with `dry_run` what it would be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Replay {
    /// Its id; absent for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ReplayId>,
    /// To whom.
    pub subscription_id: SubscriptionId,
    /// `failed`, `missing` or `all`.
    pub which: String,
    /// Events that match.
    pub expected: i64,
    /// Deliveries made so far.
    pub created: i64,
    /// Whether all are made.
    pub done: bool,
}
