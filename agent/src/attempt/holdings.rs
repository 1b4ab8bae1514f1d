//! What a job holds beyond one step: volumes and sandboxes. Removed at the job's end, whatever way it ended.

use crate::container::{Driver, Sandbox, Volume};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
pub(super) struct Holdings {
    driver: Option<Arc<dyn Driver>>,
    labels: BTreeMap<String, String>,
    max_sandboxes: usize,
    held: Mutex<Held>,
    /// One volume is created at a time, so that two calls with one name get one volume.
    creating: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    volumes: BTreeMap<String, Volume>,
    sandboxes: BTreeMap<String, Kept>,
    /// Sandboxes being started.
    starting: usize,
    next: u32,
    released: bool,
}

/// A sandbox with the author's name for it.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) name: String,
    pub(super) sandbox: Arc<dyn Sandbox>,
}

/// A place for a sandbox; given back unless it is used.
pub(super) struct Place<'a> {
    holdings: &'a Holdings,
}

impl Holdings {
    pub(super) fn new(
        driver: Option<Arc<dyn Driver>>,
        labels: BTreeMap<String, String>,
        max_sandboxes: usize,
    ) -> Self {
        Self {
            driver,
            labels,
            max_sandboxes,
            held: Mutex::default(),
            creating: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The volume of this name, created if it is not there.
    pub(super) async fn create_volume(&self, name: String) -> Result<(String, Volume), String> {
        let driver = self.driver.clone().ok_or("this agent lacks the driver")?;
        let _one_at_a_time = self.creating.lock().await;
        if let Some(volume) = self.lock().volumes.get(&name) {
            return Ok((name, volume.clone()));
        }
        let volume = driver
            .create_volume(&name, self.labels.clone())
            .await
            .map_err(|error| super::steps::told(&error))?;
        let released = {
            let mut held = self.lock();
            held.volumes.insert(name.clone(), volume.clone());
            held.released
        };
        if released {
            driver.remove_volume(&volume).await;
            return Err("the run is over".to_owned());
        }
        Ok((name, volume))
    }

    /// Numbers what has no name, in the order in which the program asks for it.
    pub(super) fn number(&self) -> u32 {
        let mut held = self.lock();
        held.next += 1;
        held.next
    }

    /// Takes over a volume that an earlier process made, if it is still there.
    pub(super) async fn adopt_volume(&self, name: &str, volume: Volume) -> bool {
        let Some(driver) = self.driver.clone() else {
            return false;
        };
        if !driver.has_volume(&volume).await {
            return false;
        }
        let mut held = self.lock();
        if held.released {
            return false;
        }
        let kept = held
            .volumes
            .entry(name.to_owned())
            .or_insert(volume.clone());
        *kept == volume
    }

    /// The volume of this name.
    pub(super) fn volume(&self, name: &str) -> Result<Volume, String> {
        self.lock().volumes.get(name).cloned().ok_or_else(|| {
            format!("there is no volume {name:?} in this run; create it with volumes.create({{ name: {name:?} }})")
        })
    }

    /// Room for one more sandbox.
    pub(super) fn place(&self) -> Result<Place<'_>, String> {
        let mut held = self.lock();
        if held.sandboxes.len() + held.starting >= self.max_sandboxes {
            return Err(format!(
                "more than {} sandboxes at a time, the agent's limit; close some, or have its operator raise --max-steps",
                self.max_sandboxes
            ));
        }
        held.starting += 1;
        Ok(Place { holdings: self })
    }

    pub(super) fn sandbox(&self, id: &str) -> Result<Kept, String> {
        self.lock()
            .sandboxes
            .get(id)
            .cloned()
            .ok_or_else(|| "the sandbox is closed".to_owned())
    }

    pub(super) async fn close_sandbox(&self, id: &str) {
        let kept = self.lock().sandboxes.remove(id);
        if let Some(kept) = kept {
            kept.sandbox.close().await;
        }
    }

    /// Removes everything; what comes later is removed at once.
    pub(super) async fn release(&self) {
        let (volumes, sandboxes) = {
            let mut held = self.lock();
            held.released = true;
            (
                std::mem::take(&mut held.volumes),
                std::mem::take(&mut held.sandboxes),
            )
        };
        let closing = sandboxes.values().map(|kept| kept.sandbox.close());
        futures_util::future::join_all(closing).await;
        if let Some(driver) = &self.driver {
            let removing = volumes.values().map(|volume| driver.remove_volume(volume));
            futures_util::future::join_all(removing).await;
        }
    }
}

impl Place<'_> {
    /// Keeps the sandbox under its id, which is answered.
    pub(super) async fn keep(
        self,
        id: String,
        name: String,
        sandbox: Arc<dyn Sandbox>,
    ) -> Result<String, String> {
        let released = {
            let mut held = self.holdings.lock();
            if !held.released {
                let name = if name.is_empty() { id.clone() } else { name };
                let sandbox = sandbox.clone();
                held.sandboxes.insert(id.clone(), Kept { name, sandbox });
            }
            held.released
        };
        if released {
            sandbox.close().await;
            return Err("the run is over".to_owned());
        }
        Ok(id)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.holdings.lock().starting -= 1;
    }
}
