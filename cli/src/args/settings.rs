//! Flags of `set-pipeline` that change a pipeline's settings; each one alone, the others stay as they are.

use clap::{Args as ClapArgs, ValueEnum};
use humantime::parse_duration;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A time limit, or none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The default again.
    Default,
    /// At most so long.
    Within(Duration),
}

fn limit(text: &str) -> Result<Limit, String> {
    if text == "default" {
        return Ok(Limit::Default);
    }
    let within = parse_duration(text).map_err(|error| error.to_string())?;
    match (within.as_secs(), within.subsec_nanos()) {
        (0, _) | (_, 1..) => Err("whole seconds, at least 1s, or default".into()),
        _ => Ok(Limit::Within(within)),
    }
}

impl Limit {
    fn json(self) -> Value {
        match self {
            Self::Default => Value::Null,
            Self::Within(time) => json!(time.as_secs()),
        }
    }
}

/// See the API's `on_conflict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnConflictArg {
    /// Wait its turn
    Queue,
    /// Take the place of those that wait
    CancelQueued,
    /// Stop those that run too
    CancelRunning,
    /// End as skipped
    Skip,
}

/// What a put may change of the settings.
#[derive(ClapArgs, Default)]
pub struct SettingsArgs {
    /// -10 to 10: jobs of a higher one are handed out first; each minute of waiting counts as one level
    #[arg(long, allow_hyphen_values = true)]
    pub priority: Option<i32>,
    /// One run at a time; same as --max-in-flight 1
    #[arg(long, conflicts_with = "max_in_flight")]
    pub serial: bool,
    /// So many runs (of a group) at a time; 0 removes the rule
    #[arg(long, value_name = "RUNS")]
    pub max_in_flight: Option<u32>,
    /// An expression over the webhook: runs with the same value are one group; "" makes all runs one
    #[arg(long, value_name = "EXPRESSION")]
    pub group: Option<String>,
    /// What a new run does when its group is full
    #[arg(long, value_enum)]
    pub on_conflict: Option<OnConflictArg>,
    /// How long a job may wait for an agent, or "default"
    #[arg(long, value_parser = limit, value_name = "DURATION")]
    pub queue_timeout: Option<Limit>,
    /// How long an attempt may run, or "default" (the agent's --job-timeout counts too)
    #[arg(long, value_parser = limit, value_name = "DURATION")]
    pub timeout: Option<Limit>,
    /// 1 to 20: how often a job is tried when its agent or the infrastructure fails
    #[arg(long, value_name = "TIMES")]
    pub attempts: Option<i32>,
    /// Whether effects are recorded and replayed when a job is tried again
    #[arg(long, value_name = "BOOL")]
    pub durable: Option<bool>,
    /// How webhooks are taken, as a JSON object: '{"provider": "github", "dedup_key": "…"}'; null takes one back
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub webhook: Option<Value>,
    /// With whose rights an unverified webhook's run works
    #[arg(long, value_enum)]
    pub run_as: Option<RunAsArg>,
    /// An event that starts the pipeline, KEY or KEY=FILTER; may be repeated; "" takes all back
    #[arg(long = "on", value_name = "EVENT")]
    pub on: Vec<String>,
}

/// See the API's `run_as`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunAsArg {
    /// Without secrets
    Anonymous,
    /// As any other run of the pipeline
    Pipeline,
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(Value::Object(object)),
        Ok(_) => Err("a JSON object is expected".into()),
        Err(error) => Err(error.to_string()),
    }
}

impl SettingsArgs {
    /// The merge patch; `None` if no flag was given.
    pub fn patch(&self) -> Option<Value> {
        let mut patch = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                patch.insert(name.to_owned(), value);
            }
        };
        set("priority", self.priority.map(|priority| json!(priority)));
        set("queue_timeout_seconds", self.queue_timeout.map(Limit::json));
        set("timeout_seconds", self.timeout.map(Limit::json));
        set("attempts", self.attempts.map(|attempts| json!(attempts)));
        set("durable", self.durable.map(|durable| json!(durable)));
        set("concurrency", self.concurrency());
        set("webhook", self.webhook());
        set("on", self.on());
        (!patch.is_empty()).then_some(Value::Object(patch))
    }

    fn webhook(&self) -> Option<Value> {
        let mut webhook = self.webhook.clone();
        let word = self.run_as.and_then(|run_as| run_as.to_possible_value());
        if let Some(word) = word {
            let settings = webhook.get_or_insert_with(|| json!({}));
            settings["run_as"] = word.get_name().into();
        }
        webhook
    }

    fn on(&self) -> Option<Value> {
        if self.on.is_empty() {
            return None;
        }
        let listens = self.on.iter().filter(|event| !event.is_empty());
        let listens: Vec<Value> = listens
            .map(|event| match event.split_once('=') {
                Some((key, filter)) => json!({"event": key, "filter": filter}),
                None => json!({"event": event}),
            })
            .collect();
        Some(listens.into())
    }

    fn concurrency(&self) -> Option<Value> {
        let limit = if self.serial {
            Some(1)
        } else {
            self.max_in_flight
        };
        if limit == Some(0) {
            return Some(Value::Null);
        }
        let mut rule = Map::new();
        if let Some(limit) = limit {
            rule.insert("limit".into(), json!(limit));
        }
        if let Some(group) = &self.group {
            let group = match group.as_str() {
                "" => Value::Null,
                text => json!(text),
            };
            rule.insert("group".into(), group);
        }
        let word = self
            .on_conflict
            .and_then(|policy| policy.to_possible_value());
        if let Some(word) = word {
            rule.insert("on_conflict".into(), json!(word.get_name()));
        }
        (!rule.is_empty()).then_some(Value::Object(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_is_in_the_patch() {
        assert_eq!(SettingsArgs::default().patch(), None);
        let args = SettingsArgs {
            serial: true,
            on_conflict: Some(OnConflictArg::CancelRunning),
            queue_timeout: Some(Limit::Default),
            timeout: Some(Limit::Within(Duration::from_secs(90))),
            ..SettingsArgs::default()
        };
        let expected = json!({
            "concurrency": {"limit": 1, "on_conflict": "cancel-running"},
            "queue_timeout_seconds": null,
            "timeout_seconds": 90,
        });
        assert_eq!(args.patch(), Some(expected));
        let none = SettingsArgs {
            max_in_flight: Some(0),
            ..SettingsArgs::default()
        };
        assert_eq!(none.patch(), Some(json!({"concurrency": null})));
    }

    #[test]
    fn webhooks_and_events_are_patched_by_themselves() {
        let args = SettingsArgs {
            webhook: Some(json!({"provider": "slack"})),
            run_as: Some(RunAsArg::Pipeline),
            on: vec!["a".into(), "b=payload.x == 1".into()],
            ..SettingsArgs::default()
        };
        let expected = json!({
            "webhook": {"provider": "slack", "run_as": "pipeline"},
            "on": [{"event": "a"}, {"event": "b", "filter": "payload.x == 1"}],
        });
        assert_eq!(args.patch(), Some(expected));
        let none = SettingsArgs {
            on: vec![String::new()],
            ..SettingsArgs::default()
        };
        assert_eq!(none.patch(), Some(json!({"on": []})));
    }

    #[test]
    fn times_are_at_least_a_second() {
        assert_eq!(limit("2m"), Ok(Limit::Within(Duration::from_secs(120))));
        assert_eq!(limit("default"), Ok(Limit::Default));
        assert!(limit("20ms").is_err() && limit("1500ms").is_err() && limit("soon").is_err());
    }
}
