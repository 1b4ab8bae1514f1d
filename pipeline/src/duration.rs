//! Durations as Go writes them: `1h30m`, `1.5s`, `-2ms`.

use std::time::Duration;

/// A text that is no duration; the words are Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a sequence of numbers with units.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit nobody knows.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// As written.
        unit: String,
        /// The whole text.
        text: String,
    },
}

/// A duration with its sign, in nanoseconds; as in Go it fits in 64 bits (about 292 years).
///
/// # Errors
/// The text is no duration. The grammar is `[-+]?(0|([0-9]*(\.[0-9]*)?unit)+)`, units are `ns us µs μs ms s m h`.
pub fn parse_go_nanos(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let scale = unit_nanos(unit).ok_or_else(|| DurationError::UnknownUnit {
            unit: unit.to_owned(),
            text: text.to_owned(),
        })?;
        total = parsed(whole, fraction, scale)
            .and_then(|nanos| total.checked_add(nanos))
            .filter(|total| *total <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = after;
    }
    let signed = i128::try_from(total).map_err(|_| invalid())?;
    i64::try_from(if negative { -signed } else { signed }).map_err(|_| invalid())
}

/// A duration; one below zero is none.
///
/// # Errors
/// As [`parse_go_nanos`], and for a negative one.
pub fn parse_go(text: &str) -> Result<Duration, DurationError> {
    u64::try_from(parse_go_nanos(text)?)
        .map(Duration::from_nanos)
        .map_err(|_| DurationError::Invalid(text.to_owned()))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Digits after the point that count: an hour has fewer nanoseconds than 10^13.
const FRACTION_DIGITS: usize = 18;

fn parsed(whole: &str, fraction: &str, scale: u128) -> Option<u128> {
    let whole: u128 = match whole.trim_start_matches('0') {
        "" => 0,
        // 2^63 has 19 digits.
        long if long.len() > 19 => return None,
        text => text.parse().ok()?,
    };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let power = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    whole.checked_mul(scale)?.checked_add(part * scale / power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_fraction_and_sign_is_understood() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1h0.000000001s", 3_600_000_000_001),
            ("10ms20us30µs40μs50ns", 10_090_050),
            ("-1.5ms", -1_500_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("2540400h10m10.000000000s", 9_145_440_610_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse_go_nanos(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_told_in_gos_words() {
        for (text, told) in [
            ("", "time: invalid duration \"\""),
            ("soon", "time: invalid duration \"soon\""),
            ("-", "time: invalid duration \"-\""),
            (".s", "time: invalid duration \".s\""),
            ("3", "time: missing unit in duration \"3\""),
            ("1h3", "time: missing unit in duration \"1h3\""),
            ("3d", "time: unknown unit \"d\" in duration \"3d\""),
            ("1 h", "time: unknown unit \" h\" in duration \"1 h\""),
            (
                "9223372036854775808ns",
                "time: invalid duration \"9223372036854775808ns\"",
            ),
            (
                "99999999999999999999999h",
                "time: invalid duration \"99999999999999999999999h\"",
            ),
        ] {
            assert_eq!(
                parse_go_nanos(text).unwrap_err().to_string(),
                told,
                "{text}"
            );
        }
        assert!(parse_go("-1s").is_err());
        assert_eq!(parse_go("1500ms"), Ok(Duration::from_millis(1500)));
    }
}
