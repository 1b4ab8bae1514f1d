//! When a job starts by itself: cron expressions of five fields and their short forms. Nothing here knows the time.

/// A cron expression. All fields are in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cron {
    /// Five fields.
    Fields(Fields),
    /// `@every`, with its duration in nanoseconds.
    Every(i64),
}

/// Sets of values, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// 0 to 59.
    pub minutes: u64,
    /// 0 to 23.
    pub hours: u64,
    /// 1 to 31.
    pub days: u64,
    /// 1 to 12.
    pub months: u64,
    /// 0 (Sunday) to 6.
    pub weekdays: u64,
    /// Whether the days of the month were `*`: then the weekday alone decides.
    pub any_day: bool,
    /// Whether the weekdays were `*`: then the day of the month alone decides.
    pub any_weekday: bool,
}

impl Fields {
    /// Whether it is time. With both days restricted, either is enough, as in every cron.
    pub fn matches(&self, minute: u8, hour: u8, day: u8, month: u8, weekday: u8) -> bool {
        let has = |set: u64, value: u8| value < 64 && set >> value & 1 == 1;
        let (day, weekday) = (has(self.days, day), has(self.weekdays, weekday));
        let of_day = if self.any_day || self.any_weekday {
            day && weekday
        } else {
            day || weekday
        };
        has(self.minutes, minute) && has(self.hours, hour) && has(self.months, month) && of_day
    }
}

/// A field's name, its bounds and its names of values.
struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        low: 0,
        high: 59,
        names: &[],
    },
    Field {
        name: "hour",
        low: 0,
        high: 23,
        names: &[],
    },
    Field {
        name: "day of the month",
        low: 1,
        high: 31,
        names: &[],
    },
    Field {
        name: "month",
        low: 1,
        high: 12,
        names: MONTHS,
    },
    Field {
        name: "day of the week",
        low: 0,
        high: 7,
        names: WEEKDAYS,
    },
];

/// Reads a cron expression.
///
/// # Errors
/// A sentence that names the field and what it may be.
pub fn parse_cron(text: &str) -> Result<Cron, String> {
    let text = text.trim();
    if let Some(duration) = text.strip_prefix("@every ") {
        return parse_every(duration.trim()).map(Cron::Every);
    }
    let expanded = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other if other.starts_with('@') => {
            return Err(format!(
                "unknown schedule {other:?}: expected @yearly, @monthly, @weekly, @daily, @hourly or @every DURATION"
            ));
        }
        other => other,
    };
    let parts: Vec<&str> = expanded.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
        return Err(format!(
            "expected five fields (minute hour day month weekday), not {}: {text:?}",
            parts.len()
        ));
    };
    let weekday_set = set(weekdays, &FIELDS[4])?;
    Ok(Cron::Fields(Fields {
        minutes: set(minutes, &FIELDS[0])?,
        hours: set(hours, &FIELDS[1])?,
        days: set(days, &FIELDS[2])?,
        months: set(months, &FIELDS[3])?,
        // 7 is Sunday, too.
        weekdays: weekday_set & 0x7f | weekday_set >> 7,
        any_day: is_any(days),
        any_weekday: is_any(weekdays),
    }))
}

/// Reads the interval of `every`, in nanoseconds.
///
/// # Errors
/// The text is no duration, or not above zero.
pub fn parse_every(text: &str) -> Result<i64, String> {
    match crate::duration::parse_go_nanos(text) {
        Ok(nanos) if nanos > 0 => Ok(nanos),
        Ok(_) => Err(format!("the interval {text:?} must be greater than 0")),
        Err(error) => Err(error.to_string()),
    }
}

fn is_any(text: &str) -> bool {
    text.split(',').any(|part| part.starts_with(['*', '?']))
}

fn set(text: &str, field: &Field) -> Result<u64, String> {
    let mut all = 0;
    for part in text.split(',') {
        all |= range(part, field).ok_or_else(|| {
            format!(
                "{part:?} is no {}: expected {} to {}, *, ranges (1-5) or steps (*/10)",
                field.name, field.low, field.high
            )
        })?;
    }
    Ok(all)
}

fn range(part: &str, field: &Field) -> Option<u64> {
    let (span, step) = match part.split_once('/') {
        Some((span, step)) => (span, step.parse::<u8>().ok().filter(|step| *step > 0)?),
        None => (part, 1),
    };
    let (low, high) = match span.split_once('-') {
        _ if span == "*" || span == "?" => (field.low, field.high),
        Some((low, high)) => (value(low, field)?, value(high, field)?),
        // `5/10` begins at 5 and goes to the end.
        None if part.contains('/') => (value(span, field)?, field.high),
        None => {
            let only = value(span, field)?;
            (only, only)
        }
    };
    if low > high {
        return None;
    }
    Some(
        (low..=high)
            .step_by(usize::from(step))
            .fold(0, |set, value| set | 1 << value),
    )
}

fn value(text: &str, field: &Field) -> Option<u8> {
    let lower = text.to_ascii_lowercase();
    if let Some(index) = field.names.iter().position(|name| *name == lower) {
        return u8::try_from(index).ok().map(|index| index + field.low);
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value = text.parse::<u8>().ok()?;
    (field.low..=field.high).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_and_short_forms_are_read() {
        let fields = |text| match parse_cron(text) {
            Ok(Cron::Fields(fields)) => fields,
            other => panic!("{text}: {other:?}"),
        };
        assert!(fields("*/15 9-17 * * mon-fri").matches(30, 9, 4, 7, 5));
        assert!(!fields("*/15 9-17 * * 1-5").matches(30, 9, 4, 7, 6));
        assert!(fields("0 0 * * 7").matches(0, 0, 1, 1, 0));
        assert!(fields("5/20 * * dec *").matches(45, 3, 31, 12, 2));
        // Either day is enough when both are given.
        let either = fields("0 0 13 * 5");
        assert!(either.matches(0, 0, 13, 1, 1) && either.matches(0, 0, 1, 1, 5));
        assert!(!either.matches(0, 0, 1, 1, 1));
        assert_eq!(fields("@daily"), fields("0 0 * * *"));
        assert_eq!(parse_cron("@every 90s"), Ok(Cron::Every(90_000_000_000)));
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@often",
            "@every 0s",
            "+1 * * * *",
        ] {
            assert!(parse_cron(text).is_err(), "{text}");
        }
        assert!(parse_every("-1h").is_err());
    }
}
