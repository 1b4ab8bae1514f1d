//! How long to wait before connecting again: doubling, capped, jittered.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);

pub(super) struct Backoff {
    wait: Duration,
    /// What the server asked for.
    asked: Option<Duration>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            wait: FIRST,
            asked: None,
        }
    }
}

impl Backoff {
    /// The next wait: between half of the step and all of it, by `random` (uniform), then the step doubles.
    pub(super) fn next(&mut self, random: u32) -> Duration {
        if let Some(asked) = self.asked.take() {
            return asked;
        }
        let part = 0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0;
        let wait = self.wait.mul_f64(part);
        self.wait = (self.wait * 2).min(LONGEST);
        wait
    }

    /// The next wait is this one, within the longest: a server that goes spreads its agents over time.
    pub(super) fn asked(&mut self, wait: Duration) {
        self.asked = Some(wait.min(LONGEST));
    }

    /// A connection worked.
    pub(super) fn reset(&mut self) {
        self.wait = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_within_their_jitter() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(
            waits,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert_eq!(backoff.next(0), LONGEST / 2);
        backoff.reset();
        assert_eq!(backoff.next(0), FIRST / 2);
    }

    #[test]
    fn a_wait_that_the_server_asked_for_comes_once_and_is_never_longer_than_the_longest() {
        let mut backoff = Backoff::default();
        backoff.asked(Duration::from_millis(700));
        assert_eq!(backoff.next(u32::MAX), Duration::from_millis(700));
        assert_eq!(backoff.next(u32::MAX), FIRST);
        backoff.asked(Duration::from_secs(3600));
        assert_eq!(backoff.next(0), LONGEST);
    }
}
