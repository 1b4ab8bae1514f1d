//! Durations (`1h30m`) and sizes (`512MB`) as authors write them.

use std::time::Duration;

/// Longest duration taken: beyond it is a slip of the pen.
const MAX_DURATION_SECONDS: f64 = 366.0 * 86_400.0;

/// A Go duration: decimal numbers with units `ns us µs ms s m h`, for example `1h30m` or `1.5s`.
pub(in crate::js) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest)?;
        seconds += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = after;
    }
    from_seconds(seconds)
}

/// Milliseconds.
pub(in crate::js) fn duration_ms(ms: f64) -> Option<Duration> {
    from_seconds(ms / 1000.0)
}

fn from_seconds(seconds: f64) -> Option<Duration> {
    ((0.0..=MAX_DURATION_SECONDS).contains(&seconds)).then(|| Duration::from_secs_f64(seconds))
}

/// Bytes: a number with an optional unit, powers of 1024 as Docker reads them (`b k kb m mb mib g gb gib t`).
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit, rest) = number_and_unit(text)?;
    if !rest.is_empty() {
        return None;
    }
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let bytes = number * (1u64 << shift) as f64;
    (bytes <= i64::MAX as f64).then_some(bytes as u64)
}

/// A decimal number, the letters after it, and the rest.
fn number_and_unit(text: &str) -> Option<(f64, &str, &str)> {
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let letters = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let ms = |text| duration(text).map(|duration| duration.as_millis());
        assert_eq!(ms("90s"), Some(90_000));
        assert_eq!(ms("1h30m"), Some(5_400_000));
        assert_eq!(ms("1.5s"), Some(1_500));
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("0"), Some(0));
        assert_eq!(ms("1µs"), Some(0));
        for wrong in [
            "",
            "90",
            "s",
            "-5s",
            "5 s",
            "1.2.3s",
            "1d",
            "1h-1m",
            "∞",
            "9999999999h",
            ".",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_dockers() {
        assert_eq!(size("512MB"), Some(512 << 20));
        assert_eq!(size("1g"), Some(1 << 30));
        assert_eq!(size("1.5 GiB"), Some(3 << 29));
        assert_eq!(size("100"), Some(100));
        for wrong in ["", "MB", "-1g", "1gg", "1g2", "1e400g", "99999999t"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
