//! What tasks keep between jobs: caches of this agent, by pipeline, job, step and path.

use crate::container::{Driver, DriverError, Volume};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The label with a cache's key.
pub(crate) const CACHE_LABEL: &str = "pocketci.task-cache";
/// Most caches of an agent; the one that was not used for longest goes.
const MAX_CACHES: usize = 256;

/// See the module. Nothing is looked up before the first use.
#[derive(Default, Clone)]
pub struct TaskCaches {
    kept: Arc<Mutex<BTreeMap<Name, Kept>>>,
}

type Name = (&'static str, String);

struct Kept {
    volume: Volume,
    used: Arc<std::sync::Mutex<Used>>,
    driver: Arc<dyn Driver>,
}

#[derive(Clone, Copy)]
enum Used {
    Now,
    Until(Instant),
}

impl Kept {
    fn used(&self) -> Used {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the time of a lease.
    fn take(&self) -> Lease {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Used::Now;
        Lease {
            volume: self.volume.clone(),
            is_new: false,
            used: self.used.clone(),
        }
    }
}

/// A cache that a task asks for.
pub(crate) struct CacheWanted {
    pub(crate) key: String,
    /// Forgotten when it was not used for so long.
    pub(crate) ttl: Option<Duration>,
    /// Of the agent.
    pub(crate) labels: BTreeMap<String, String>,
}

/// A cache that nobody else uses meanwhile; what was written is kept for the next task.
pub(crate) struct Lease {
    volume: Volume,
    is_new: bool,
    used: Arc<std::sync::Mutex<Used>>,
}

impl TaskCaches {
    /// The cache, created if it is not there; `None` while another task has it.
    pub(crate) async fn lend(
        &self,
        driver: &Arc<dyn Driver>,
        wanted: CacheWanted,
    ) -> Result<Option<Lease>, DriverError> {
        let mut kept = self.kept.lock().await;
        let name = (driver.name().as_str(), wanted.key.clone());
        if let Some(found) = kept.get(&name) {
            let Used::Until(used) = found.used() else {
                return Ok(None);
            };
            let is_stale = wanted.ttl.is_some_and(|ttl| used.elapsed() > ttl);
            if !is_stale && driver.has_volume(&found.volume).await {
                return Ok(Some(found.take()));
            }
            driver.remove_volume(&found.volume).await;
            kept.remove(&name);
        }
        let (volume, is_new) = match earlier(driver, &wanted).await? {
            Some(volume) => (volume, false),
            None => {
                let mut labels = wanted.labels;
                labels.insert(CACHE_LABEL.to_owned(), wanted.key);
                (driver.create_volume("cache", labels).await?, true)
            }
        };
        let made = Kept {
            volume,
            used: Arc::new(std::sync::Mutex::new(Used::Now)),
            driver: driver.clone(),
        };
        let mut lease = made.take();
        lease.is_new = is_new;
        kept.insert(name, made);
        make_room(&mut kept).await;
        Ok(Some(lease))
    }
}

/// One that an earlier process of this agent made.
async fn earlier(
    driver: &Arc<dyn Driver>,
    wanted: &CacheWanted,
) -> Result<Option<Volume>, DriverError> {
    let found = driver.labelled_volumes(CACHE_LABEL).await?;
    let is_ours = |labels: &BTreeMap<String, String>| {
        labels.get(CACHE_LABEL) == Some(&wanted.key)
            && wanted
                .labels
                .iter()
                .all(|(name, value)| labels.get(name) == Some(value))
    };
    let mut ours = found.into_iter().filter(|(_, labels)| is_ours(labels));
    Ok(ours.next().map(|(volume, _)| volume))
}

async fn make_room(kept: &mut BTreeMap<Name, Kept>) {
    while kept.len() > MAX_CACHES {
        let unused = kept.iter().filter_map(|(name, cache)| match cache.used() {
            Used::Now => None,
            Used::Until(used) => Some((used, name)),
        });
        let oldest = unused.min().map(|(_, name)| name.clone());
        let Some(name) = oldest else {
            return;
        };
        if let Some(cache) = kept.remove(&name) {
            cache.driver.remove_volume(&cache.volume).await;
        }
    }
}

impl Lease {
    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Whether it is empty, as nobody had it before.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Used::Until(Instant::now());
    }
}
