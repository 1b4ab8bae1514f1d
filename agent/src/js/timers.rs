//! `setTimeout` and `setInterval`: a heap the event loop looks at.

use rquickjs::{Function, Value};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// Timers one job may have at a time.
pub(super) const MAX_TIMERS: usize = 10_000;

/// A timer that is due.
pub(super) struct Due<'js> {
    pub id: u32,
    pub callback: Function<'js>,
    pub arguments: Vec<Value<'js>>,
}

struct Timer<'js> {
    callback: Function<'js>,
    arguments: Vec<Value<'js>>,
    interval: Option<Duration>,
    /// Does not keep the job alive.
    idle: bool,
}

/// All timers of a job, by id; a cleared one leaves its heap entry behind.
#[derive(Default)]
pub(super) struct Timers<'js> {
    timers: HashMap<u32, Timer<'js>>,
    /// When, in which order they were set, id.
    queue: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    set: u64,
    next_id: u32,
    /// How long ago the program's present is, while its journal is played.
    behind: Duration,
}

impl<'js> Timers<'js> {
    /// Starts a timer; `None` when there are too many.
    pub fn start(
        &mut self,
        callback: Function<'js>,
        arguments: Vec<Value<'js>>,
        delay: Duration,
        repeat: bool,
        idle: bool,
    ) -> Option<u32> {
        if self.timers.len() >= MAX_TIMERS {
            return None;
        }
        self.next_id = self.next_id.checked_add(1)?;
        let id = self.next_id;
        self.timers.insert(
            id,
            Timer {
                callback,
                arguments,
                interval: repeat.then_some(delay),
                idle,
            },
        );
        self.enqueue(id, delay);
        Some(id)
    }

    /// Stops one; an unknown id is nothing.
    pub fn stop(&mut self, id: u32) {
        self.timers.remove(&id);
        // Many set and cleared early must not make the heap grow without end.
        if self.queue.len() > 2 * self.timers.len() + MAX_TIMERS {
            let timers = &self.timers;
            self.queue
                .retain(|Reverse((_, _, id))| timers.contains_key(id));
        }
    }

    /// The next one whose time has come.
    pub fn take_due(&mut self, now: Instant) -> Option<Due<'js>> {
        while let Some(Reverse((at, _, id))) = self.queue.peek().copied() {
            if at > now {
                return None;
            }
            self.queue.pop();
            if let Some(due) = self.fire(id) {
                return Some(due);
            }
        }
        None
    }

    /// This one, whatever its time; `None` if there is none with this id.
    pub fn take(&mut self, id: u32) -> Option<Due<'js>> {
        self.queue.retain(|Reverse((_, _, queued))| *queued != id);
        self.fire(id)
    }

    fn fire(&mut self, id: u32) -> Option<Due<'js>> {
        let timer = self.timers.remove(&id)?;
        let due = Due {
            id,
            callback: timer.callback.clone(),
            arguments: timer.arguments.clone(),
        };
        if let Some(interval) = timer.interval {
            self.timers.insert(id, timer);
            self.enqueue(id, interval);
        }
        Some(due)
    }

    /// Timers set from now on count from so long ago.
    pub fn set_behind(&mut self, behind: Duration) {
        self.behind = behind;
    }

    /// When the next one is due.
    pub fn next_at(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, _, id))) = self.queue.peek().copied() {
            if self.timers.contains_key(&id) {
                return Some(at);
            }
            self.queue.pop();
        }
        None
    }

    /// Whether one is worth waiting for: any while the job's promise is open, later only those that keep it alive.
    pub fn hold(&self, settled: bool) -> bool {
        self.timers.values().any(|timer| !(settled && timer.idle))
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.timers.clear();
        self.queue.clear();
    }

    fn now(&self) -> Instant {
        let now = Instant::now();
        // The machine may have started later than that.
        now.checked_sub(self.behind).unwrap_or(now)
    }

    fn enqueue(&mut self, id: u32, delay: Duration) {
        self.set += 1;
        self.queue.push(Reverse((self.now() + delay, self.set, id)));
    }
}
