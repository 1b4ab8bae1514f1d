//! By what a request is known if it comes again: the hook's expression, else the provider's delivery id.

use super::hook::Hook;
use crate::model::dedup::{DedupKey, KeyOrigin};
use crate::model::receipt::Receipt;
use crate::runs::Runs;
use crate::store::Result;
use serde_json::Value;

/// The key of a request; `None` if there is nothing to know it by. An expression that gives nothing keeps nothing away.
pub(super) async fn key(runs: &Runs, hook: &Hook, receipt: &Receipt) -> Result<Option<DedupKey>> {
    if let Some(expression) = &hook.settings.dedup_key {
        let value = match runs.value_of(expression, receipt).await? {
            Ok(Value::Null) => return Ok(None),
            Ok(Value::String(text)) if text.is_empty() => return Ok(None),
            Ok(Value::String(text)) => text,
            Ok(other) => other.to_string(),
            Err(error) => {
                tracing::debug!(hook = %hook.name, %error, "a dedup_key cannot be evaluated");
                return Ok(None);
            }
        };
        let origin = KeyOrigin::Expression;
        return Ok(Some(DedupKey::new(hook.id, origin, "", &value)));
    }
    let Some(delivery) = receipt.delivery_id.as_deref().filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    let key = DedupKey::new(hook.id, KeyOrigin::Delivery, &receipt.provider, delivery);
    Ok(Some(key.of_body(receipt.body_sha256)))
}
