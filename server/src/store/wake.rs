//! Hints that something changed. A hint may be lost, doubled or late: whoever waits registers first, then looks, then
//! waits for a hint or a timer.

use crate::model::run::Reply;
use crate::model::{PipelineId, RunId, SessionId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};

/// How many coarse wakes may wait for a slow listener; a lagging one treats the loss as a wake.
const WAKE_BUFFER: usize = 256;

/// A coarse hint, for whoever looks for work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// Some job became claimable.
    JobQueued,
    /// Some job of this session is to be cancelled.
    Cancel(SessionId),
    /// Something is to be decided in this concurrency group: a run is new in it, or over. Only in the process where that
    /// happened.
    Group(PipelineId, String),
    /// Hints may have been lost.
    Lost,
    /// Versions of this pipeline's resources are new, enabled, pinned or gone: other inputs may be right for its jobs.
    Schedule(PipelineId),
    /// Deliveries became due.
    Deliveries,
    /// A replay waits. Only in the process where it was asked for.
    Replays,
}

/// What is known to have happened to a run.
#[derive(Clone, Default)]
pub struct RunHint {
    /// Grows with every hint.
    pub version: u64,
    /// The committed reply, where the hint carries it.
    pub reply: Option<Arc<Reply>>,
    /// Whether the run is over.
    pub finished: bool,
}

/// Where hints are published and awaited within this process.
pub struct WakeBus {
    coarse: broadcast::Sender<Wake>,
    runs: Arc<Mutex<HashMap<RunId, watch::Sender<RunHint>>>>,
}

impl Default for WakeBus {
    fn default() -> Self {
        Self {
            coarse: broadcast::channel(WAKE_BUFFER).0,
            runs: Arc::default(),
        }
    }
}

/// The map is always left consistent, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WakeBus {
    /// Coarse hints from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Wake> {
        self.coarse.subscribe()
    }

    /// The same, for whoever takes all that has come at once.
    pub fn listen(&self) -> Listener {
        Listener(self.coarse.subscribe())
    }

    /// Publishes a coarse hint.
    pub fn publish(&self, wake: Wake) {
        // No listener is no error: a hint is only for those who wait now.
        let _ = self.coarse.send(wake);
    }

    /// Registers interest in a run, from now on until dropped.
    pub fn watch_run(&self, run_id: RunId) -> RunWatch {
        let receiver = lock(&self.runs)
            .entry(run_id)
            .or_insert_with(|| watch::channel(RunHint::default()).0)
            .subscribe();
        RunWatch {
            run_id,
            receiver,
            runs: self.runs.clone(),
        }
    }

    /// Publishes a hint about a run; `true` if somebody here waits for it.
    pub fn publish_run(&self, run_id: RunId, reply: Option<Arc<Reply>>, finished: bool) -> bool {
        let runs = lock(&self.runs);
        let Some(sender) = runs.get(&run_id) else {
            return false;
        };
        sender.send_modify(|hint| {
            hint.version += 1;
            hint.finished |= finished;
            if reply.is_some() {
                hint.reply = reply;
            }
        });
        true
    }

    /// Wakes everybody: after hints may have been lost (reconnect to the database).
    pub fn publish_all(&self) {
        self.publish(Wake::JobQueued);
        self.publish(Wake::Deliveries);
        self.publish(Wake::Lost);
        for sender in lock(&self.runs).values() {
            sender.send_modify(|hint| hint.version += 1);
        }
    }

    /// The runs somebody here waits for.
    pub fn watched_runs(&self) -> Vec<RunId> {
        lock(&self.runs).keys().copied().collect()
    }
}

/// Coarse hints, taken as many at a time as there are.
pub struct Listener(broadcast::Receiver<Wake>);

/// What a [`Listener`] heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// In order.
    pub wakes: Vec<Wake>,
    /// Whether some were lost: as good as every one.
    pub missed: bool,
}

impl Listener {
    /// Waits for a hint, and takes all that have come; `None` once there is nobody to give any.
    pub async fn heard(&mut self) -> Option<Heard> {
        let mut heard = Heard::default();
        match self.0.recv().await {
            Ok(wake) => heard.wakes.push(wake),
            Err(RecvError::Lagged(_)) => heard.missed = true,
            Err(RecvError::Closed) => return None,
        }
        heard.missed |= heard.wakes.contains(&Wake::Lost);
        loop {
            match self.0.try_recv() {
                Ok(Wake::Lost) => heard.missed = true,
                Ok(wake) => heard.wakes.push(wake),
                Err(TryRecvError::Lagged(_)) => heard.missed = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Some(heard),
            }
        }
    }
}

/// Interest in one run.
pub struct RunWatch {
    run_id: RunId,
    receiver: watch::Receiver<RunHint>,
    runs: Arc<Mutex<HashMap<RunId, watch::Sender<RunHint>>>>,
}

impl RunWatch {
    /// Waits for the next hint.
    pub async fn changed(&mut self) -> RunHint {
        if self.receiver.changed().await.is_err() {
            // The sender lives in the map as long as this watch does.
            std::future::pending::<()>().await;
        }
        self.receiver.borrow_and_update().clone()
    }
}

impl Drop for RunWatch {
    fn drop(&mut self) {
        let mut runs = lock(&self.runs);
        if let Some(sender) = runs.get(&self.run_id)
            && sender.receiver_count() <= 1
        {
            runs.remove(&self.run_id);
        }
    }
}
