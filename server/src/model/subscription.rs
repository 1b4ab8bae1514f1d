//! Subscriptions: who outside is told what happens, where, and how.
//!
//! Signing secrets and values of custom headers are sealed by the [`super::vault`]; a CA certificate is public.

use super::{PipelineId, SubscriptionId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use time::OffsetDateTime;

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest URL, in bytes.
pub const MAX_URL_BYTES: usize = 4096;
/// Most secrets that sign at the same time: the current one and those that still may be in use.
pub const MAX_SECRETS: usize = 10;
/// Longest secret, in bytes.
pub const MAX_SECRET_BYTES: usize = 1024;
/// Most custom headers.
pub const MAX_HEADERS: usize = 32;
/// Longest value of a custom header, in bytes.
pub const MAX_HEADER_BYTES: usize = 4096;
/// Largest CA bundle, in bytes of PEM.
pub const MAX_CA_BYTES: usize = 64 * 1024;
/// Requests to one receiver at the same time unless said otherwise.
pub const DEFAULT_CONCURRENCY: i32 = 4;
/// Most requests to one receiver at the same time.
pub const MAX_CONCURRENCY: i32 = 64;
/// Highest rate of one receiver, in requests a second.
pub const MAX_RATE: f64 = 10_000.0;
/// Most waits of a schedule.
pub const MAX_WAITS: usize = 32;
/// Longest single wait of a schedule.
pub const MAX_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most subscriptions of the whole store: every transition that has something to tell looks at all of them.
pub const MAX_SUBSCRIPTIONS: i64 = 10_000;

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $type {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in the database and the API.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Reads what [`Self::as_str`] wrote.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}
pub(super) use words;

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventName {
    /// A run is over, however it ended.
    WorkflowCompleted,
    /// A job is over, however it ended.
    JobCompleted,
    /// An agent has accepted the first job of a run.
    RunStarted,
    /// A run waits for an approval.
    GateWaiting,
    /// A subscription was disabled by the server.
    SubscriptionDisabled,
    /// Somebody tries a subscription out; goes to that one only.
    Ping,
}

words!(EventName {
    WorkflowCompleted = "workflow-completed",
    JobCompleted = "job-completed",
    RunStarted = "run-started",
    GateWaiting = "gate-waiting",
    SubscriptionDisabled = "subscription-disabled",
    Ping = "ping",
});

impl EventName {
    /// Whether it can be subscribed to; a ping comes to whoever is pinged.
    pub fn is_subscribable(self) -> bool {
        self != Self::Ping
    }
}

/// A signing secret as it is stored. The sealed bytes' place is [`secret_place`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey {
    /// Short fingerprint (12 hexadecimal digits of its SHA-256), by which people tell secrets apart.
    pub id: String,
    /// See [`super::vault::Vault::seal`].
    #[serde(with = "sealed_hex")]
    pub sealed: Vec<u8>,
    /// It no longer signs after this instant; `None` for the current one.
    #[serde(with = "time::serde::timestamp::option", default)]
    pub not_after: Option<OffsetDateTime>,
}

/// A custom header as it is stored. The sealed bytes' place is [`header_place`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedHeader {
    /// As it was given; its letters' case is kept where the protocol allows.
    pub name: String,
    /// See [`super::vault::Vault::seal`].
    #[serde(with = "sealed_hex")]
    pub sealed: Vec<u8>,
}

mod sealed_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Where signing secrets of a subscription are sealed for.
pub fn secret_place(id: SubscriptionId) -> String {
    format!("subscription/{id}/secret")
}

/// Where a custom header's value is sealed for; `name` in lower case.
pub fn header_place(id: SubscriptionId, name: &str) -> String {
    format!("subscription/{id}/header/{}", name.to_ascii_lowercase())
}

/// What people say about a subscription. No Debug: it holds sealed bytes and a URL, which may hold a secret.
#[derive(Clone, PartialEq)]
pub struct SubscriptionTerms {
    /// Unique.
    pub name: String,
    /// Where to; absolute, `http` or `https`, without user information.
    pub url: String,
    /// What is told; never empty, no [`EventName::Ping`], sorted.
    pub events: Vec<EventName>,
    /// Only what happens in this pipeline; `None` is all.
    pub pipeline_id: Option<PipelineId>,
    /// Those that sign, the current one first; none: nothing is signed.
    pub secrets: Vec<SealedKey>,
    /// Whether the receiver's certificate must be valid. Never `false` beside custom headers, which would go to anybody.
    pub verify_tls: bool,
    /// Certificates to trust instead of the system's, in PEM.
    pub ca_pem: Option<String>,
    /// Sent with each request.
    pub headers: Vec<SealedHeader>,
    /// Only what this expression is true for (see `pocketci_pipeline::expression`; `payload` is the body).
    pub filter: Option<String>,
    /// Requests at the same time, 1..=[`MAX_CONCURRENCY`].
    pub concurrency: i32,
    /// Most requests a second, of all servers together, above 0 up to [`MAX_RATE`].
    pub rate_per_second: Option<f64>,
    /// Waits before the second, third… try; `None` is the server's. Empty: one try only.
    pub schedule: Option<Vec<Duration>>,
    /// One at a time, in the order of events; one that fails for good no longer blocks those after it.
    pub ordered: bool,
}

/// Why nothing is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisabledReason {
    /// Somebody wants it so.
    Operator,
    /// The receiver answered 410.
    Gone,
    /// The receiver answered with `webhook-delivery: disable`.
    Asked,
    /// No success for a long time.
    Failing,
}

words!(DisabledReason {
    Operator = "operator",
    Gone = "gone",
    Asked = "asked",
    Failing = "failing",
});

/// See [`DisabledReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disabled {
    /// Why.
    pub reason: DisabledReason,
    /// Since when.
    pub since: OffsetDateTime,
}

/// How its receiver has answered lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Tries that failed since the last success (or since it was enabled).
    pub failures: i64,
    /// When the first of those failed.
    pub failing_since: Option<OffsetDateTime>,
    /// The last success, up to a minute late.
    pub succeeded_at: Option<OffsetDateTime>,
    /// Nothing is sent before this instant: the breaker is open, or the receiver asked for a pause.
    pub paused_until: Option<OffsetDateTime>,
}

/// A stored subscription.
#[derive(Clone, PartialEq)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// From 1; grows with every change of `terms` and of `disabled`.
    pub version: i64,
    /// What people say.
    pub terms: SubscriptionTerms,
    /// Set: nothing new is recorded for it, and what waits is not sent.
    pub disabled: Option<Disabled>,
    /// See [`Health`].
    pub health: Health,
    /// Stored.
    pub created_at: OffsetDateTime,
    /// Changed by people, or disabled.
    pub updated_at: OffsetDateTime,
}

impl Subscription {
    /// Whether it is told anything.
    pub fn is_enabled(&self) -> bool {
        self.disabled.is_none()
    }

    /// `active`, `failing` (the last try failed) or `disabled`.
    pub fn state(&self) -> &'static str {
        match (self.disabled, self.health.failures) {
            (Some(_), _) => "disabled",
            (None, 0) => "active",
            (None, _) => "failing",
        }
    }
}
