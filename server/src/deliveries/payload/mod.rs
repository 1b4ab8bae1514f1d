//! What subscribers are told about an event: everything of the body that comes after `webhook`.
//!
//! The body is `{"id", "type", "happened_at", "webhook": {"id", "name"}, …}` in this order (CircleCI's); the sender writes
//! the four first members from event and delivery, and then those of the payload.

use crate::model::delivery::OutgoingEvent;
use crate::store::{Result, Store};
use serde_json::json;

/// The text of a JSON object with the members after `webhook`, in order; `None` if what the event is about is gone for
/// good (its run was deleted). It is built once and kept with the event, so that every try sends the same bytes.
pub async fn build(store: &dyn Store, event: &OutgoingEvent) -> Result<Option<String>> {
    let pipeline = match event.pipeline_id {
        Some(id) => store.pipeline(id).await?,
        None => None,
    };
    let object = json!({
        "pipeline_id": event.pipeline_id,
        "pipeline_name": pipeline.map(|pipeline| pipeline.name),
        "run_id": event.run_id,
        "job_id": event.job_id,
        "status": event.status,
        "data": event.data,
    });
    Ok(Some(object.to_string()))
}
