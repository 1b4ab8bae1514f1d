//! Durations as Go writes them: `1h30m`, `1.5s`, `100ms`.

use std::time::Duration;

/// Units, and how many nanoseconds they have; longer names first.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// The duration; an `Err` says what is expected. Negative ones are over at once.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!("{text:?} is no duration; write numbers with units, such as 90s, 1h30m or 500ms")
    };
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..end]);
        nanos += number * unit.ok_or_else(wrong)?.1;
        rest = &rest[end..];
    }
    if negative {
        return Ok(Duration::ZERO);
    }
    Duration::try_from_secs_f64(nanos / 1e9).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_understood_and_others_are_not() {
        for (text, millis) in [
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("100ms", 100),
            ("2000us", 2),
            ("0", 0),
            ("-3s", 0),
            ("+1m0.5s", 60_500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1", "1d", "h", "1.2.3s", "s1", "1 s", "-", "never"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
