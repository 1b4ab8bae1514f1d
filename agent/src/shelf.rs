//! Steps that can be looked into: those that run, and what failed ones left, each for a time.
//!
//! The shelf says which and until when; how it is kept is the driver's affair. What an earlier process of this agent
//! kept, where a driver still has it, is put on the shelf again.

use crate::attempt::SERVER_LABEL;
use crate::container::Driver;
use crate::container::place::{Place, Wanted};
use crate::container::{Remains, place::TERMINAL_LABEL};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most steps whose remains are kept; the oldest goes first.
pub const MAX_KEPT: usize = 16;
/// The label with the pipeline's id.
pub(crate) const PIPELINE_LABEL: &str = "pocketci.pipeline";

/// Which step of which attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepId {
    /// The job's id, as text.
    pub(crate) job: String,
    pub(crate) attempt: u32,
    pub(crate) step: u32,
}

impl StepId {
    /// By what its container is marked with.
    fn of(labels: &BTreeMap<String, String>) -> Option<Self> {
        let label = |name: &str| labels.get(name);
        Some(Self {
            job: label("pocketci.job")?.clone(),
            attempt: label("pocketci.attempt")?.parse().ok()?,
            step: label("pocketci.step")?.parse().ok()?,
        })
    }
}

/// See the module.
pub struct Shelf {
    keep: Duration,
    /// Of this agent, and of this process's terminals.
    labels: BTreeMap<String, String>,
    entries: Mutex<Vec<Entry>>,
    changed: Notify,
}

struct Entry {
    id: StepId,
    pipeline: String,
    state: State,
}

enum State {
    Running(Weak<Remains>),
    Kept {
        place: Arc<dyn Place>,
        until: Instant,
    },
}

