//! A pipeline's settings: how its runs share agents with others, how long they may wait and last, how often tried.
//!
//! Stored as JSON with the pipeline; a put is a merge patch of it (RFC 7396): what is absent stays, null goes back to
//! the default.

use super::webhook;
use pocketci_pipeline::expression::Expression;
use pocketci_pipeline::merge_patch;
use pocketci_proto::api::{ConcurrencySettings, OnConflict, PipelineSettings};
use serde_json::Value;
use std::time::Duration;

/// Attempts of a job unless the pipeline says otherwise.
pub const DEFAULT_ATTEMPTS: i32 = 3;
/// Most attempts that a pipeline may ask for.
pub const MAX_ATTEMPTS: i32 = 20;
/// Priorities are `-MAX_PRIORITY..=MAX_PRIORITY`.
pub const MAX_PRIORITY: i32 = 10;
/// Longest time limit that a pipeline may set.
const MAX_SECONDS: u64 = 366 * 24 * 3600;

/// The settings cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("settings: {0}")]
pub struct SettingsError(String);

/// What `patch` makes of `stored`, checked.
pub fn patched(
    stored: &PipelineSettings,
    patch: &Value,
) -> Result<PipelineSettings, SettingsError> {
    let broken = |error: serde_json::Error| SettingsError(error.to_string());
    let mut merged = serde_json::to_value(stored).map_err(broken)?;
    merge_patch::apply(&mut merged, patch.clone());
    let settings: PipelineSettings = serde_json::from_value(merged).map_err(broken)?;
    check(&settings)?;
    Ok(settings)
}

fn check(settings: &PipelineSettings) -> Result<(), SettingsError> {
    let refuse = |text: String| Err(SettingsError(text));
    if let Some(priority) = settings.priority
        && !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&priority)
    {
        return refuse(format!(
            "priority {priority} is not in -{MAX_PRIORITY}..={MAX_PRIORITY}"
        ));
    }
    if let Some(attempts) = settings.attempts
        && !(1..=MAX_ATTEMPTS).contains(&attempts)
    {
        return refuse(format!("attempts {attempts} is not in 1..={MAX_ATTEMPTS}"));
    }
    let times = [
        ("queue_timeout_seconds", settings.queue_timeout_seconds),
        ("timeout_seconds", settings.timeout_seconds),
    ];
    for (name, seconds) in times {
        if let Some(seconds) = seconds
            && !(1..=MAX_SECONDS).contains(&seconds)
        {
            return refuse(format!("{name} {seconds} is not in 1..={MAX_SECONDS}"));
        }
    }
    if let Some(webhook) = &settings.webhook {
        webhook::check(webhook).map_err(|why| SettingsError(format!("webhook: {why}")))?;
    }
    webhook::check_listens(&settings.on).map_err(|why| SettingsError(format!("on: {why}")))?;
    match &settings.concurrency {
        Some(rule) => check_rule(rule),
        None => Ok(()),
    }
}

fn check_rule(rule: &ConcurrencySettings) -> Result<(), SettingsError> {
    if rule.limit == Some(0) {
        return Err(SettingsError(
            "concurrency.limit must be at least 1; pause the pipeline if nothing shall run".into(),
        ));
    }
    if let Some(text) = &rule.group {
        Expression::compile(text)
            .map_err(|error| SettingsError(format!("concurrency.group: {error}")))?;
    }
    Ok(())
}

/// Runs of one group at a time.
pub fn limit(rule: &ConcurrencySettings) -> usize {
    usize::try_from(rule.limit.unwrap_or(1))
        .unwrap_or(usize::MAX)
        .max(1)
}

/// What happens when the group is full.
pub fn on_conflict(rule: &ConcurrencySettings) -> OnConflict {
    rule.on_conflict.unwrap_or_default()
}

/// How long a job may wait, if there is a limit; `default` is the server's.
pub fn queue_timeout(settings: &PipelineSettings, default: Option<Duration>) -> Option<Duration> {
    settings
        .queue_timeout_seconds
        .map(Duration::from_secs)
        .or(default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patch(value: Value) -> Result<PipelineSettings, SettingsError> {
        patched(&PipelineSettings::default(), &value)
    }

    #[test]
    fn a_patch_keeps_what_it_does_not_name_and_null_resets() {
        let first = patch(json!({"priority": 3, "concurrency": {"limit": 2}})).unwrap();
        let second = patched(&first, &json!({"concurrency": {"on_conflict": "skip"}})).unwrap();
        let rule = second.concurrency.clone().unwrap();
        assert_eq!((second.priority, limit(&rule)), (Some(3), 2));
        assert_eq!(on_conflict(&rule), OnConflict::Skip);
        let third = patched(&second, &json!({"concurrency": null, "priority": null})).unwrap();
        assert_eq!(third, PipelineSettings::default());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (value, named) in [
            (json!({"priority": 11}), "priority"),
            (json!({"attempts": 0}), "attempts"),
            (json!({"timeout_seconds": 0}), "timeout_seconds"),
            (
                json!({"queue_timeout_seconds": 1e12 as u64}),
                "queue_timeout_seconds",
            ),
            (json!({"concurrency": {"limit": 0}}), "limit"),
            (
                json!({"concurrency": {"group": "((("}}),
                "concurrency.group",
            ),
            (
                json!({"concurrency": {"on_conflict": "explode"}}),
                "explode",
            ),
            (json!({"colour": "red"}), "colour"),
        ] {
            let told = patch(value).unwrap_err().to_string();
            assert!(told.contains(named), "{told}");
        }
    }
}
