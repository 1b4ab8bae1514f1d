//! Verbs of large bodies: see [`crate::model::body`]. They come and go page by page, never as a whole.

use super::Result;
use crate::model::body::BodyId;
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;

/// Large request bodies.
#[async_trait]
pub trait BodyStore: Send + Sync {
    /// Stores a page, 1 to [`pocketci_proto::PAGE_BYTES`] bytes; pages count from 1. A repeated one changes nothing.
    async fn add_body_page(&self, body: BodyId, seq: i64, data: Bytes) -> Result<()>;
    /// A page; `None` behind the last one, and if the body was forgotten.
    async fn body_page(&self, body: BodyId, seq: i64) -> Result<Option<Bytes>>;
    /// Forgets a body at once, unless a receipt names it, or is being stored that does; whether it is gone now.
    async fn drop_body(&self, body: BodyId) -> Result<bool>;
    /// Forgets bodies that began so long ago and that no receipt names; at most `limit`. How many.
    async fn forget_bodies(&self, unclaimed: Duration, limit: i64) -> Result<u64>;
}
