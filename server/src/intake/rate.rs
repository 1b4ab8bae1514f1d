//! How often a receiving point takes requests: a bucket of tokens each, in this server's memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Most receiving points that are remembered; when full, all are forgotten, which lets each begin anew.
const MAX_BUCKETS: usize = 10_000;

/// The buckets of all receiving points that have a limit.
#[derive(Default)]
pub(super) struct Rates {
    buckets: Mutex<HashMap<Uuid, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rates {
    /// Takes one request of at most `per_minute`, all of which may come at once; else how long until the next one.
    pub(super) fn take(&self, hook: Uuid, per_minute: u32, now: Instant) -> Result<(), Duration> {
        let limit = f64::from(per_minute.max(1));
        let per_second = limit / 60.0;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&hook) {
            buckets.clear();
        }
        let bucket = buckets.entry(hook).or_insert(Bucket {
            tokens: limit,
            at: now,
        });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * per_second).min(limit);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_after_the_other() {
        let rates = Rates::default();
        let (hook, now) = (Uuid::nil(), Instant::now());
        for _ in 0..6 {
            assert!(rates.take(hook, 6, now).is_ok());
        }
        let wait = rates.take(hook, 6, now).unwrap_err();
        assert_eq!(wait.as_secs_f64().round() as u64, 10);
        assert!(rates.take(Uuid::max(), 6, now).is_ok(), "each has its own");
        assert!(rates.take(hook, 6, now + Duration::from_secs(11)).is_ok());
    }
}
