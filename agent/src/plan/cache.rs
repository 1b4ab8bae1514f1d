//! What tasks keep between jobs: caches of this agent, by pipeline, job, step and path.

use crate::container::{Driver, DriverError, Owner, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The label with a cache's key.
pub(crate) const TASK_CACHE_LABEL: &str = "pocketci.task-cache";
/// Most caches of an agent; the one that was not used for longest goes.
const MAX_CACHES: usize = 256;

/// See the module. Nothing is looked up before the first use.
#[derive(Default, Clone)]
pub struct TaskCaches {
    all: Arc<Mutex<All>>,
}

#[derive(Default)]
struct All {
    kept: BTreeMap<Name, Kept>,
    /// Drivers of which it is known what an earlier process left.
    loaded: BTreeSet<&'static str>,
}

type Name = (&'static str, String);

struct Kept {
    volume: Volume,
    used: Arc<std::sync::Mutex<Used>>,
    owner: Arc<std::sync::Mutex<Option<Owner>>>,
    driver: Arc<dyn Driver>,
}

#[derive(Clone, Copy)]
enum Used {
    Now,
    Until(Instant),
}

impl Kept {
    /// Not in use.
    fn new(driver: &Arc<dyn Driver>, volume: Volume) -> Self {
        Self {
            volume,
            used: Arc::new(std::sync::Mutex::new(Used::Until(Instant::now()))),
            owner: Arc::default(),
            driver: driver.clone(),
        }
    }

    fn used(&self) -> Used {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the time of a lease.
    fn take(&self) -> Lease {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Used::Now;
        Lease {
            volume: self.volume.clone(),
            used: self.used.clone(),
            owner: self.owner.clone(),
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
    used: Arc<std::sync::Mutex<Used>>,
    owner: Arc<std::sync::Mutex<Option<Owner>>>,
}

impl TaskCaches {
    /// The cache, created if it is not there; `None` while another task has it.
    pub(crate) async fn lend(
        &self,
        driver: &Arc<dyn Driver>,
        wanted: CacheWanted,
    ) -> Result<Option<Lease>, DriverError> {
        let mut all = self.all.lock().await;
        let All { kept, loaded } = &mut *all;
        if !loaded.contains(driver.name().as_str()) {
            load(kept, driver, &wanted.labels).await?;
            loaded.insert(driver.name().as_str());
        }
        let name = (driver.name().as_str(), wanted.key.clone());
        if let Some(found) = kept.get(&name) {
            let Used::Until(used) = found.used() else {
                return Ok(None);
            };
            let is_stale = wanted.ttl.is_some_and(|ttl| used.elapsed() > ttl);
            if !is_stale && is_there(driver, &found.volume).await? {
                return Ok(Some(found.take()));
            }
            driver.remove_volume(&found.volume).await;
            kept.remove(&name);
        }
        let mut labels = wanted.labels;
        labels.insert(TASK_CACHE_LABEL.to_owned(), wanted.key);
        let made = Kept::new(driver, driver.create_volume("cache", labels).await?);
        let lease = made.take();
        kept.insert(name, made);
        make_room(kept).await;
        Ok(Some(lease))
    }

    /// Removes those that no task uses.
    pub(crate) async fn clear(&self) {
        let mut all = self.all.lock().await;
        let unused = |cache: &Kept| matches!(cache.used(), Used::Until(_));
        for cache in all.kept.values().filter(|cache| unused(cache)) {
            cache.driver.remove_volume(&cache.volume).await;
        }
        all.kept.retain(|_, cache| !unused(cache));
    }
}

/// Those that an earlier process of this agent made; when they were used is not known, so their time begins now.
async fn load(
    kept: &mut BTreeMap<Name, Kept>,
    driver: &Arc<dyn Driver>,
    agent: &BTreeMap<String, String>,
) -> Result<(), DriverError> {
    for (volume, labels) in driver.labelled_volumes(TASK_CACHE_LABEL).await? {
        let mut ours = agent.iter();
        let Some(key) = labels.get(TASK_CACHE_LABEL) else {
            continue;
        };
        if ours.all(|(name, value)| labels.get(name) == Some(value)) {
            let name = (driver.name().as_str(), key.clone());
            kept.entry(name)
                .or_insert_with(|| Kept::new(driver, volume));
        }
    }
    Ok(())
}

/// Whether the volume is there; an engine that does not answer says neither.
async fn is_there(driver: &Arc<dyn Driver>, volume: &Volume) -> Result<bool, DriverError> {
    if driver.has_volume(volume).await {
        return Ok(true);
    }
    let known = driver.labelled_volumes(TASK_CACHE_LABEL).await?;
    Ok(known.iter().any(|(known, _)| known.id == volume.id))
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

    /// Whose files are in it, as far as is known.
    pub(crate) fn owner(&self) -> Option<Owner> {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on its files are this user's, or of whom a container runs as that has none.
    pub(crate) fn set_owner(&self, owner: Option<Owner>) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = owner;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Used::Until(Instant::now());
    }
}
