//! A receiving point that learns who sends to it: the first request that proves to know its secret binds it.

use super::decide::Sender;
use super::{Hook, Intake};
use crate::model::PipelineId;
use crate::model::webhook::{LEARN, check};
use crate::store::{EndpointPut, StoreError};
use pocketci_proto::api::WebhookSettings;

impl Intake {
    /// Binds a receiving point that is to learn to this sender; `true` if it is another one now than was decided on.
    ///
    /// Of two senders at the same time one binds it, and the other one is asked about again. Nobody who has not signed
    /// teaches anything.
    pub(super) async fn learn(&self, hook: &Hook, sender: &Sender) -> Result<bool, StoreError> {
        if hook.settings.provider.as_deref() != Some(LEARN) || !sender.verified {
            return Ok(false);
        }
        let learnt = WebhookSettings {
            provider: Some(sender.provider.as_str().to_owned()),
            ..hook.settings.clone()
        };
        if let Err(reason) = check(&learnt) {
            tracing::warn!(
                hook = hook.name,
                reason,
                "cannot bind the webhook to its sender"
            );
            return Ok(false);
        }
        let bound = match (hook.endpoint_id, hook.version) {
            (Some(id), _) => {
                let Some(mut endpoint) = self.runs.store().endpoint(id).await? else {
                    return Ok(true);
                };
                if endpoint.settings != hook.settings {
                    return Ok(true);
                }
                endpoint.version += 1;
                endpoint.settings = learnt;
                self.runs.store().put_endpoint(endpoint).await? == EndpointPut::Done
            }
            (None, Some(version)) => {
                let id = PipelineId(hook.id);
                let Some(pipeline) = self.runs.store().pipeline(id).await? else {
                    return Ok(true);
                };
                let mut settings = pipeline.settings;
                settings.webhook = Some(learnt);
                let store = self.runs.store();
                store.set_settings(id, version, settings).await?
            }
            (None, None) => return Ok(false),
        };
        self.forget_endpoints();
        if bound {
            let provider = sender.provider.as_str();
            tracing::info!(
                hook = hook.name,
                provider,
                "the webhook is bound to its sender"
            );
        }
        Ok(true)
    }
}
