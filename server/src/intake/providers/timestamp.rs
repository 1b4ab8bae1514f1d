//! When a message was signed, and whether that is near enough to now.

use super::Rejected;

/// How far a timestamp may be from now, in seconds, either way (the advice of Slack, Stripe and Standard Webhooks).
pub(super) const TOLERANCE_SECONDS: u64 = 300;

/// Decimal digits that are a number of seconds: no sign, no space, no fraction.
pub fn seconds(text: &[u8]) -> Result<i64, Rejected> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits
        .then(|| std::str::from_utf8(text).ok()?.parse().ok())
        .flatten()
        .ok_or(Rejected("the timestamp is no number of seconds"))
}

/// Whether `sent` is within `tolerance` of `now`, both in the same unit.
pub(super) fn fresh(sent: i64, now: i64, tolerance: u64) -> Result<(), Rejected> {
    if sent.abs_diff(now) > tolerance {
        return Err(Rejected("the timestamp is too far from now"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decimal_digits_are_a_timestamp() {
        assert_eq!(seconds(b"0"), Ok(0));
        assert_eq!(seconds(b"9223372036854775807"), Ok(i64::MAX));
        for text in [
            "",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "Infinity",
            "0x1",
            "9223372036854775808",
            "١",
        ] {
            assert!(seconds(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_window_is_the_same_both_ways_and_does_not_wrap() {
        for (sent, now, good) in [
            (1000, 1300, true),
            (1000, 700, true),
            (1000, 1301, false),
            (1000, 699, false),
            (i64::MAX, i64::MIN, false),
            (i64::MIN, i64::MAX, false),
            (0, i64::MIN, false),
        ] {
            assert_eq!(fresh(sent, now, 300).is_ok(), good, "{sent} {now}");
        }
    }
}
