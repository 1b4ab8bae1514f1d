//! The loop that takes what is due: as much as there is room for, at once when it is due, and never for dead receivers
//! alone.

use super::Deliveries;
use super::carry::Built;
use super::lanes::Lanes;
use crate::model::EventId;
use crate::store::wake::{Listener, Wake};
use crate::store::{ClaimedDeliveries, DeliveryClaim, Result};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long until the first try of what was taken is begun, at most.
const CLAIM_LEASE: Duration = Duration::from_secs(20);
/// What is due is looked for at least this often: hints may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Pause where the store fails, or says that something is due and gives nothing.
const PAUSE: Duration = Duration::from_millis(250);
/// Looks follow each other no sooner while much ends: each asks for what all of that left room for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// Pause where nothing was given, though something is due by now.
const MIN_WAIT: Duration = Duration::from_millis(5);
/// How long deliveries under way may take to end when the server stops; the others are sent again by whoever finds their
/// lease ended.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// What is under way.
struct UnderWay {
    tasks: JoinSet<()>,
    lanes: Lanes,
}

impl UnderWay {
    fn ended(&mut self, ended: std::result::Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a delivery panicked");
                }
                error.id()
            }
        };
        self.lanes.end(id);
    }

    /// Takes note of what ends until then, and of what has ended.
    async fn end_until(&mut self, until: Instant) {
        while let Ok(Some(ended)) = timeout_at(until, self.tasks.join_next_with_id()).await {
            self.ended(ended);
        }
        tokio::time::sleep_until(until).await;
    }
}

impl Deliveries {
    /// Sends until `shutdown`.
    pub async fn serve(self, shutdown: CancellationToken) {
        if !self.inner.settings.enabled {
            return;
        }
        let mut wakes = self.inner.store.wakes().listen();
        let mut under_way = UnderWay {
            tasks: JoinSet::new(),
            lanes: Lanes::new(self.inner.settings.concurrency),
        };
        while !shutdown.is_cancelled() {
            let again_at = Instant::now() + BETWEEN_LOOKS;
            let wait = match self.take(&mut under_way).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "cannot look for deliveries; trying again"
                    );
                    PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                is_open = woken(&mut wakes) => if !is_open { break },
                Some(ended) = under_way.tasks.join_next_with_id() => under_way.ended(ended),
                () = shutdown.cancelled() => break,
            }
            under_way.end_until(again_at).await;
        }
        let ending = async { while under_way.tasks.join_next().await.is_some() {} };
        // What is late ends with the set.
        let _ = tokio::time::timeout(STOP_WITHIN, ending).await;
    }

    /// Takes what there is room for and starts it; gives how long until more is due.
    async fn take(&self, under_way: &mut UnderWay) -> Result<Duration> {
        let room = under_way.lanes.room();
        let more_in = room.more_at.map_or(LOOK_EVERY, |at| {
            at.saturating_duration_since(Instant::now())
        });
        if room.all == 0 {
            return Ok(more_in);
        }
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let claim = DeliveryClaim {
            sender: self.inner.sender,
            max: count(room.all),
            max_unproven: count(room.unproven),
            lease: CLAIM_LEASE,
        };
        let ClaimedDeliveries { due, wait } = self.inner.store.claim_deliveries(claim).await?;
        let got_some = !due.is_empty();
        let mut built: HashMap<EventId, Built> = HashMap::new();
        for due in due {
            let built = built.entry(due.event.id).or_default().clone();
            let health = &due.subscription.health;
            let is_unproven = health.failures > 0 || health.succeeded_at.is_none();
            let this = self.clone();
            let task = under_way
                .tasks
                .spawn(async move { this.carry(due, built).await });
            under_way.lanes.begin(task.id(), is_unproven);
        }
        let wait = wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
        Ok(match got_some {
            true => wait,
            // Something is due for unproven receivers, perhaps, and waits for room.
            false if room.unproven == 0 => wait.max(PAUSE).min(more_in.max(MIN_WAIT)),
            false => wait.max(MIN_WAIT),
        })
    }
}

/// Waits until deliveries may be due; `false` once there is nobody to say so.
async fn woken(wakes: &mut Listener) -> bool {
    loop {
        match wakes.heard().await {
            None => return false,
            Some(heard) if heard.missed || heard.wakes.contains(&Wake::Deliveries) => return true,
            Some(_) => {}
        }
    }
}
