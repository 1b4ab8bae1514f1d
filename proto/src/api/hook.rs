//! How webhooks are taken: settings of a pipeline's own URL and of endpoints, and endpoints as the API speaks of them.

use crate::ids::{EndpointId, PipelineId};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// How webhooks of one receiving point are taken. Absent is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// The one provider whose requests are taken (`github`, `slack`, `standard`, `custom`, …); others' are refused. With
    /// `learn` it is the sender of the first request whose signature fits. By default it is known by the headers of each
    /// request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// How requests are signed, if `provider` is `custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub custom: Option<Value>,
    /// What else the provider lets one choose (a tolerance of its clock, say).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub options: Option<Value>,
    /// `none` says that an endpoint shall take everybody's requests; without it an endpoint must have a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// An expression over the request (as in `webhookTrigger`): if it gives anything but `true`, nothing is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// An expression whose value names what happened: a second request with the same value starts nothing while the
    /// first one's run goes on or has succeeded. By default the provider's delivery id tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup_key: Option<String>,
    /// With whose rights a run works that an unverified request started; `anonymous` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<RunAs>,
    /// Who answers a provider's handshakes (GitHub's ping, Slack's url_verification …); `server` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Handshakes>,
    /// What the caller is told if the run fails before it has answered: 202 (by default) or 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<u16>,
    /// What the caller is told if nobody listens to the event: 202 (by default) or 404.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_unrouted: Option<u16>,
    /// What the caller is told while the pipeline is paused: 202 (by default), and the run begins when it goes on, or
    /// 409, and nothing is started. Listeners of events always wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_paused: Option<u16>,
    /// How long the caller waits for `http.respond`, in milliseconds; never longer than the server's --webhook-timeout
    /// and the provider's patience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_within_ms: Option<u64>,
    /// Largest body, in bytes; never larger than the server's --max-body-bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<u64>,
    /// Methods that start something; by default those the provider uses, or GET, POST, PUT and PATCH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Most requests in a minute, counted by each server for itself; unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_minute: Option<u32>,
}

/// See [`WebhookSettings::auth`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Everybody may send.
    None,
}

/// See [`WebhookSettings::run_as`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunAs {
    /// Without secrets.
    Anonymous,
    /// As any other run of the pipeline.
    Pipeline,
}

/// See [`WebhookSettings::handshake`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Handshakes {
    /// The server, at once.
    Server,
    /// The pipeline, as any other request.
    Pipeline,
}

/// An event that a pipeline listens to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Its key, for example `webhook.orders`.
    pub event: String,
    /// An expression over the message: if it gives anything but `true`, nothing is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Reads one [`Listen`] or a list of them.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Listen>, D::Error> {
    let value = match Value::deserialize(from)? {
        Value::Null => return Ok(Vec::new()),
        Value::Array(all) => Value::Array(all),
        one => Value::Array(vec![one]),
    };
    serde_json::from_value(value).map_err(serde::de::Error::custom)
}

/// `PUT /api/endpoints/:name`: creates a webhook endpoint or changes one; what is absent stays.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutEndpoint {
    /// Name or id of the pipeline that its requests start. One of this and `event` is needed for a new endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Key of the event whose listeners its requests start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Its only secret from now on; it can never be read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether it takes requests; yes by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// A merge patch of the stored [`WebhookSettings`]: what is absent stays, null goes back to the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<WebhookSettings>)]
    pub settings: Option<Value>,
}

/// A webhook endpoint; secrets are never shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// Its id, for the API; it is not the secret id in its URL.
    pub id: EndpointId,
    /// Unique name.
    pub name: String,
    /// Whether it takes requests.
    pub enabled: bool,
    /// The pipeline that its requests start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_id: Option<PipelineId>,
    /// Key of the event whose listeners its requests start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// How its requests are taken.
    pub settings: WebhookSettings,
    /// Its secrets, newest first.
    pub secrets: Vec<EndpointKey>,
    /// The secret ids its URLs may have, newest first; `id` is the first part of each.
    pub uuids: Vec<EndpointKey>,
    /// When it was first set.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: OffsetDateTime,
}

/// A secret, or a secret id, by what may be shown of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointKey {
    /// Tells it from others; receipts name it as `secret_id`.
    pub id: String,
    /// Until when it is taken; absent if for ever.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_after: Option<OffsetDateTime>,
}

/// Answer of changes to an endpoint.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct SavedEndpoint {
    /// As stored now.
    pub endpoint: Endpoint,
    /// Whether it did not exist before.
    pub created: bool,
    /// The new secret id of its URL, shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Its URL without the server's address, shown with `uuid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// `POST /api/endpoints/:id/rotate` and `/rotate-uuid`.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateEndpoint {
    /// The new secret (of `/rotate` only); it can never be read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How long the earlier ones are taken still, in seconds; a day by default, 0 ends them now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u64>,
}
