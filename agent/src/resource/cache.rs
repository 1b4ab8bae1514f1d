//! What was fetched, kept on the agent between jobs.
//!
//! An entry is a volume with the files and, where volumes outlive the process, a second, empty one whose labels say what
//! the first is: it is made last, so a fetch that was cut short leaves no entry. Of two gets of the same thing one
//! fetches and the other waits. A job is given a volume over the entry's, which keeps that from being removed. The one
//! that was not used for longest goes first.

use super::key::Key;
use super::{Fetched, StepIo, Stop};
use crate::container::docker::READER_LABEL;
use crate::container::{Driver, NewVolume, Volume};
use futures_util::StreamExt;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

/// On all volumes of the cache: the entry's key.
pub const CACHE_LABEL: &str = "pocketci.cache";
/// On the second volume: the first one's id.
const FILES_LABEL: &str = "pocketci.cache.files";
/// On the second volume: version, metadata and bytes, as JSON.
const FETCHED_LABEL: &str = "pocketci.cache.fetched";

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
    /// Done once what an earlier process left was looked at.
    loaded: OnceCell<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Held while an entry is fetched, handed out or removed.
    slots: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
    /// Counts uses.
    clock: u64,
    /// Volumes whose fetch failed or was dropped; the next end of a get removes them.
    unfinished: Vec<Volume>,
}

/// A volume that becomes an entry, or goes.
struct Unfinished<'a> {
    cache: &'a GetCache,
    files: Option<Volume>,
}

impl Unfinished<'_> {
    fn keep(mut self) {
        self.files = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(files) = self.files.take() {
            self.cache.state().unfinished.push(files);
        }
    }
}

#[derive(Clone)]
struct Entry {
    files: Volume,
    mark: Option<Volume>,
    fetched: Fetched,
    bytes: u64,
    used: u64,
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
            loaded: OnceCell::new(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was fetched before under this key, or what `fetch` writes into an empty volume; a volume of the caller's own.
    pub(super) async fn get(
        &self,
        key: &Key,
        new: NewVolume<'_>,
        io: &StepIo,
        fetch: impl AsyncFnOnce(&Volume) -> Result<Fetched, Stop>,
    ) -> Result<(Fetched, Volume), Stop> {
        if self.limits.entries == 0 {
            return self.uncached(new, fetch).await;
        }
        let waiting = async {
            self.loaded.get_or_init(|| self.load()).await;
            Ok(self.slot(key).lock_owned().await)
        };
        let slot = io.unless_stopped(waiting).await?;
        let got = self.get_locked(key, new, io, fetch).await;
        drop(slot);
        self.forget_slot(key);
        self.trim().await;
        got
    }

    async fn get_locked(
        &self,
        key: &Key,
        new: NewVolume<'_>,
        io: &StepIo,
        fetch: impl AsyncFnOnce(&Volume) -> Result<Fetched, Stop>,
    ) -> Result<(Fetched, Volume), Stop> {
        if let Some(entry) = self.used(key) {
            match self.driver.derive_volume(&entry.files, new.clone()).await {
                Ok(volume) => {
                    io.say("found existing resource cache\n").await;
                    return Ok((entry.fetched, volume));
                }
                // Somebody removed it.
                Err(error) => tracing::debug!(%error, "an entry of the cache cannot be used"),
            }
            self.remove(key).await;
        }
        let unfinished = Unfinished {
            cache: self,
            files: Some(self.create(key).await?),
        };
        let fetching = async |files: &Volume| {
            let fetched = fetch(files).await?;
            let derived = self.driver.derive_volume(files, new).await;
            Ok((fetched, derived.map_err(|error| Stop::errored(&error))?))
        };
        let got = match &unfinished.files {
            Some(files) => fetching(files).await,
            None => Err(Stop::Stopped),
        };
        // After the last wait in which this may be dropped.
        if let (Ok((fetched, _)), Some(files)) = (&got, &unfinished.files)
            && let Some(entry) = self.entry(key, files, fetched).await
        {
            self.state().entries.insert(key.clone(), entry);
            unfinished.keep();
        }
        got
    }

    async fn uncached(
        &self,
        new: NewVolume<'_>,
        fetch: impl AsyncFnOnce(&Volume) -> Result<Fetched, Stop>,
    ) -> Result<(Fetched, Volume), Stop> {
        let made = self.driver.create_volume(new.name, new.labels).await;
        let volume = made.map_err(|error| Stop::errored(&error))?;
        match fetch(&volume).await {
            Ok(fetched) => Ok((fetched, volume)),
            Err(stop) => {
                self.driver.remove_volume(&volume).await;
                Err(stop)
            }
        }
    }

    fn slot(&self, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut state = self.state();
        state.slots.entry(key.clone()).or_default().clone()
    }

    /// Nobody waits for it any more.
    fn forget_slot(&self, key: &Key) {
        let mut state = self.state();
        if state
            .slots
            .get(key)
            .is_some_and(|slot| Arc::strong_count(slot) == 1)
        {
            state.slots.remove(key);
        }
    }

    fn used(&self, key: &Key) -> Option<Entry> {
        let mut state = self.state();
        state.clock += 1;
        let now = state.clock;
        let entry = state.entries.get_mut(key)?;
        entry.used = now;
        Some(entry.clone())
    }

    fn labels(&self, key: &Key) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(CACHE_LABEL.to_owned(), key.0.clone());
        labels
    }

    async fn create(&self, key: &Key) -> Result<Volume, Stop> {
        let made = self.driver.create_volume("cache", self.labels(key)).await;
        made.map_err(|error| Stop::errored(&error))
    }

