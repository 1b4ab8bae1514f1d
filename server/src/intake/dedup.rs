//! By what a request is known if it comes again: the hook's expression, else the provider's delivery id.

use super::hook::Hook;
use crate::model::dedup::{DedupKey, KeyOrigin};
use crate::model::receipt::Receipt;
use crate::runs::Runs;
use serde_json::Value;

/// The key of a request; `None` if there is nothing to know it by. An expression that gives nothing keeps nothing away.
pub(super) async fn key(runs: &Runs, hook: &Hook, receipt: &Receipt) -> Option<DedupKey> {
    if let Some(expression) = &hook.settings.dedup_key {
        let value = match runs.value_of(expression, receipt).await {
            Ok(Value::Null) => return None,
            Ok(Value::String(text)) if text.is_empty() => return None,
            Ok(Value::String(text)) => text,
            Ok(other) => other.to_string(),
            Err(error) => {
                tracing::debug!(hook = %hook.name, %error, "a dedup_key cannot be evaluated");
                return None;
            }
        };
        let origin = KeyOrigin::Expression;
        return Some(DedupKey::new(hook.id, origin, "", &value));
    }
    let delivery = receipt.delivery_id.as_deref().filter(|id| !id.is_empty())?;
    let key = DedupKey::new(hook.id, KeyOrigin::Delivery, &receipt.provider, delivery);
    Some(key.of_body(receipt.body_sha256))
}
