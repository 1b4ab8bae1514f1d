//! A request's body that is too large for its receipt's row: pages under an id of their own.

use std::time::Duration;
use uuid::Uuid;

/// Larger bodies are kept in pages, smaller ones in the receipt; in bytes.
pub const MAX_INLINE_BYTES: usize = pocketci_proto::INLINE_BODY_BYTES;
/// How long a body is kept that no receipt names: longer than it takes to come, or to store the receipt.
pub const UNCLAIMED_KEPT: Duration = Duration::from_secs(3 * 3600);

/// Names the pages of one body; receipts of the same request share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyId(pub Uuid);

impl BodyId {
    /// A new one.
    #[allow(clippy::new_without_default)] // a default that differs each time would surprise
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}
