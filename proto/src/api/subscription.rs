//! Subscriptions, as the API speaks of them. Secrets and values of headers go in and never come out.

use crate::ids::{PipelineId, SubscriptionId};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// `PUT /api/subscriptions/:name`: what is absent stays as it is stored, null goes back to the default. It may hold
/// secrets: no Debug.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSubscription {
    /// Another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where requests go: `https://…` or `http://…`, without user name and password. Needed for a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What is told: `workflow-completed`, `job-completed`, `run-started`, `gate-waiting`, `subscription-disabled`. Needed
    /// for a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Only what happens in this pipeline (name or id); null is all.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub pipeline: Option<Option<String>>,
    /// What requests are signed with from now on, alone; null: nothing is signed. `…/rotate` changes it without a gap.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub secret: Option<Option<String>>,
    /// Whether the receiver's certificate must be valid; true by default. Cannot be false beside `headers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_tls: Option<bool>,
    /// Certificates to trust instead of the well-known ones, in PEM; null removes them.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub ca_pem: Option<Option<String>>,
    /// Headers of every request, by name; null removes one, what is not named stays.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub headers: BTreeMap<String, Option<String>>,
    /// Only events for which this expression is true; `payload` is the body. Null removes it.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub filter: Option<Option<String>>,
    /// Requests at the same time, 1..=64; 4 by default.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<i32>)]
    pub concurrency: Option<Option<i32>>,
    /// Most requests a second; null is no limit.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<f64>)]
    pub rate_per_second: Option<Option<f64>>,
    /// Seconds to wait before the second, third… try; empty is one try only, null the server's schedule.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<Vec<f64>>)]
    pub schedule_seconds: Option<Option<Vec<f64>>>,
    /// One at a time, in the order of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
}

/// Tells null from what is absent.
fn given<'de, D, T>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(from).map(Some)
}

/// Who outside is told what happens.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    /// Its id; `webhook.id` of every body.
    pub id: SubscriptionId,
    /// Unique name; `webhook.name` of every body.
    pub name: String,
    /// Where requests go.
    pub url: String,
    /// What is told.
    pub events: Vec<String>,
    /// The pipeline it is about; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_id: Option<PipelineId>,
    /// The secrets that sign, the current one first; none: nothing is signed.
    pub secrets: Vec<SecretInfo>,
    /// Whether the receiver's certificate must be valid.
    pub verify_tls: bool,
    /// Certificates to trust instead of the well-known ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Headers of every request; each value is `***`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Only events for which this is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Requests at the same time.
    pub concurrency: i32,
    /// Most requests a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<f64>,
    /// Waits between tries; absent for the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_seconds: Option<Vec<f64>>,
    /// One at a time, in the order of events.
    pub ordered: bool,
    /// `active`, `failing` (the last try failed) or `disabled`.
    pub state: String,
    /// Why it is disabled: `operator`, `gone` (the receiver answered 410), `asked` (by a header) or `failing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    /// Since when it is disabled.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<OffsetDateTime>,
    /// Tries that failed since the last success.
    pub failures: i64,
    /// When the first of those failed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<OffsetDateTime>,
    /// The last success, up to a minute late.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub succeeded_at: Option<OffsetDateTime>,
    /// Nothing is sent before this instant.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paused_until: Option<OffsetDateTime>,
    /// Stored.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    /// Last changed.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: OffsetDateTime,
}

/// A signing secret, without the secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SecretInfo {
    /// Twelve hexadecimal digits of its SHA-256, to tell secrets apart.
    pub id: String,
    /// Always `****`.
    pub secret: String,
    /// It no longer signs after this instant; absent for the current one and for one that is staged.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_after: Option<OffsetDateTime>,
}

/// Answer of `PUT /api/subscriptions/:name`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct PutSubscriptionResult {
    /// As stored now.
    pub subscription: Subscription,
    /// Whether it did not exist before.
    pub created: bool,
    /// What is odd, but accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `POST /api/subscriptions/:id/rotate`. It may hold a secret: no Debug.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSubscription {
    /// The new secret; the server makes one if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How long the old ones go on signing beside the new one; a day by default, 0 is not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_seconds: Option<u64>,
    /// Only add the new one to `webhook-signature`; `circleci-signature` stays with the old one until `cut_over`.
    #[serde(default)]
    pub stage: bool,
    /// Make the staged one the current one; `secret` must be absent.
    #[serde(default)]
    pub cut_over: bool,
}

/// Answer of `POST /api/subscriptions/:id/rotate`. It may hold a secret: no Debug.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct RotatedSubscription {
    /// As stored now.
    pub subscription: Subscription,
    /// The secret that the server made; shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Answer of `POST /api/subscriptions/:id/ping` and of a resend: a delivery is on its way.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Sending {
    /// Look at it with `GET /api/deliveries/:id`.
    pub delivery_id: crate::ids::DeliveryId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_not_the_same_as_absent() {
        let put: PutSubscription =
            serde_json::from_str(r#"{"secret":null,"filter":"true"}"#).unwrap();
        assert_eq!(put.secret, Some(None));
        assert_eq!(put.filter, Some(Some("true".into())));
        assert_eq!(put.pipeline, None);
        let text = serde_json::to_string(&put).unwrap();
        assert_eq!(text, r#"{"secret":null,"filter":"true"}"#);
    }
}
