//! PocketCI's own keys.

use super::Report;
use super::steps::Walk;
use crate::config::fault::WarningKind;
use crate::config::model::{
    AgentStep, BuildImage, GateStep, Job, NotifyStep, Schedule, TaskStep, Triggers,
};
use crate::config::schedule::{parse_cron, parse_every};
use crate::duration;
use crate::expression::Expression;
use std::collections::HashSet;

/// Checks a job's triggers and dependencies.
pub fn job(report: &mut Report<'_>, job: &Job, path: &str) {
    if let Some(text) = &job.webhook_trigger {
        expression(report, &format!("{path}.webhook_trigger"), text);
    }
    if let Some(triggers) = &job.triggers {
        webhook(report, triggers, path);
        if let Some(wanted) = &triggers.schedule {
            schedule(report, wanted, &format!("{path}.triggers.schedule"));
        }
        let path = format!("{path}.triggers.passed");
        others(report, job, &triggers.passed, &path);
    }
    others(report, job, &job.depends_on, &format!("{path}.depends_on"));
}

fn webhook(report: &mut Report<'_>, triggers: &Triggers, path: &str) {
    let Some(webhook) = &triggers.webhook else {
        return;
    };
    let path = format!("{path}.triggers.webhook");
    expression(report, &format!("{path}.filter"), &webhook.filter);
    expression(report, &format!("{path}.dedup_key"), &webhook.dedup_key);
    for (name, text) in &webhook.params {
        let path = format!("{path}.params.{name}");
        if text.is_empty() {
            report.fault_at(&path, "an expression is needed");
        }
        expression(report, &path, text);
    }
}

/// An expression must compile; empty is none, and one with a `((var))` is for later.
fn expression(report: &mut Report<'_>, path: &str, text: &str) {
    if text.is_empty() || text.contains("((") && !crate::config::vars::is_plain(text) {
        return;
    }
    if let Err(error) = Expression::compile(text) {
        report.fault_at(path, error.to_string());
    }
}

fn schedule(report: &mut Report<'_>, schedule: &Schedule, path: &str) {
    let told = match (schedule.cron.as_str(), schedule.every.as_str()) {
        ("", "") => Err("must specify either cron or every".to_owned()),
        ("", every) => parse_every(every).map(|_| ()),
        (cron, "") => parse_cron(cron).map(|_| ()),
        _ => Err("must specify one of cron or every, not both".to_owned()),
    };
    if let Err(why) = told {
        report.fault_at(path, why);
    }
}

/// Names of other jobs, each once.
fn others(report: &mut Report<'_>, job: &Job, names: &[String], path: &str) {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() {
            report.fault_at(path, "contains an empty job name");
        } else if *name == job.name {
            report.fault_at(path, "a job cannot wait for itself");
        } else if !report.index.has_job(name) {
            report.fault_at(path, format!("unknown job '{name}'"));
        } else if !seen.insert(name) {
            report.fault_at(path, format!("lists '{name}' more than once"));
        }
    }
}

/// Checks a `notify` step.
pub fn notify(walk: &mut Walk<'_, '_>, step: &NotifyStep) {
    if step.names.is_empty() {
        walk.fault("must name at least one notification");
    }
    let config = walk.report.config;
    for name in &step.names {
        if config.notifications.contains_key(name) || name.contains("((") {
            continue;
        }
        if config.notifications.is_empty() {
            let message = format!("the pipeline declares no notification '{name}'");
            walk.report.warn(WarningKind::Note, &walk.path, message);
        } else {
            walk.fault(format!("unknown notification '{name}'"));
        }
    }
    match (step.message.is_empty(), step.message_file.is_empty()) {
        (true, true) => walk.fault("must specify either `message:` or `message_file:`"),
        (false, false) => {
            walk.fault("must specify one of `message:` or `message_file:`, not both");
        }
        _ => {}
    }
}

/// Checks a `gate` step.
pub fn gate(walk: &mut Walk<'_, '_>, step: &GateStep) {
    walk.identifier(&step.name, false);
    if let Some(timeout) = &step.timeout
        && !timeout.contains("((")
        && duration::parse_go(timeout).is_err()
    {
        walk.fault(format!("invalid duration '{timeout}'"));
    }
}

/// Checks a `build_image` step.
pub fn build_image(walk: &mut Walk<'_, '_>, build: &BuildImage) {
    if build.context.is_empty() {
        walk.fault("no context specified");
    }
    if build.tag.is_empty() {
        walk.fault("no tag specified");
    }
}

/// Checks an `agent` step.
pub fn agent(walk: &mut Walk<'_, '_>, step: &AgentStep) {
    walk.identifier(&step.name, false);
    let sources = [&step.prompt, &step.prompt_file, &step.file, &step.uri];
    if sources.iter().all(|source| source.is_empty()) {
        walk.fault("must specify one of `prompt:`, `prompt_file:`, `file:` or `uri:`");
    }
    if !step.file.is_empty() && !step.uri.is_empty() {
        walk.fault("must specify one of `file:` or `uri:`, not both");
    }
}

/// Checks what PocketCI adds to a `task` step.
pub fn task(walk: &mut Walk<'_, '_>, step: &TaskStep) {
    if step.uri.is_empty() {
        return;
    }
    if !step.file.is_empty() {
        walk.fault("must specify one of `file:` or `uri:`, not both");
    }
    if step.config.is_some() {
        walk.fault("must specify one of `uri:` or `config:`, not both");
    }
    // No file: which machine would it be on?
    let known = ["http://", "https://"];
    if !known.iter().any(|scheme| step.uri.starts_with(scheme)) && !step.uri.contains("((") {
        walk.fault(format!(
            "unsupported URI scheme in '{}'; supported: http://, https://; for a file of an artifact use `file:`",
            step.uri
        ));
    }
}
