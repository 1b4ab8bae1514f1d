//! `var_sources`: known types, settings that make sense, and an order in which each can use those before it.

use super::{Names, Report, identifier_of};
use crate::config::vars::{go_kind, used};
use serde_json::Value;
use std::collections::BTreeSet;

/// Types that a pipeline may use.
const SUPPORTED: [&str; 5] = ["vault", "dummy", "ssm", "secretsmanager", "idtoken"];
/// Types that Concourse knows, but only for the whole cluster.
const CLUSTER_ONLY: [&str; 3] = ["credhub", "conjur", "kubernetes"];

/// Checks `var_sources`.
pub fn check(report: &mut Report<'_>) {
    report.group = "variable sources";
    let config = report.config;
    let mut names = Names::default();
    for (i, source) in config.var_sources.iter().enumerate() {
        let path = identifier_of("var_sources", i, &source.name);
        report.identifier(&source.name, &path, false);
        let kind = source.type_name.as_str();
        if !SUPPORTED.contains(&kind) && !CLUSTER_ONLY.contains(&kind) {
            report.fault(&path, format!("unknown credential manager type: {kind}"));
            continue;
        }
        if CLUSTER_ONLY.contains(&kind) {
            let message =
                format!("credential manager type {kind} is not supported in pipeline yet");
            report.fault(&path, message);
        }
        names.check(report, &source.name, format!("var_sources[{i}]"));
        if let Err(why) = settings(kind, &source.config) {
            report.fault(&path, why.told(&source.name));
        }
    }
    order(report);
}

enum Why {
    NotBuilt(String),
    Invalid(&'static str),
}

impl Why {
    fn told(&self, name: &str) -> String {
        match self {
            Self::NotBuilt(why) => format!("failed to create credential manager {name}: {why}"),
            Self::Invalid(why) => format!("credential manager {name} is invalid: {why}"),
        }
    }
}

fn settings(kind: &str, config: &Value) -> Result<(), Why> {
    let Value::Object(map) = config else {
        return Err(Why::NotBuilt(format!(
            "invalid {kind} credential manager config: {}",
            json_kind(config)
        )));
    };
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default();
    match kind {
        "dummy" => match map.get("vars") {
            Some(Value::Object(_)) => Ok(()),
            other => Err(Why::NotBuilt(format!(
                "invalid vars config: {}",
                json_kind(other.unwrap_or(&Value::Null))
            ))),
        },
        "vault" => {
            let url = text("url");
            let has_scheme = ["http://", "https://"].iter().any(|scheme| {
                url.strip_prefix(scheme)
                    .is_some_and(|rest| !rest.is_empty())
            });
            if !has_scheme && !url.contains("((") {
                return Err(Why::Invalid(
                    "invalid URL (must begin with http:// or https://)",
                ));
            }
            if text("client_token").is_empty() && text("auth_backend").is_empty() {
                return Err(Why::Invalid("must configure client token or auth backend"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// As Go prints the type of a value that came from JSON.
fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Number(_) => "float64",
        other => go_kind(other),
    }
}

/// Each source must come after those whose vars it uses, in some order.
fn order(report: &mut Report<'_>) {
    let mut pending: Vec<(&str, BTreeSet<String>)> = report
        .config
        .var_sources
        .iter()
        .map(|source| {
            let needed = used(&source.config).unwrap_or_default();
            let sources = needed
                .into_iter()
                .map(|reference| reference.source)
                .filter(|source| !source.is_empty());
            (source.name.as_str(), sources.collect())
        })
        .collect();
    let mut ready: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = pending.len();
        pending.retain(|(name, needed)| {
            let can = needed.iter().all(|source| ready.contains(source.as_str()));
            if can {
                ready.insert(name);
            }
            !can
        });
        if pending.len() == before {
            break;
        }
    }
    if !pending.is_empty() {
        let names: Vec<&str> = pending.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "failed to order by dependency: could not resolve inter-dependent var sources: {}",
            names.join(", ")
        );
        report.fault(&format!("var_sources.{}", names[0]), message);
    }
}
