//! What the caller of a webhook is told when its run is stored and the pipeline has said nothing.

use crate::model::receipt::{Answer, Receipt};
use crate::model::{PipelineId, ReceiptId, RunId};
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;

/// The status of the answer.
pub const STATUS: u16 = 202;
/// The word for a run of which nothing else is known.
pub const ACCEPTED: &str = "accepted";

/// A run that was stored for a request.
pub struct Accepted {
    /// The request.
    pub receipt_id: ReceiptId,
    /// The provider's id of the delivery.
    pub delivery_id: Option<String>,
    /// The run.
    pub run_id: RunId,
    /// Of which pipeline.
    pub pipeline_id: PipelineId,
}

impl Accepted {
    /// The body; `status` is the run's, as far as it is known.
    pub fn body(&self, status: &str) -> Value {
        let mut body = json!({
            "run_id": self.run_id,
            "pipeline_id": self.pipeline_id,
            "receipt_id": self.receipt_id,
            "status": status,
        });
        if let Some(delivery) = &self.delivery_id {
            body["delivery_id"] = delivery.clone().into();
        }
        body
    }

    /// The same as a receipt keeps it that is written now.
    pub(super) fn answer(&self, receipt: &Receipt) -> Answer {
        let lasted = OffsetDateTime::now_utc() - receipt.received_at;
        let lasted = Duration::try_from(lasted).unwrap_or_default();
        Answer::new(STATUS, self.body(ACCEPTED).to_string().as_bytes(), lasted)
    }
}
