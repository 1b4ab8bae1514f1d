//! Secrets of pipelines: sealed before they are stored, opened for the attempt that asks.

use super::Runs;
use crate::model::endpoint::secret_place;
use crate::model::pipeline::WebhookSecret;
use crate::model::secret::{Scope, SealedSecret, place, webhook_place};
use crate::model::{EndpointId, PipelineId};
use crate::store::{EndpointPut, Result, StoreError};
use pocketci_pipeline::config::vars::{Mode, Vars, interpolate, used};
use serde_json::Value;
use std::collections::BTreeMap;

/// Pipelines looked at in one go while rotating.
const PAGE: i64 = 100;

/// The server's keys do not fit what is stored.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Something may be sealed with keys that this server does not have.
    #[error(
        "the database has secrets encrypted with key {0}, which this server was not given: start it with the same --secret-key-file \
         as the others, or name the earlier key with --old-secret-key-file"
    )]
    Unknown(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Runs {
    /// Makes sure that this server can open everything, and tells the store which key it seals with.
    pub async fn check_keys(&self) -> std::result::Result<(), KeyError> {
        let known = self.vault().key_ids();
        let stored = self.store().secret_keys().await?;
        if let Some(unknown) = stored.iter().find(|id| !known.contains(id)) {
            return Err(KeyError::Unknown(hex::encode(unknown)));
        }
        if let Some(primary) = known.first().filter(|primary| !stored.contains(primary)) {
            self.store().add_secret_key(*primary).await?;
        }
        Ok(())
    }

    /// Sets a secret; `true` if it is new, `None` if its pipeline is unknown.
    pub async fn put_secret(&self, scope: Scope, name: &str, value: &str) -> Result<Option<bool>> {
        let sealed = self.vault().seal(&place(scope, name), value.as_bytes());
        let secret = SealedSecret {
            scope,
            name: name.to_owned(),
            sealed,
        };
        self.store().put_secret(secret).await
    }

    /// Webhook secrets as they are stored.
    pub fn seal_webhook_secrets(
        &self,
        pipeline_name: &str,
        secrets: &[WebhookSecret],
    ) -> Vec<WebhookSecret> {
        let place = webhook_place(pipeline_name);
        let seal =
            |secret: &WebhookSecret| WebhookSecret::new(self.vault().seal(&place, secret.expose()));
        secrets.iter().filter_map(seal).collect()
    }

    /// Those of these secrets that a pipeline sees, open.
    pub async fn open_secrets(
        &self,
        pipeline_id: PipelineId,
        names: &[String],
    ) -> Result<BTreeMap<String, String>> {
        let mut opened = BTreeMap::new();
        for secret in self.store().sealed_secrets(pipeline_id, names).await? {
            let value = self
                .vault()
                .open(&place(secret.scope, &secret.name), &secret.sealed);
            let value = value.map_err(|error| StoreError::Internal(error.into()))?;
            let value =
                String::from_utf8(value).map_err(|error| StoreError::Internal(error.into()))?;
            opened.insert(secret.name, value);
        }
        Ok(opened)
    }

    /// A text of a pipeline with its `((vars))` filled in from secrets; `None` if one is unknown or does not fit.
    pub async fn fill_in(&self, pipeline_id: PipelineId, text: &str) -> Result<Option<String>> {
        let text = Value::from(text);
        let Ok(used) = used(&text) else {
            return Ok(None);
        };
        let names: Vec<String> = used.into_iter().map(|var| var.path).collect();
        let mut vars = Vars::new();
        for (name, value) in self.open_secrets(pipeline_id, &names).await? {
            if vars.set(&name, Value::from(value)).is_err() {
                return Ok(None);
            }
        }
        Ok(match interpolate(&text, &vars, Mode::Strict) {
            Ok(Value::String(text)) => Some(text),
            _ => None,
        })
    }

    /// A secret of an endpoint as it is stored.
    pub fn seal_endpoint_secret(
        &self,
        id: EndpointId,
        secret: &WebhookSecret,
    ) -> Option<WebhookSecret> {
        let sealed = self.vault().seal(&secret_place(id), secret.expose());
        WebhookSecret::new(sealed)
    }

    /// Those of the endpoints; says whether one was changed meanwhile.
    async fn rotate_endpoints(&self, rotated: &mut u64) -> Result<bool> {
        let mut missed = false;
        let mut after: Option<String> = None;
        loop {
            let page = self.store().endpoints(after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(missed);
            };
            after = Some(last.name.clone());
            for mut endpoint in page {
                let place = secret_place(endpoint.id);
                let mut count = 0;
                for secret in &mut endpoint.secrets {
                    if !self.vault().is_old(secret.secret.expose()) {
                        continue;
                    }
                    let open = self.vault().open(&place, secret.secret.expose());
                    let open = open.map_err(|error| StoreError::Internal(error.into()))?;
                    let sealed = WebhookSecret::new(self.vault().seal(&place, &open));
                    if let Some(sealed) = sealed {
                        secret.secret = sealed;
                        count += 1;
                    }
                }
                if count == 0 {
                    continue;
                }
                endpoint.version += 1;
                match self.store().put_endpoint(endpoint).await? {
                    EndpointPut::Done => *rotated += count,
                    EndpointPut::Stale | EndpointPut::NoPipeline => missed = true,
                }
            }
        }
    }

    /// Encrypts everything anew that is not sealed with the primary key; returns how many there were. May be repeated
    /// and interrupted; what is set meanwhile is sealed with the primary key anyway.
    pub async fn rotate_secrets(&self) -> Result<u64> {
        let mut rotated = 0;
        let mut missed = false;
        for secret in self.store().all_sealed_secrets().await? {
            if !self.vault().is_old(&secret.sealed) {
                continue;
            }
            let at = place(secret.scope, &secret.name);
            let open = self.vault().open(&at, &secret.sealed);
            let open = open.map_err(|error| StoreError::Internal(error.into()))?;
            let sealed = self.vault().seal(&at, &open);
            rotated += u64::from(self.store().reseal_secret(secret, sealed).await?);
        }
        let mut after: Option<String> = None;
        loop {
            let page = self.store().pipelines(after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for pipeline in page {
                let old = |secret: &&WebhookSecret| self.vault().is_old(secret.expose());
                let count = pipeline.webhook_secrets.iter().filter(old).count() as u64;
                if count == 0 {
                    continue;
                }
                let (id, version, name) = (pipeline.id, pipeline.version, pipeline.name.clone());
                let open = self.opened(pipeline)?;
                let sealed = self.seal_webhook_secrets(&name, &open.webhook_secrets);
                if self
                    .store()
                    .reseal_webhook_secrets(id, version, sealed)
                    .await?
                {
                    rotated += count;
                } else {
                    missed = true;
                }
            }
        }
        missed |= self.rotate_endpoints(&mut rotated).await?;
        if let (Some(primary), false) = (self.vault().key_ids().first(), missed) {
            self.store().keep_only_secret_key(*primary).await?;
        }
        Ok(rotated)
    }
}
