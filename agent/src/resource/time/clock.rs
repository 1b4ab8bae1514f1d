//! Times of the day and the places where they are.

use chrono::{DateTime, Days, FixedOffset, NaiveDateTime, NaiveTime, TimeZone, Utc};
use std::str::FromStr;

/// A place's time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Zone {
    Named(chrono_tz::Tz),
    Fixed(FixedOffset),
}

/// `3PM`, `3:04 PM`, `15:04` or `1504`, each perhaps with an offset: `3PM -0700`.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeOfDay {
    at: NaiveTime,
    offset: Option<FixedOffset>,
}

impl Zone {
    pub(super) fn utc() -> Self {
        Self::Named(chrono_tz::UTC)
    }

    pub(super) fn local(self, at: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Named(zone) => at.with_timezone(&zone).naive_local(),
            Self::Fixed(offset) => at.with_timezone(&offset).naive_local(),
        }
    }

    /// Where the clocks jump, the local time may be twice, or never: then it is the first, or as before the jump.
    fn utc_of(self, local: NaiveDateTime) -> DateTime<Utc> {
        match self {
            Self::Named(zone) => match zone.from_local_datetime(&local).earliest() {
                Some(at) => at.to_utc(),
                None => (zone.from_utc_datetime(&local) - {
                    let before = zone.from_utc_datetime(&(local - chrono::Duration::days(1)));
                    before.naive_local() - before.naive_utc()
                })
                .to_utc(),
            },
            Self::Fixed(offset) => DateTime::from_naive_utc_and_offset(local - offset, Utc),
        }
    }

    /// The range that has begun last, or begins later on the first day there is.
    pub(super) fn latest_range(
        self,
        start: TimeOfDay,
        stop: TimeOfDay,
        now: DateTime<Utc>,
    ) -> (DateTime<Utc>, DateTime<Utc>) {
        let on = |time: TimeOfDay, days_later: i64| {
            let zone = time.offset.map_or(self, Self::Fixed);
            let today = zone.local(now).date();
            let day = match days_later {
                ..0 => today.checked_sub_days(Days::new(days_later.unsigned_abs())),
                _ => today.checked_add_days(Days::new(days_later.unsigned_abs())),
            };
            zone.utc_of(day.unwrap_or(today).and_time(time.at))
        };
        let first = if now < on(start, 0) { -1 } else { 0 };
        let begin = on(start, first);
        let end = on(stop, first);
        let end = if end < begin {
            on(stop, first + 1)
        } else {
            end
        };
        (begin, end)
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(offset) = offset(text) {
            return Ok(Self::Fixed(offset));
        }
        text.parse().map(Self::Named).map_err(|_| {
            format!(
                "{text:?} is not a time zone such as Europe/Berlin, nor an offset such as +0200"
            )
        })
    }
}

/// `+0200`, `-07:00`.
fn offset(text: &str) -> Option<FixedOffset> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = digits.split_at(2);
    let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
    FixedOffset::east_opt(sign * seconds)
}

impl FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(&text.trim().to_ascii_uppercase()).ok_or_else(|| {
            format!("{text:?} is not a time such as 3PM, 3:04 PM, 15:04 or 3PM -0700")
        })
    }
}

fn parse(text: &str) -> Option<TimeOfDay> {
    let (text, offset) = match text.rsplit_once(' ') {
        Some((time, last)) if last.starts_with(['+', '-']) => (time.trim(), Some(offset(last)?)),
        _ => (text, None),
    };
    let (digits, half) = match (text.strip_suffix("AM"), text.strip_suffix("PM")) {
        (Some(time), _) => (time.trim(), Some(0)),
        (_, Some(time)) => (time.trim(), Some(12)),
        (None, None) => (text, None),
    };
    let number = |text: &str| match text.len() {
        1 | 2 => text.parse::<u32>().ok(),
        _ => None,
    };
    let (hour, minute) = match digits.split_once(':') {
        Some((hour, minute)) => (number(hour)?, number(minute).filter(|_| minute.len() == 2)?),
        None if digits.len() == 4 && digits.is_ascii() => {
            (number(&digits[..2])?, number(&digits[2..])?)
        }
        // An hour alone needs its half of the day.
        None => (number(digits).filter(|_| half.is_some())?, 0),
    };
    let hour = match half {
        Some(half) => (1..=12).contains(&hour).then_some(hour % 12 + half)?,
        None => hour,
    };
    let at = NaiveTime::from_hms_opt(hour, minute, 0)?;
    Some(TimeOfDay { at, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        for (text, hour, minute) in [
            ("3PM", 15, 0),
            ("3:04 PM", 15, 4),
            ("12 am", 0, 0),
            ("12:30PM", 12, 30),
            ("15:04", 15, 4),
            ("1504", 15, 4),
            ("0900 -0700", 9, 0),
        ] {
            let found: TimeOfDay = text.parse().unwrap();
            assert_eq!(
                found.at,
                NaiveTime::from_hms_opt(hour, minute, 0).unwrap(),
                "{text}"
            );
        }
        for wrong in ["", "3", "13PM", "24:00", "9:5", "noon", "3PM +7"] {
            assert!(wrong.parse::<TimeOfDay>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_taken_as_before_the_jump() {
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        let skipped = NaiveDateTime::parse_from_str("2026-03-29T02:30:00", "%Y-%m-%dT%H:%M:%S");
        let at = zone.utc_of(skipped.unwrap());
        assert_eq!(at.to_rfc3339(), "2026-03-29T01:30:00+00:00");
    }
}
