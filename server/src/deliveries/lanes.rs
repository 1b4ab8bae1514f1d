//! How much may be under way: a quick lane for what answers soon, half of it for receivers that answer, and a slow lane
//! beside it for what has waited for a while, so that silence holds up nobody.

use std::collections::HashMap;
use std::time::Duration;
use tokio::task::Id;
use tokio::time::Instant;

/// What takes longer goes on in the slow lane, if that has room.
const SLOW_AFTER: Duration = Duration::from_millis(500);

/// One delivery under way.
struct Entry {
    began: Instant,
    is_unproven: bool,
}

/// What is under way in one server.
pub struct Lanes {
    /// Of each of the two lanes.
    most: usize,
    entries: HashMap<Id, Entry>,
}

/// What may be begun now.
#[derive(Debug, PartialEq, Eq)]
pub struct Room {
    /// Deliveries in all.
    pub all: usize,
    /// Of which to receivers that failed last, or never answered, at most.
    pub unproven: usize,
    /// When something moves to the slow lane and makes room, if nothing ends before.
    pub more_at: Option<Instant>,
}

impl Lanes {
    /// `most` deliveries in each lane, at least 1.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            entries: HashMap::new(),
        }
    }

    /// `task` begins now; whether its receiver failed last, or never answered.
    pub fn begin(&mut self, task: Id, is_unproven: bool) {
        let began = Instant::now();
        self.entries.insert(task, Entry { began, is_unproven });
    }

    /// `task` is over.
    pub fn end(&mut self, task: Id) {
        self.entries.remove(&task);
    }

    /// What may be begun. Receivers that answer go first into the slow lane: it is the others that are held back when
    /// both are full.
    pub fn room(&self) -> Room {
        let now = Instant::now();
        let mut quick = Count::default();
        let mut slow = Count::default();
        let mut more_at: Option<Instant> = None;
        for entry in self.entries.values() {
            let moves_at = entry.began + SLOW_AFTER;
            if moves_at <= now {
                slow.add(entry.is_unproven);
            } else {
                quick.add(entry.is_unproven);
                more_at = Some(more_at.map_or(moves_at, |at| at.min(moves_at)));
            }
        }
        let moved_proven = slow.proven.min(self.most);
        let moved_unproven = slow.unproven.min(self.most - moved_proven);
        let unproven = quick.unproven + slow.unproven - moved_unproven;
        let all = unproven + quick.proven + slow.proven - moved_proven;
        let free = self.most.saturating_sub(all);
        let is_slow_full = moved_proven + moved_unproven == self.most;
        Room {
            all: free,
            unproven: self.most.div_ceil(2).saturating_sub(unproven).min(free),
            more_at: more_at.filter(|_| !is_slow_full),
        }
    }
}

#[derive(Default)]
struct Count {
    proven: usize,
    unproven: usize,
}

impl Count {
    fn add(&mut self, is_unproven: bool) {
        match is_unproven {
            true => self.unproven += 1,
            false => self.proven += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    /// Lanes, and tasks that never end.
    struct Yard {
        lanes: Lanes,
        tasks: JoinSet<()>,
    }

    impl Yard {
        fn new(most: usize) -> Self {
            Self {
                lanes: Lanes::new(most),
                tasks: JoinSet::new(),
            }
        }

        fn begin(&mut self, count: usize, is_unproven: bool) -> Vec<Id> {
            let begin = |_| {
                let id = self.tasks.spawn(std::future::pending()).id();
                self.lanes.begin(id, is_unproven);
                id
            };
            (0..count).map(begin).collect()
        }

        fn room(&self) -> (usize, usize) {
            let room = self.lanes.room();
            (room.all, room.unproven)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_the_quick_lane_stays_with_receivers_that_answer() {
        let mut yard = Yard::new(8);
        assert_eq!(yard.room(), (8, 4));
        let silent = yard.begin(3, true);
        assert_eq!(yard.room(), (5, 1));
        yard.begin(1, true);
        assert_eq!(yard.room(), (4, 0));
        yard.begin(4, false);
        assert_eq!(yard.room(), (0, 0));
        yard.lanes.end(silent[0]);
        assert_eq!(yard.room(), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_for_a_while_makes_room() {
        let mut yard = Yard::new(8);
        yard.begin(4, true);
        let more_at = yard.lanes.room().more_at;
        assert_eq!(more_at, Some(Instant::now() + SLOW_AFTER));
        tokio::time::advance(SLOW_AFTER).await;
        assert_eq!(yard.room(), (8, 4));
        assert_eq!(yard.lanes.room().more_at, None, "nothing else moves");
        yard.begin(4, true);
        tokio::time::advance(SLOW_AFTER).await;
        assert_eq!(yard.room(), (8, 4), "the slow lane is full now");
        yard.begin(4, true);
        assert_eq!(yard.lanes.room().more_at, None, "and takes no more");
        tokio::time::advance(SLOW_AFTER).await;
        assert_eq!(yard.room(), (4, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_slow_lane_is_for_receivers_that_answer_first() {
        let mut yard = Yard::new(4);
        yard.begin(2, true);
        tokio::time::advance(SLOW_AFTER).await;
        yard.begin(4, false);
        tokio::time::advance(SLOW_AFTER).await;
        assert_eq!(yard.room(), (2, 0), "the silent ones are quick again");
    }
}
