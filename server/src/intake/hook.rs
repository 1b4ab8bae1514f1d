//! A receiving point: a pipeline's own URL or an endpoint, with everything that decides about a request to it.

use super::providers::{Binding, ProviderKind};
use crate::model::endpoint::{Endpoint, Target, fingerprint, is_active};
use crate::model::pipeline::{Pipeline, WebhookSecret};
use crate::model::webhook::binding;
use crate::model::{EndpointId, PipelineId};
use crate::store::StoreError;
use http::Method;
use pocketci_proto::api::WebhookSettings;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// A receiving point as it is now. Holds secrets: no Debug.
pub struct Hook {
    /// The pipeline's or endpoint's id.
    pub id: Uuid,
    /// Its name, for the log.
    pub name: String,
    /// The endpoint, unless it is a pipeline's own URL.
    pub endpoint_id: Option<EndpointId>,
    /// The pipeline's version, if it is a pipeline's own URL: what is decided with it holds for this one only.
    pub version: Option<i64>,
    /// What its requests start.
    pub target: Target,
    /// Whether it takes requests.
    pub enabled: bool,
    /// To whom it listens.
    pub binding: Binding,
    /// How.
    pub settings: WebhookSettings,
    /// Those that are taken now, newest first.
    pub secrets: Vec<WebhookSecret>,
    /// Names the secret id in the URL, where that is all the credential there is.
    pub token: Option<String>,
}

/// Stored settings were checked when they were saved; another release may have stored them.
fn stored_binding(settings: &WebhookSettings) -> Result<Binding, StoreError> {
    binding(settings).map_err(|error| StoreError::Internal(error.into()))
}

impl Hook {
    /// A pipeline's own URL.
    pub fn of_pipeline(pipeline: &Pipeline) -> Result<Self, StoreError> {
        let settings = pipeline.settings.webhook.clone().unwrap_or_default();
        Ok(Self {
            id: pipeline.id.0,
            name: pipeline.name.clone(),
            endpoint_id: None,
            version: Some(pipeline.version),
            target: Target::Pipeline(pipeline.id),
            enabled: true,
            binding: stored_binding(&settings)?,
            settings,
            secrets: pipeline.webhook_secrets.clone(),
            token: None,
        })
    }

    /// An endpoint whose secrets are open, found by this secret id.
    pub fn of_endpoint(
        endpoint: &Endpoint,
        uuid_hash: &[u8; 32],
        now: OffsetDateTime,
    ) -> Result<Self, StoreError> {
        let binding = stored_binding(&endpoint.settings)?;
        let active = endpoint
            .secrets
            .iter()
            .filter(|secret| is_active(secret.not_after, now));
        let uuid = endpoint.uuids.iter().find(|uuid| uuid.hash == *uuid_hash);
        let is_token = binding.kind == Some(ProviderKind::Token) && endpoint.secrets.is_empty();
        Ok(Self {
            id: endpoint.id.0,
            name: endpoint.name.clone(),
            endpoint_id: Some(endpoint.id),
            version: None,
            target: endpoint.target.clone(),
            enabled: endpoint.enabled,
            settings: endpoint.settings.clone(),
            secrets: active.map(|secret| secret.secret.clone()).collect(),
            token: uuid.filter(|_| is_token).map(|uuid| uuid.prefix.clone()),
            binding,
        })
    }

    /// Whether a request must be signed. An endpoint whose secrets have all come to their end lets nobody in.
    pub fn lacks_secrets(&self) -> bool {
        self.endpoint_id.is_some()
            && self.secrets.is_empty()
            && self.token.is_none()
            && self.settings.auth.is_none()
    }

    /// How receipts name a secret.
    pub fn secret_id(&self, secret: usize) -> Option<String> {
        let secret = self.secrets.get(secret)?;
        Some(fingerprint(self.id, secret.expose()))
    }

    /// The pipeline it starts, if it is for one.
    pub fn pipeline_id(&self) -> Option<PipelineId> {
        match &self.target {
            Target::Pipeline(id) => Some(*id),
            Target::Event(_) => None,
        }
    }

    /// Methods that start something; `None` for any but those that only look.
    pub fn methods(&self, provider: ProviderKind) -> Option<Vec<Method>> {
        if let Some(chosen) = &self.settings.methods {
            let known = chosen
                .iter()
                .map(|name| Method::from_bytes(name.as_bytes()));
            return Some(known.filter_map(Result::ok).collect());
        }
        let used = provider.methods();
        (!used.is_empty()).then(|| used.to_vec())
    }

    /// How long a caller waits at most: the shortest of the server's, the hook's and the provider's patience.
    pub fn reply_within(&self, provider: ProviderKind, server: Duration) -> Duration {
        let own = self.settings.reply_within_ms.map(Duration::from_millis);
        [own, provider.reply_within()]
            .into_iter()
            .flatten()
            .fold(server, Duration::min)
    }

    /// The largest body it takes.
    pub fn max_body_bytes(&self, server: usize) -> usize {
        let own = self.settings.max_body_bytes;
        let own = own.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        own.map_or(server, |limit| limit.min(server))
    }
}
