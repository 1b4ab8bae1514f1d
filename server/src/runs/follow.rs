//! Following a run's events in order, from any point, on any server.

use crate::model::RunId;
use crate::model::run::{Event, EventBody};
use crate::store::wake::RunWatch;
use crate::store::{Result, Store};
use pocketci_proto::api::RunEventKind;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Events per look; with logs in 64 KiB chunks this bounds a page to some MiB.
const PAGE: i64 = 100;
/// How often to look without a hint.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A place in a run's events.
pub struct Follow {
    store: Arc<dyn Store>,
    run_id: RunId,
    after: i64,
    watch: RunWatch,
    first: VecDeque<Event>,
    over: bool,
}

impl Follow {
    pub(super) async fn open(
        store: Arc<dyn Store>,
        run_id: RunId,
        after: i64,
    ) -> Result<Option<Self>> {
        let watch = store.wakes().watch_run(run_id);
        let Some(first) = store.events(run_id, after, PAGE).await? else {
            return Ok(None);
        };
        let mut follow = Self {
            store,
            run_id,
            after,
            watch,
            first: first.into(),
            over: false,
        };
        follow.over = follow.first.is_empty() && follow.is_finished().await?;
        Ok(Some(follow))
    }

    async fn is_finished(&self) -> Result<bool> {
        let view = self.store.run(self.run_id).await?;
        Ok(view.is_none_or(|view| view.run.end.is_some() && view.run.event_seq <= self.after))
    }

    /// The events that are there now and not yet given, without waiting; `None` after the run's last event.
    pub async fn ready(&mut self) -> Result<Option<Vec<Event>>> {
        if self.over {
            return Ok(None);
        }
        let events = if self.first.is_empty() {
            match self.store.events(self.run_id, self.after, PAGE).await? {
                Some(events) => events,
                None => return Ok(None),
            }
        } else {
            std::mem::take(&mut self.first).into()
        };
        if let Some(last) = events.last() {
            self.after = last.seq;
            self.over = matches!(last.body, EventBody::Fact(RunEventKind::RunFinished { .. }));
        }
        Ok(Some(events))
    }

    /// The next events in order, at least one, waiting for them; `None` after the run's last event.
    pub async fn next(&mut self) -> Result<Option<Vec<Event>>> {
        loop {
            match self.ready().await? {
                Some(events) if events.is_empty() => {
                    // A hint or the timer, whichever comes first: then look again.
                    let _ = tokio::time::timeout(LOOK_EVERY, self.watch.changed()).await;
                }
                other => return Ok(other),
            }
        }
    }
}
