//! Verbs of receipts for operators: found again, looked at, and forgotten in time.

use super::Result;
use crate::model::receipt::{Receipt, Verdict};
use crate::model::{EndpointId, PipelineId, ReceiptId, RunId};
use async_trait::async_trait;
use std::time::Duration;
use time::OffsetDateTime;

/// Most receipts of a page.
pub const MAX_RECEIPTS: i64 = 200;

/// Which receipts: those for which everything holds that is said.
#[derive(Debug, Clone, Default)]
pub struct ReceiptFilter {
    /// Sent to this pipeline, or to an endpoint for it.
    pub pipeline_id: Option<PipelineId>,
    /// Sent to this endpoint.
    pub endpoint_id: Option<EndpointId>,
    /// Messages of this event.
    pub event_key: Option<String>,
    /// What was decided.
    pub verdict: Option<Verdict>,
    /// Whose.
    pub provider: Option<String>,
    /// The provider's event.
    pub event_type: Option<String>,
    /// The provider's id of the delivery.
    pub delivery_id: Option<String>,
    /// Contained in the reason or the URL, as it is written.
    pub text: Option<String>,
    /// Not before.
    pub from: Option<OffsetDateTime>,
    /// Before.
    pub until: Option<OffsetDateTime>,
    /// Done again as this receipt says.
    pub replay_of: Option<ReceiptId>,
    /// Whether those count that were done again from an earlier receipt.
    pub without_replays: bool,
    /// Oldest first instead of newest first.
    pub oldest_first: bool,
    /// Only those behind this one, in that order.
    pub after: Option<ReceiptId>,
    /// At most so many, 1..=[`MAX_RECEIPTS`].
    pub limit: i64,
}

/// Receipts for operators.
#[async_trait]
pub trait ReceiptLog: Send + Sync {
    /// A page in the order of ids, which is that of time; without the bytes of bodies.
    async fn receipts(&self, filter: ReceiptFilter) -> Result<Vec<Receipt>>;
    /// How many there are, whatever the page; it stops counting at `at_most`.
    async fn count_receipts(&self, filter: ReceiptFilter, at_most: i64) -> Result<i64>;
    /// The receipts, among these, that were done again, by any replay.
    async fn replayed(
        &self,
        of: &[ReceiptId],
    ) -> Result<Vec<(ReceiptId, ReceiptId, Option<RunId>)>>;
    /// Forgets receipts that are older than this, oldest first, but none that a run which is not over was started by;
    /// at most `limit`. How many.
    async fn forget_receipts(&self, kept: Duration, limit: i64) -> Result<u64>;
    /// Forgets bytes and form fields of the oldest receipts, until those of all others have at most `max_bytes`, but none
    /// that a run which is not over was started by; at most `limit`. How many.
    async fn forget_receipt_bodies(&self, max_bytes: i64, limit: i64) -> Result<u64>;
}
