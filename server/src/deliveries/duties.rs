//! What nobody asks for: leases that ended, replays under way, receivers that are dead for good, and forgetting.

use super::Deliveries;
use crate::store::Result;
use std::time::Duration;

/// Without a success for so long…
const DISABLE_AFTER: Duration = Duration::from_secs(5 * 24 * 3600);
/// …although so many tries were made, a subscription is disabled.
const DISABLE_FAILURES: i64 = 10;
/// How long deliveries, their tries and events are kept.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Deliveries in one transaction of these duties.
const AT_ONCE: i64 = 500;

impl Deliveries {
    /// Deliveries of servers that died are due again.
    pub async fn expire(&self) -> Result<()> {
        let expired = self.inner.store.expire_deliveries(AT_ONCE).await?;
        if expired > 0 {
            tracing::info!(deliveries = expired, "leases of deliveries ran out");
        }
        Ok(())
    }

    /// A page of each replay, until all are done.
    pub async fn replay(&self) -> Result<()> {
        while self.inner.store.advance_replays().await? {}
        Ok(())
    }

    /// Disables subscriptions whose receivers have been dead for long.
    pub async fn disable_dead(&self) -> Result<()> {
        let store = &self.inner.store;
        for name in store
            .disable_failing(DISABLE_AFTER, DISABLE_FAILURES)
            .await?
        {
            tracing::warn!(
                subscription = name,
                "no success for five days; the subscription is disabled"
            );
        }
        Ok(())
    }

    /// Forgets what was kept long enough.
    pub async fn forget(&self) -> Result<()> {
        while self.inner.store.forget_deliveries(KEPT, AT_ONCE).await? > 0 {}
        Ok(())
    }
}
