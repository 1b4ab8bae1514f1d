//! Waiting for a run's one reply: woken by a hint, looking at the store behind a timer, answering 202 at the deadline.

use crate::model::RunId;
use crate::model::run::{Reply, ReplyBy};
use crate::model::transition::{Applied, Change, accepted_reply};
use crate::store::Store;
use crate::store::wake::RunWatch;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

/// How often a waiting request looks at the store without a hint.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the store may take to say who answered first when the deadline is reached.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What a [`ReplyWait`] came to.
pub struct Replied {
    /// The pipeline's, or the server's 202.
    pub reply: Reply,
    /// Whether the run is known to be over.
    pub finished: bool,
}

impl Replied {
    /// A stored one: the server answers for a run before its caller's time is over only when it ends.
    fn of(reply: Reply) -> Self {
        Self {
            finished: reply.by == ReplyBy::Server,
            reply,
        }
    }
}

/// Interest in the reply of a run, registered before the run is stored.
pub struct ReplyWait {
    store: Arc<dyn Store>,
    run_id: RunId,
    watch: RunWatch,
    deadline: Instant,
}

impl ReplyWait {
    pub(super) fn register(store: &Arc<dyn Store>, run_id: RunId, within: Duration) -> Self {
        Self {
            store: store.clone(),
            run_id,
            watch: store.wakes().watch_run(run_id),
            deadline: Instant::now() + within,
        }
    }

    /// The pipeline's reply, or the server's 202 at the deadline or as soon as the run has ended without one.
    ///
    /// What is returned is what is stored: a reply that comes later than this is refused by the store. Only if the
    /// store is down at the deadline is the 202 given without its word; it is true, as the run is committed.
    pub async fn reply(mut self) -> Replied {
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let hinted = tokio::select! {
                biased;
                hint = self.watch.changed() => Some(hint),
                () = sleep_until(self.deadline) => break,
                _ = look.tick() => None,
            };
            if let Some(reply) = hinted.as_ref().and_then(|hint| hint.reply.clone()) {
                return Replied::of(Arc::unwrap_or_clone(reply));
            }
            let finished = hinted.is_some_and(|hint| hint.finished);
            if let Some(reply) = self.look().await {
                return Replied::of(reply);
            }
            if finished {
                let reply = self.close().await;
                return Replied { reply, finished };
            }
        }
        let reply = self.close().await;
        Replied {
            reply,
            finished: false,
        }
    }

    /// Of which run.
    pub fn run_id(&self) -> RunId {
        self.run_id
    }

    async fn look(&self) -> Option<Reply> {
        let ids = [self.run_id];
        let look = self.store.replies(&ids);
        // A store that does not answer now is asked again; the deadline stands.
        let found = tokio::time::timeout_at(self.deadline, look).await.ok()?;
        found.ok()?.into_iter().next().map(|(_, reply)| reply)
    }

    /// Settles with the store who answered first.
    async fn close(self) -> Reply {
        let close = async {
            let applied = self
                .store
                .submit(self.run_id, Change::CloseReply)
                .await
                .ok()?;
            if applied != Applied::Duplicate {
                return None;
            }
            let found = self.store.replies(&[self.run_id]).await.ok()?;
            found.into_iter().next().map(|(_, reply)| reply)
        };
        match tokio::time::timeout(CLOSE_WITHIN, close).await {
            Ok(Some(reply)) => reply,
            Ok(None) | Err(_) => accepted_reply(self.run_id),
        }
    }
}
