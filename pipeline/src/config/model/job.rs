//! A job: its plan, its hooks, when it runs and how many of its builds run at once.

use super::is_false;
use super::step::{Hooks, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Unique in the pipeline.
    pub name: String,
    /// The name it had: its history is kept.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub old_name: String,
    /// Whether its builds may be seen by everybody.
    #[serde(skip_serializing_if = "is_false")]
    pub public: bool,
    /// Whether only new versions may start it.
    #[serde(skip_serializing_if = "is_false")]
    pub disable_manual_trigger: bool,
    /// Whether its builds may not be run again.
    #[serde(skip_serializing_if = "is_false")]
    pub disable_reruns: bool,
    /// One build at a time.
    #[serde(skip_serializing_if = "is_false")]
    pub serial: bool,
    /// Whether an agent that is drained need not wait for it.
    #[serde(skip_serializing_if = "is_false")]
    pub interruptible: bool,
    /// One build at a time among all jobs that share one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub serial_groups: Vec<String>,
    /// Most builds at a time; `None` (or 0 as written) for no limit. `serial` and `serial_groups` win.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// Deprecated form of `build_log_retention.builds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_logs_to_retain: Option<i64>,
    /// How long logs are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_log_retention: Option<BuildLogRetention>,
    /// Agents that may run it, unless a step says otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// PocketCI: an older spelling of `triggers.webhook.filter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_trigger: Option<String>,
    /// PocketCI: what starts it beside versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Triggers>,
    /// PocketCI: an approval before the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateConfig>,
    /// PocketCI: jobs of the same run that must have succeeded before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// PocketCI: longest build, a duration; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timeout: String,
    /// PocketCI: which steps must have run, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assert: Option<Assert>,
    /// The steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<Step>,
    /// Steps around the whole plan.
    #[serde(flatten)]
    pub hooks: Hooks,
}

impl Job {
    /// Most builds of this job at a time, the pipeline's default left out; `None` for no limit.
    pub fn limit(&self) -> Option<u32> {
        if self.serial || !self.serial_groups.is_empty() {
            return Some(1);
        }
        self.max_in_flight.filter(|limit| *limit > 0)
    }

    /// The condition on a webhook's delivery under which it runs, in either spelling.
    pub fn webhook_filter(&self) -> Option<&str> {
        let of_triggers = self
            .triggers
            .as_ref()
            .and_then(|triggers| triggers.webhook.as_ref())
            .map(|webhook| webhook.filter.as_str())
            .filter(|filter| !filter.is_empty());
        of_triggers.or(self
            .webhook_trigger
            .as_deref()
            .filter(|filter| !filter.is_empty()))
    }
}

/// How long logs of builds are kept; 0 means no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildLogRetention {
    /// Builds.
    pub builds: i64,
    /// Among them, builds that succeeded.
    pub minimum_succeeded_builds: i64,
    /// Days.
    pub days: i64,
}

/// PocketCI: what starts a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Triggers {
    /// A delivery to the pipeline's webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTrigger>,
    /// The clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// These jobs' success in other runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<String>,
}

/// PocketCI: which deliveries start a job and what they tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookTrigger {
    /// A condition (CEL or expr); empty for every delivery.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter: String,
    /// A text (CEL or expr): a delivery with a known one is skipped; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dedup_key: String,
    /// Names of environment variables and the expressions that give their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
}

/// PocketCI: when a job starts by itself; exactly one of the two is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// Five fields, or `@daily` and its like; UTC.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cron: String,
    /// A duration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub every: String,
}

/// PocketCI: an approval that a job waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GateConfig {
    /// Shown to whoever approves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Longest wait, a duration; empty for no end.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timeout: String,
}

/// PocketCI: for tests of pipelines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Assert {
    /// Names, in the order in which they must have run.
    pub execution: Vec<String>,
}