impl Shelf {
    /// Keeps what failed steps leave for so long; zero keeps nothing, and nothing can be looked into.
    pub(crate) fn new(keep: Duration, mut labels: BTreeMap<String, String>) -> Self {
        let process = format!("{:016x}", rand::random::<u64>());
        labels.insert(TERMINAL_LABEL.to_owned(), process);
        Self {
            keep,
            labels,
            entries: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wanted, marked as this process's.
    pub(crate) fn wanted(&self, wanted: Wanted) -> Wanted {
        Wanted {
            labels: self.labels.clone(),
            ..wanted
        }
    }

    /// Whether something with these labels is of a terminal of this process.
    pub(crate) fn is_of_terminal(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(TERMINAL_LABEL);
        found.is_some() && found == self.labels.get(TERMINAL_LABEL)
    }

    /// A step begins; where its driver tells what there is to see. `None` if nothing may be seen.
    pub(crate) fn begin(&self, id: StepId, pipeline: &str) -> Option<Arc<Remains>> {
        if self.keep.is_zero() {
            return None;
        }
        let remains = Arc::new(Remains::default());
        let mut entries = self.entries();
        entries.retain(|entry| match &entry.state {
            State::Running(remains) => remains.strong_count() > 0,
            State::Kept { .. } => true,
        });
        entries.push(Entry {
            id,
            pipeline: pipeline.to_owned(),
            state: State::Running(Arc::downgrade(&remains)),
        });
        Some(remains)
    }

    /// A step has ended: what a failed one left is kept, for the time that is answered; of any other nothing is left.
    pub(crate) async fn end(&self, id: &StepId, remains: &Remains, failed: bool) -> Duration {
        let mut entry = {
            let mut entries = self.entries();
            let at = entries.iter().position(|entry| entry.id == *id);
            at.map(|at| entries.remove(at))
        };
        let (Some(place), Some(mut entry), true) = (remains.place(), entry.take(), failed) else {
            remains.discard().await;
            return Duration::ZERO;
        };
        if let Err(error) = place.keep(SystemTime::now() + self.keep).await {
            tracing::debug!(error = error.with_causes(), "nothing of a step is kept");
            remains.discard().await;
            return Duration::ZERO;
        }
        let until = Instant::now() + self.keep;
        entry.state = State::Kept { place, until };
        self.entries().push(entry);
        self.changed.notify_one();
        self.trim().await;
        self.keep
    }

    /// Removes what is too much, the oldest first.
    async fn trim(&self) {
        let is_kept = |entry: &Entry| matches!(entry.state, State::Kept { .. });
        loop {
            let entry = {
                let mut entries = self.entries();
                if entries.iter().filter(|entry| is_kept(entry)).count() <= MAX_KEPT {
                    return;
                }
                let oldest = entries.iter().position(is_kept);
                oldest.map(|at| entries.remove(at))
            };
            discard(entry).await;
        }
    }

    /// Where the step runs, or what it left; a sentence for people if there is neither.
    pub(crate) fn find(&self, id: &StepId) -> Result<Arc<dyn Place>, String> {
        if self.keep.is_zero() {
            return Err("this agent lets nobody look into its steps: its operator started it with --keep-failed 0".to_owned());
        }
        let entries = self.entries();
        match entries.iter().find(|entry| entry.id == *id).map(|entry| &entry.state) {
            Some(State::Kept { place, .. }) => Ok(place.clone()),
            Some(State::Running(remains)) => remains.upgrade().and_then(|remains| remains.place()).ok_or_else(|| {
                "nothing of the step runs in a container or process of its own right now".to_owned()
            }),
            None => Err("the step has ended and nothing of it is kept (any more): only what failed steps left is, for a time".to_owned()),
        }
    }

    /// Puts what an earlier process kept on the shelf.
    pub(crate) async fn adopt(&self, driver: &dyn Driver) {
        for kept in driver.kept().await {
            let ours = |name: &&str| kept.labels.get(*name) == self.labels.get(*name);
            if !["pocketci.agent", SERVER_LABEL].iter().all(ours) {
                continue;
            }
            let left = kept.until.duration_since(SystemTime::now());
            let left = left.unwrap_or_default().min(self.keep);
            let id = StepId::of(&kept.labels).filter(|_| !left.is_zero());
            let Some(id) = id else {
                kept.place.discard().await;
                continue;
            };
            let mut entries = self.entries();
            if entries.iter().all(|entry| entry.id != id) {
                entries.push(Entry {
                    id,
                    pipeline: kept.labels.get(PIPELINE_LABEL).cloned().unwrap_or_default(),
                    state: State::Kept {
                        place: kept.place,
                        until: Instant::now() + left,
                    },
                });
            }
        }
        self.changed.notify_one();
        self.trim().await;
    }

    /// Removes what the steps of a pipeline left.
    pub(crate) async fn drop_pipeline(&self, pipeline: &str) {
        self.discard_if(|entry, _| entry.pipeline == pipeline).await;
    }

    /// Removes everything that is kept.
    pub(crate) async fn clear(&self) {
        self.discard_if(|_, _| true).await;
    }

    async fn discard_if(&self, is_meant: impl Fn(&Entry, Instant) -> bool) {
        let meant: Vec<Entry> = {
            let mut entries = self.entries();
            let is_meant = |entry: &mut Entry| match entry.state {
                State::Kept { until, .. } => is_meant(entry, until),
                State::Running(_) => false,
            };
            entries.extract_if(.., is_meant).collect()
        };
        for entry in meant {
            discard(Some(entry)).await;
        }
    }

    /// Removes what was kept long enough; never ends.
    pub(crate) async fn reap(&self) {
        loop {
            let changed = self.changed.notified();
            let next = self
                .entries()
                .iter()
                .filter_map(|entry| match entry.state {
                    State::Kept { until, .. } => Some(until),
                    State::Running(_) => None,
                })
                .min();
            match next {
                Some(next) => tokio::select! {
                    () = tokio::time::sleep_until(next) => {
                        let now = Instant::now();
                        self.discard_if(|_, until| until <= now).await;
                    }
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }
}

async fn discard(entry: Option<Entry>) {
    if let Some(Entry {
        state: State::Kept { place, .. },
        ..
    }) = entry
    {
        place.discard().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::place::Input;
    use crate::container::{DriverError, Output};
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    #[derive(Default)]
    struct Fake(AtomicBool);

    impl Fake {
        fn is_gone(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[async_trait]
    impl Place for Fake {
        async fn terminal(
            &self,
            _: Wanted,
            _: mpsc::Receiver<Input>,
            _: mpsc::Sender<Output>,
            _: CancellationToken,
        ) -> Result<i32, DriverError> {
            Ok(0)
        }

        async fn keep(&self, _: SystemTime) -> Result<(), DriverError> {
            Ok(())
        }

        async fn discard(&self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn id(step: u32) -> StepId {
        StepId {
            job: "job".to_owned(),
            attempt: 1,
            step,
        }
    }

    /// A step of this number that ended.
    async fn ended(shelf: &Shelf, step: u32, failed: bool) -> Arc<Fake> {
        let place = Arc::new(Fake::default());
        let remains = shelf.begin(id(step), &format!("pipeline-{step}")).unwrap();
        remains.set(place.clone());
        assert!(shelf.find(&id(step)).is_ok(), "while it runs");
        let kept = shelf.end(&id(step), &remains, failed).await;
        assert_eq!(kept, if failed { MINUTE } else { Duration::ZERO });
        place
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_kept_for_its_time_and_nothing_else() {
        let shelf = Arc::new(Shelf::new(MINUTE, BTreeMap::new()));
        let reaping = tokio::spawn({
            let shelf = shelf.clone();
            async move { shelf.reap().await }
        });
        let (failed, done) = (ended(&shelf, 1, true).await, ended(&shelf, 2, false).await);
        assert!(done.is_gone() && !failed.is_gone());
        assert!(shelf.find(&id(1)).is_ok() && shelf.find(&id(2)).is_err());
        tokio::time::sleep(MINUTE - Duration::from_secs(1)).await;
        assert!(!failed.is_gone());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(failed.is_gone() && shelf.find(&id(1)).is_err());
        reaping.abort();
    }

    #[tokio::test]
    async fn the_oldest_goes_first_and_a_deleted_pipelines_at_once() {
        let shelf = Shelf::new(MINUTE, BTreeMap::new());
        let mut kept = Vec::new();
        for step in 0..=MAX_KEPT {
            kept.push(ended(&shelf, u32::try_from(step).unwrap(), true).await);
        }
        let gone: Vec<usize> = (0..kept.len()).filter(|at| kept[*at].is_gone()).collect();
        assert_eq!(gone, [0]);
        shelf.drop_pipeline("pipeline-3").await;
        assert!(kept[3].is_gone() && !kept[4].is_gone());
        shelf.clear().await;
        assert!(kept.iter().all(|place| place.is_gone()));
    }

    #[tokio::test]
    async fn an_agent_that_keeps_nothing_says_so() {
        let shelf = Shelf::new(Duration::ZERO, BTreeMap::new());
        assert!(shelf.begin(id(1), "").is_none());
        assert!(shelf.find(&id(1)).err().unwrap().contains("--keep-failed"));
    }
}
