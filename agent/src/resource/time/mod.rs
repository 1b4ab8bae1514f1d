//! The built-in `time`: a version when an interval has passed, or once in a range of the day.
//!
//! The rules are those of Concourse's time resource; its file names too.

mod clock;

use super::built_in::Call;
use super::settings::{decode, decode_params};
use super::{Fetched, Stop, Version};
use crate::container::Volume;
use chrono::{DateTime, Datelike, Duration, SecondsFormat, Utc, Weekday};
use clock::{TimeOfDay, Zone};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) const NAME: &str = "time";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Source {
    interval: Option<String>,
    start: Option<String>,
    stop: Option<String>,
    days: Vec<String>,
    location: Option<String>,
    /// A version at once, whatever the rest says.
    initial_version: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct NoParams {}

/// When there is a version.
struct Rule {
    interval: Option<Duration>,
    /// From the first to before the second, which may be on the next day.
    range: Option<(TimeOfDay, TimeOfDay)>,
    days: Vec<Weekday>,
    zone: Zone,
    initial: bool,
}

fn wrong(field: &str, what: impl std::fmt::Display) -> Stop {
    Stop::Errored(format!("time: source.{field}: {what}"))
}

fn rule(call: &Call<'_>) -> Result<Rule, Stop> {
    let source: Source = decode(NAME, "source", call.source)?;
    let interval = source.interval.map(|text| {
        let parsed =
            pocketci_pipeline::duration::parse_go(&text).map_err(|e| wrong("interval", e))?;
        Duration::from_std(parsed).map_err(|e| wrong("interval", e))
    });
    let range = match (&source.start, &source.stop) {
        (Some(start), Some(stop)) => Some((
            start.parse().map_err(|e| wrong("start", e))?,
            stop.parse().map_err(|e| wrong("stop", e))?,
        )),
        (None, None) => None,
        (Some(_), None) => return Err(wrong("stop", "it belongs to start")),
        (None, Some(_)) => return Err(wrong("start", "it belongs to stop")),
    };
    let days = source.days.iter().map(|day| {
        day.parse()
            .map_err(|_| wrong("days", format!("{day:?} is not a day such as Monday")))
    });
    let rule = Rule {
        interval: interval.transpose()?,
        range,
        days: days.collect::<Result<_, _>>()?,
        zone: match &source.location {
            Some(name) => name.parse().map_err(|e| wrong("location", e))?,
            None => Zone::utc(),
        },
        initial: source.initial_version,
    };
    if rule.interval.is_none() && rule.range.is_none() {
        return Err(wrong("interval", "name an interval, or start and stop"));
    }
    Ok(rule)
}

impl Rule {
    /// Versions after `from`, which is among them.
    fn versions(&self, from: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        match from {
            Some(from) if self.is_due(Some(from), now) => vec![from, now],
            Some(from) => vec![from],
            None if self.initial || self.is_due(None, now) => vec![now],
            None => Vec::new(),
        }
    }

    fn is_due(&self, from: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let day = self.zone.local(now).weekday();
        if !self.days.is_empty() && !self.days.contains(&day) {
            return false;
        }
        let range = self
            .range
            .map(|(start, stop)| self.zone.latest_range(start, stop, now));
        if range.is_some_and(|(start, stop)| now < start || now >= stop) {
            return false;
        }
        match (from, self.interval, range) {
            (None, _, _) => true,
            (Some(from), Some(interval), _) => now - from >= interval,
            (Some(from), None, Some((start, _))) => from < start,
            (Some(_), None, None) => false,
        }
    }
}

fn now() -> DateTime<Utc> {
    DateTime::<Utc>::from(std::time::SystemTime::now())
}

fn version(at: DateTime<Utc>) -> Version {
    let text = at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    Version::from([("time".to_owned(), text)])
}

fn time_of(version: &Version) -> Result<DateTime<Utc>, Stop> {
    let text = version.get("time").map(String::as_str).unwrap_or_default();
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .map_err(|_| {
            Stop::Errored(format!(
                "time: version.time: {text:?} is not a time such as 2026-01-02T03:04:05Z"
            ))
        })
}

pub(super) fn check(call: &Call<'_>, from: Option<&Version>) -> Result<Vec<Version>, Stop> {
    let rule = rule(call)?;
    let from = from.map(time_of).transpose()?;
    let found = rule.versions(from, now());
    Ok(found.into_iter().map(version).collect())
}

pub(super) async fn get(
    call: &Call<'_>,
    version: &Version,
    params: &Value,
    into: &Volume,
) -> Result<Fetched, Stop> {
    let _: NoParams = decode_params(NAME, params)?;
    let at = time_of(version)?;
    let request = json!({ "source": call.source, "version": version }).to_string();
    let text = version.get("time").map(String::as_str).unwrap_or_default();
    let epoch = at.timestamp().to_string();
    let files = [
        ("input", request.as_bytes(), 0o644),
        ("timestamp", text.as_bytes(), 0o644),
        ("epoch", epoch.as_bytes(), 0o644),
    ];
    call.write(into, &files).await?;
    Ok(Fetched {
        version: version.clone(),
        metadata: Vec::new(),
    })
}

pub(super) fn put(call: &Call<'_>, params: &Value) -> Result<Fetched, Stop> {
    let _: NoParams = decode_params(NAME, params)?;
    rule(call)?;
    Ok(Fetched {
        version: version(now()),
        metadata: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::native::NativeDriver;
    use crate::resource::StepIo;
    use std::sync::Arc;

    fn rule(source: Value) -> Result<Rule, Stop> {
        let (output, _) = tokio::sync::mpsc::channel(1);
        let io = StepIo {
            looked_at: None,
            output,
            stop: Default::default(),
        };
        let driver: Arc<dyn crate::container::Driver> = Arc::new(NativeDriver::default());
        super::rule(&Call {
            driver: &driver,
            labels: &Default::default(),
            source: source.as_object().unwrap(),
            io: &io,
            privileged: false,
            allow_privileged: false,
        })
    }

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn due(source: Value, from: Option<&str>, now: &str) -> bool {
        rule(source).unwrap().is_due(from.map(at), at(now))
    }

    #[test]
    fn an_interval_is_due_when_it_has_passed() {
        let source = || json!({"interval": "1h30m"});
        let from = Some("2026-01-05T10:00:00Z");
        assert!(due(source(), None, "2026-01-05T10:00:00Z"));
        assert!(!due(source(), from, "2026-01-05T11:29:59Z"));
        assert!(due(source(), from, "2026-01-05T11:30:00Z"));
        let found = rule(source())
            .unwrap()
            .versions(from.map(at), at("2026-01-05T12:00:00Z"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_range_is_due_once_a_day_and_may_cross_midnight() {
        let day = || json!({"start": "9:00 AM", "stop": "5:30 PM"});
        assert!(!due(day(), None, "2026-01-05T08:59:59Z"));
        assert!(due(day(), None, "2026-01-05T09:00:00Z"));
        assert!(!due(day(), None, "2026-01-05T17:30:00Z"));
        assert!(!due(
            day(),
            Some("2026-01-05T09:00:00Z"),
            "2026-01-05T10:00:00Z"
        ));
        assert!(due(
            day(),
            Some("2026-01-04T16:00:00Z"),
            "2026-01-05T10:00:00Z"
        ));
        let night = || json!({"start": "22:00", "stop": "0200"});
        assert!(due(night(), None, "2026-01-05T23:00:00Z"));
        assert!(due(night(), None, "2026-01-06T01:59:00Z"));
        assert!(!due(night(), None, "2026-01-06T02:00:00Z"));
        assert!(!due(
            night(),
            Some("2026-01-05T22:30:00Z"),
            "2026-01-06T01:00:00Z"
        ));
    }

    #[test]
    fn days_and_ranges_are_those_of_the_location() {
        // 23:00 on Sunday in New York is Monday in UTC.
        let source =
            || json!({"interval": "1m", "days": ["Sunday"], "location": "America/New_York"});
        assert!(due(source(), None, "2026-01-05T04:00:00Z"));
        assert!(!due(source(), None, "2026-01-05T05:00:00Z"));
        let tokyo = || json!({"start": "9AM", "stop": "10AM", "location": "Asia/Tokyo"});
        assert!(due(tokyo(), None, "2026-01-05T00:30:00Z"));
        let offset =
            || json!({"start": "9AM +0200", "stop": "10AM +0200", "location": "Asia/Tokyo"});
        assert!(due(offset(), None, "2026-01-05T07:30:00Z"));
        // New York has summer time.
        let summer = || json!({"start": "9:00", "stop": "10:00", "location": "America/New_York"});
        assert!(due(summer(), None, "2026-07-06T13:30:00Z"));
        assert!(!due(summer(), None, "2026-01-05T13:30:00Z"));
    }

    #[test]
    fn mistakes_name_their_field() {
        for (source, field) in [
            (json!({}), "source.interval"),
            (json!({"interval": "1 day"}), "source.interval"),
            (json!({"start": "9AM"}), "source.stop"),
            (json!({"start": "25:00", "stop": "9AM"}), "source.start"),
            (json!({"interval": "1h", "days": ["Freday"]}), "source.days"),
            (
                json!({"interval": "1h", "location": "Mars/Base"}),
                "source.location",
            ),
            (json!({"intervall": "1h"}), "intervall"),
        ] {
            let Err(Stop::Errored(said)) = rule(source) else {
                panic!("{field}")
            };
            assert!(said.contains(field), "{said}");
        }
    }
}
