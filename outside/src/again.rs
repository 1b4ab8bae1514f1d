//! When to try again: what the receiver asks for, and how a usual wait is spread.

use http::header::HeaderValue;
use std::time::Duration;
use time::OffsetDateTime;

/// Longest wait that a receiver may ask for.
pub const MAX_ASKED: Duration = Duration::from_secs(24 * 3600);
/// How much a usual wait is changed by chance, up and down: those that failed together do not come back together.
pub const JITTER: f64 = 0.2;

/// What `Retry-After` (RFC 9110 section 10.2.3) asks for: seconds, also with a fraction, or a date. What is in the past
/// or negative is no wait, what is beyond [`MAX_ASKED`] is that; `None` if it is neither.
pub fn retry_after(value: &str, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    // `inf`, `nan` and exponents are numbers to the parser, not to us.
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
    if !value.is_empty() && value.chars().all(numeric) {
        let seconds: f64 = value.parse().ok()?;
        let seconds = seconds.clamp(0.0, MAX_ASKED.as_secs_f64());
        return Some(Duration::from_secs_f64(seconds));
    }
    let date = OffsetDateTime::from(httpdate::parse_http_date(value).ok()?);
    let wait = Duration::try_from(date - now).unwrap_or(Duration::ZERO);
    Some(wait.min(MAX_ASKED))
}

/// The same for a header as it came.
pub fn retry_after_header(value: &HeaderValue, now: OffsetDateTime) -> Option<Duration> {
    retry_after(value.to_str().ok()?, now)
}

/// A wait changed by chance, within ±[`JITTER`]; `chance` is in 0..1.
pub fn jittered(wait: Duration, chance: f64) -> Duration {
    wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_may_ask_for_a_wait_in_every_form() {
        let now = OffsetDateTime::from_unix_timestamp(1_445_412_480).unwrap();
        let asked = |value: &str| retry_after(value, now).map(|wait| wait.as_millis());
        assert_eq!(asked("0"), Some(0));
        assert_eq!(asked(" 120 "), Some(120_000));
        assert_eq!(asked("1.5"), Some(1_500));
        assert_eq!(asked("-5"), Some(0), "negative is no wait");
        assert_eq!(asked("99999999999999999999999"), Some(86_400_000));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:30 GMT"), Some(30_000));
        assert_eq!(asked("Wed, 21 Oct 2015 07:27:30 GMT"), Some(0), "past");
        assert_eq!(asked("Wed, 21 Oct 2099 07:27:30 GMT"), Some(86_400_000));
        for nonsense in ["", "soon", "1e9", "inf", "NaN", "1-2", "--", ".", "1 s"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn chance_changes_a_wait_by_a_fifth_at_most() {
        let wait = Duration::from_secs(100);
        assert_eq!(jittered(wait, 0.0), Duration::from_secs(80));
        assert_eq!(jittered(wait, 0.5), Duration::from_secs(100));
        assert_eq!(jittered(wait, 1.0), Duration::from_secs(120));
        assert_eq!(jittered(wait, 7.0), Duration::from_secs(120));
    }
}
