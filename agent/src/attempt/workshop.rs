//! What all attempts of an agent share.

use super::labels::agent_labels;
use crate::config::AgentConfig;
use crate::container::Driver;
use crate::outside::Outside;
use crate::plan::TaskCaches;
use crate::resource::{CacheLimits, GetCache};
use crate::shelf::Shelf;
use pocketci_pipeline::expression::ExpressionCache;
use pocketci_proto::api::Driver as DriverName;
use std::sync::Arc;

/// See the module.
pub struct Workshop {
    /// The agent's settings.
    pub config: AgentConfig,
    /// Where steps run.
    pub drivers: Vec<Arc<dyn Driver>>,
    /// Compiled trigger expressions.
    pub expressions: ExpressionCache,
    /// HTTP and mail, within what the operator allows.
    pub outside: Outside,
    /// What tasks of YAML pipelines keep between jobs.
    pub caches: TaskCaches,
    /// Steps of YAML pipelines that can be looked into.
    pub(crate) shelf: Shelf,
    /// What gets of YAML pipelines fetched, for each driver.
    get_caches: Vec<Arc<GetCache>>,
}

impl Workshop {
    /// A workshop with these settings.
    pub fn new(config: AgentConfig, drivers: Vec<Arc<dyn Driver>>) -> Self {
        let labels = agent_labels(&config);
        let get_caches = drivers.iter().map(|driver| {
            let cache = GetCache::new(driver.clone(), labels.clone(), CacheLimits::default());
            Arc::new(cache)
        });
        Self {
            outside: Outside::new(config.outside.clone()),
            get_caches: get_caches.collect(),
            caches: TaskCaches::default(),
            shelf: Shelf::new(config.keep_failed, labels),
            config,
            drivers,
            expressions: ExpressionCache::default(),
        }
    }

    /// What gets keep on this driver, one of the workshop's.
    pub(crate) fn get_cache(&self, driver: &Arc<dyn Driver>) -> Arc<GetCache> {
        let known = self.drivers.iter().zip(&self.get_caches);
        let mut of_driver = known.filter(|(known, _)| known.name() == driver.name());
        match of_driver.next() {
            Some((_, cache)) => cache.clone(),
            None => {
                let labels = agent_labels(&self.config);
                Arc::new(GetCache::new(
                    driver.clone(),
                    labels,
                    CacheLimits::default(),
                ))
            }
        }
    }

    /// Removes what was kept between jobs, where nobody comes after this one.
    pub async fn clear_caches(&self) {
        for cache in &self.get_caches {
            cache.clear().await;
        }
        self.caches.clear().await;
    }

    pub(crate) fn driver(&self, name: DriverName) -> Option<Arc<dyn Driver>> {
        self.drivers
            .iter()
            .find(|driver| driver.name() == name)
            .cloned()
    }
}