    /// `None` if it is not worth keeping.
    async fn entry(&self, key: &Key, files: &Volume, fetched: &Fetched) -> Option<Entry> {
        let bytes = self.bytes(files).await?;
        let mark = match self.driver.engine() {
            Some(_) => {
                let mut labels = self.labels(key);
                labels.insert(FILES_LABEL.to_owned(), files.id.clone());
                let kept = json!([fetched.version, fetched.metadata, bytes]).to_string();
                labels.insert(FETCHED_LABEL.to_owned(), kept);
                let made = self.driver.create_volume("cached", labels).await;
                // Then it is found again by this process only.
                made.inspect_err(|error| tracing::debug!(%error, "cannot mark a fetched version"))
                    .ok()
            }
            None => None,
        };
        let mut state = self.state();
        state.clock += 1;
        Some(Entry {
            files: files.clone(),
            mark,
            fetched: fetched.clone(),
            bytes,
            used: state.clock,
        })
    }

    /// `None` if they are more than the cache takes, or cannot be read.
    async fn bytes(&self, files: &Volume) -> Option<u64> {
        let mut archive = self.driver.read_tar(files, "").await.ok()?;
        let mut bytes = 0;
        while let Some(piece) = archive.next().await {
            bytes += piece.ok()?.len() as u64;
            if bytes > self.limits.bytes {
                tracing::info!("a fetched version is larger than the whole cache; it is not kept");
                return None;
            }
        }
        Some(bytes)
    }

    /// Takes over what an earlier process of this agent kept, and removes what it was still fetching.
    async fn load(&self) {
        let found = match self.driver.labelled_volumes(CACHE_LABEL).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "cannot look for fetched versions");
                return;
            }
        };
        let own = self.labels.clone();
        let ours = move |labels: &BTreeMap<String, String>| {
            let mut own = own.iter();
            own.all(|(name, value)| labels.get(name) == Some(value))
        };
        // What was reading when the process was killed would keep its volume.
        let was_reading = |labels: &BTreeMap<String, String>| {
            ours(labels) && labels.contains_key(CACHE_LABEL) && labels.contains_key(READER_LABEL)
        };
        self.driver.sweep(&was_reading).await;
        let found: Vec<_> = found
            .into_iter()
            .filter(|(_, labels)| ours(labels))
            .collect();
        let mut files: HashMap<&str, &Volume> = found
            .iter()
            .filter(|(_, labels)| !labels.contains_key(FILES_LABEL))
            .map(|(volume, _)| (volume.id.as_str(), volume))
            .collect();
        for (mark, labels) in &found {
            let Some(id) = labels.get(FILES_LABEL) else {
                continue;
            };
            match (files.remove(id.as_str()), entry(labels)) {
                (Some(files), Some((key, fetched, bytes))) => {
                    let entry = Entry {
                        files: files.clone(),
                        mark: Some(mark.clone()),
                        fetched,
                        bytes,
                        used: 0,
                    };
                    self.state().entries.insert(key, entry);
                }
                (Some(volume), None) => {
                    self.driver.remove_volume(mark).await;
                    self.driver.remove_volume(volume).await;
                }
                (None, _) => self.driver.remove_volume(mark).await,
            }
        }
        for volume in files.into_values() {
            self.driver.remove_volume(volume).await;
        }
    }

    /// Removes entries beyond the limits, those that were not used for longest first.
    async fn trim(&self) {
        let unfinished = std::mem::take(&mut self.state().unfinished);
        for volume in unfinished {
            self.driver.remove_volume(&volume).await;
            // The engine may not have removed the container yet that wrote it.
            if self.driver.has_volume(&volume).await {
                self.state().unfinished.push(volume);
            }
        }
        while let Some(key) = self.one_too_many() {
            // Whoever uses it trims again at their end.
            if !self.remove_unused(&key).await {
                return;
            }
        }
    }

    async fn remove_unused(&self, key: &Key) -> bool {
        let slot = self.slot(key);
        let removed = match slot.try_lock() {
            Ok(_held) => {
                self.remove(key).await;
                true
            }
            Err(_) => false,
        };
        drop(slot);
        self.forget_slot(key);
        removed
    }

    fn one_too_many(&self) -> Option<Key> {
        let state = self.state();
        let bytes: u64 = state.entries.values().map(|entry| entry.bytes).sum();
        if state.entries.len() <= self.limits.entries && bytes <= self.limits.bytes {
            return None;
        }
        let oldest = state.entries.iter().min_by_key(|(_, entry)| entry.used);
        oldest.map(|(key, _)| key.clone())
    }

    /// The mark first: files without one are no entry.
    async fn remove(&self, key: &Key) {
        let Some(entry) = self.state().entries.remove(key) else {
            return;
        };
        if let Some(mark) = &entry.mark {
            self.driver.remove_volume(mark).await;
        }
        self.driver.remove_volume(&entry.files).await;
    }

    /// Removes everything that no job is about to use.
    pub async fn clear(&self) {
        self.loaded.get_or_init(|| self.load()).await;
        let keys: Vec<Key> = self.state().entries.keys().cloned().collect();
        for key in keys {
            self.remove_unused(&key).await;
        }
    }
}

fn entry(labels: &BTreeMap<String, String>) -> Option<(Key, Fetched, u64)> {
    let key = Key(labels.get(CACHE_LABEL)?.clone());
    let kept = serde_json::from_str(labels.get(FETCHED_LABEL)?).ok()?;
    let (version, metadata, bytes) = kept;
    Some((key, Fetched { version, metadata }, bytes))
}
