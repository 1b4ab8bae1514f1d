//! What an unquoted scalar means in YAML 1.1 as Go reads it, and how Go writes numbers.

use super::Kind;

/// What an unquoted scalar is; `Err` for a number JSON has not.
pub fn resolve(text: &str) -> Result<Kind, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Kind::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(Kind::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(Kind::Bool(false));
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF"
        | ".nan" | ".NaN" | ".NAN" => {
            return Err(format!("{text} is no number that JSON can hold"));
        }
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Ok(Kind::Text(text.to_owned()));
    }
    let plain = text.replace('_', "");
    if let Some(kind) = whole(&plain) {
        return Ok(kind);
    }
    if looks_like_a_float(&plain)
        && let Ok(value) = plain.parse::<f64>()
    {
        if value.is_finite() {
            return Ok(Kind::Float(value));
        }
        return Err(format!("{text} is no number that JSON can hold"));
    }
    Ok(Kind::Text(text.to_owned()))
}

/// Go's `ParseInt` with base 0: `0x`, `0o`, `0b`, and a leading 0 for octal.
fn whole(text: &str) -> Option<Kind> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    let signed = if negative {
        0_i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    };
    match signed {
        Some(value) => Some(Kind::Int(value)),
        None if negative => None,
        None => Some(Kind::Large(value)),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn looks_like_a_float(text: &str) -> bool {
    fn digits(text: &str) -> (usize, &str) {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        (end, &text[end..])
    }
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = digits(text);
    let (part, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => (0, rest),
    };
    if whole == 0 && part == 0 {
        return false;
    }
    match rest.strip_prefix(['e', 'E']) {
        Some(rest) => {
            let (power, rest) = digits(rest.strip_prefix(['-', '+']).unwrap_or(rest));
            power > 0 && rest.is_empty()
        }
        None => rest.is_empty(),
    }
}

/// A number as Go's `FormatFloat(value, 'g', -1, 64)` writes it: what a float becomes where text is expected.
pub fn go_float(value: f64) -> String {
    let (digits, exponent) = shortest(value);
    if value == 0.0 || (-4..6).contains(&exponent) {
        return plain(value);
    }
    scientific(value, &digits, exponent)
}

/// A number as Go's `encoding/json` writes it: what a float becomes in a task's environment.
pub fn json_float(value: f64) -> String {
    let (digits, exponent) = shortest(value);
    if value == 0.0 || (-6..21).contains(&exponent) {
        return plain(value);
    }
    // Go's JSON writes e-09 as e-9.
    scientific(value, &digits, exponent).replace("e-0", "e-")
}

/// The fewest digits that tell the value, and the power of ten of the first.
fn shortest(value: f64) -> (String, i32) {
    let written = format!("{:e}", value.abs());
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    (mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
}

fn plain(value: f64) -> String {
    // Rust's Display never uses an exponent and gives the fewest digits.
    if value == 0.0 {
        "0".to_owned()
    } else {
        value.to_string()
    }
}

fn scientific(value: f64, digits: &str, exponent: i32) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let power = exponent.abs();
    let direction = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{direction}{power:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        for (text, kind) in [
            ("yes", Kind::Bool(true)),
            ("N", Kind::Bool(false)),
            ("Off", Kind::Bool(false)),
            ("~", Kind::Null),
            ("0o17", Kind::Int(15)),
            ("017", Kind::Int(15)),
            ("0x10", Kind::Int(16)),
            ("-0x10", Kind::Int(-16)),
            ("0b101", Kind::Int(5)),
            ("+7", Kind::Int(7)),
            ("1_000", Kind::Int(1000)),
            ("08", Kind::Float(8.0)),
            ("1e3", Kind::Float(1000.0)),
            ("1.50", Kind::Float(1.5)),
            (".5", Kind::Float(0.5)),
            ("-3", Kind::Int(-3)),
            (
                "12345678901234567890",
                Kind::Large(12_345_678_901_234_567_890),
            ),
            ("-9223372036854775808", Kind::Int(i64::MIN)),
            ("2024-01-02", Kind::Text("2024-01-02".into())),
            ("1.2.3", Kind::Text("1.2.3".into())),
            ("10m", Kind::Text("10m".into())),
            ("0x", Kind::Text("0x".into())),
            ("-", Kind::Text("-".into())),
            (".", Kind::Text(".".into())),
            ("0x+1", Kind::Text("0x+1".into())),
            ("yEs", Kind::Text("yEs".into())),
        ] {
            assert_eq!(resolve(text), Ok(kind), "{text}");
        }
        assert!(resolve(".inf").is_err() && resolve("1e999").is_err());
    }

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (value, go, json) in [
            (1.5, "1.5", "1.5"),
            (1000.0, "1000", "1000"),
            (0.0, "0", "0"),
            (-2.25, "-2.25", "-2.25"),
            (1e21, "1e+21", "1e+21"),
            (1.25e-7, "1.25e-07", "1.25e-7"),
            (0.00001, "1e-05", "0.00001"),
            (
                12_345_678_901_234_567_890.0,
                "1.2345678901234567e+19",
                "12345678901234567000",
            ),
        ] {
            assert_eq!(
                (go_float(value), json_float(value)),
                (go.into(), json.into())
            );
        }
    }
}
