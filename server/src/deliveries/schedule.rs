//! When a delivery is tried again, and when its receiver is left in peace for a while.

use pocketci_outside::again::jittered;
use std::time::Duration;

/// Waits before the second, third… try: about 76 hours in all.
const USUAL: [u64; 10] = [
    5,
    30,
    5 * 60,
    30 * 60,
    2 * 3600,
    5 * 3600,
    10 * 3600,
    14 * 3600,
    20 * 3600,
    24 * 3600,
];
/// Failures in a row after which the breaker opens.
const BREAKER_AFTER: i64 = 5;
/// How long it is open at first; doubled with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// How long it is open at most: a receiver that is back is noticed within this time.
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);

/// See [`super::DeliverySettings::schedule`].
pub fn default_schedule() -> Vec<Duration> {
    USUAL.map(Duration::from_secs).to_vec()
}

/// The wait after the try of this number (from 1), changed by chance (0..1); what the receiver asks for counts if it is
/// more. `None`: that was the last one.
pub(super) fn wait_after(
    schedule: &[Duration],
    number: i32,
    asked: Option<Duration>,
    chance: f64,
) -> Option<Duration> {
    let at = usize::try_from(number).ok()?.checked_sub(1)?;
    let usual = jittered(*schedule.get(at)?, chance);
    Some(asked.map_or(usual, |asked| asked.max(usual)))
}

/// For how long a receiver that failed so often in a row, this time included, is sent nothing. One request then finds
/// out whether it is back (the store lets one receiver that failed last have one request at a time).
pub(super) fn breaker(failures: i64, chance: f64) -> Option<Duration> {
    let beyond = failures - BREAKER_AFTER;
    if beyond < 0 {
        return None;
    }
    let doubled = u32::try_from(beyond).unwrap_or(u32::MAX).min(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << doubled).min(MAX_PAUSE);
    Some(jittered(pause, chance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_the_documented_one_within_its_jitter() {
        let documented = [
            5, 30, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400,
        ];
        let schedule = default_schedule();
        for (number, seconds) in (1..).zip(documented) {
            let wait =
                |chance| wait_after(&schedule, number, None, chance).map(|w| w.as_secs_f64());
            assert_eq!(wait(0.5), Some(f64::from(seconds)));
            assert_eq!(wait(0.0), Some(f64::from(seconds) * 0.8));
            assert_eq!(wait(1.0), Some(f64::from(seconds) * 1.2));
        }
        assert_eq!(wait_after(&schedule, 11, None, 0.5), None, "the last one");
        assert_eq!(wait_after(&[], 1, None, 0.5), None, "one try only");
    }

    #[test]
    fn what_a_receiver_asks_for_counts_if_it_is_more_and_brings_no_further_try() {
        let schedule = [Duration::from_secs(10)];
        let hour = Duration::from_secs(3600);
        assert_eq!(wait_after(&schedule, 1, Some(hour), 0.5), Some(hour));
        let little = Some(Duration::from_secs(1));
        assert_eq!(
            wait_after(&schedule, 1, little, 0.5),
            Some(Duration::from_secs(10))
        );
        assert_eq!(wait_after(&schedule, 2, Some(hour), 0.5), None);
    }

    #[test]
    fn the_breaker_opens_after_some_failures_and_for_longer_each_time() {
        assert_eq!(breaker(4, 0.5), None);
        let pauses = [5, 6, 7, 11, 12, 1_000_000].map(|failures| breaker(failures, 0.5));
        let seconds = [5, 10, 20, 300, 300, 300];
        assert_eq!(pauses, seconds.map(|s| Some(Duration::from_secs(s))));
    }
}
