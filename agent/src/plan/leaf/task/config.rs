//! What a task is: its configuration from the plan or a file, with what the step changes of it.

use super::super::super::State;
use super::super::super::build::Build;
use super::super::super::vars::told;
use super::super::{Ended, Running};
use crate::attempt::secrets::reference;
use crate::js::host::Answer;
use crate::js::request::{Fetch, Redirect};
use crate::outside;
use pocketci_pipeline::config::model::{TaskConfig, TaskStep};
use pocketci_pipeline::config::tree;
use pocketci_pipeline::config::vars::{Mode, Vars, interpolate};
use serde_json::{Map, Value, json};

/// The configuration, ready to run: no vars are left in it.
pub(super) async fn load(
    build: &Build,
    state: &State,
    step: &TaskStep,
    running: &Running,
) -> Result<TaskConfig, Ended> {
    let mut config = match (&step.config, step.file.as_str(), step.uri.as_str()) {
        (_, file, _) if !file.is_empty() => {
            let file = build.text(state, file, "file").await?;
            let text = build
                .unless_stopped(state, build.read_text(state, &file))
                .await??;
            parse(step, &text, &format!("file '{file}'"))?
        }
        (_, _, uri) if !uri.is_empty() => {
            let uri = build.text(state, uri, "uri").await?;
            let text = build.unless_stopped(state, fetched(build, &uri)).await??;
            parse(step, &text, &uri)?
        }
        (Some(config), _, _) => to_map(serde_json::to_value(config))?,
        (None, _, _) => {
            return Err(Ended::Errored(
                "the task has neither config nor file nor uri".to_owned(),
            ));
        }
    };
    let is_inline = step.file.is_empty() && step.uri.is_empty();
    for warning in overlay(step, &mut config, !is_inline) {
        running.say(&format!("warning: {warning}")).await;
    }
    // Decided by what the author wrote, not by what comes out of a var.
    let of_secrets: Vec<String> = match config.get("params") {
        Some(Value::Object(params)) => params
            .iter()
            .filter(|(_, value)| value.as_str().is_some_and(|text| reference(text).is_some()))
            .map(|(name, _)| name.clone())
            .collect(),
        _ => Vec::new(),
    };
    let filled = build.filled(state, &Value::Object(config), "config").await?;
    let mut config = decode(to_map(Ok(filled))?)?;
    let texts = config.params.iter_mut();
    let texts = texts
        .filter(|(name, _)| of_secrets.contains(name))
        .map(|(_, value)| value);
    let known = build.secrets.fill(texts).await;
    known.map_err(Ended::Errored)?;
    Ok(config)
}

fn to_map(value: serde_json::Result<Value>) -> Result<Map<String, Value>, Ended> {
    match value {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Ended::Errored("config: expected a map".to_owned())),
        Err(error) => Err(Ended::Errored(format!("config: {error}"))),
    }
}

/// A file's text with the step's `vars`; others stay for later.
fn parse(step: &TaskStep, text: &str, what: &str) -> Result<Map<String, Value>, Ended> {
    let wrong = |said: String| Ended::Errored(format!("{what}: {said}"));
    let document = tree::parse(text).map_err(|faults| {
        let faults = faults
            .iter()
            .map(|fault| format!("line {}: {}", fault.at.line, fault.message));
        wrong(faults.collect::<Vec<_>>().join("; "))
    })?;
    let vars = Vars::from(step.vars.clone());
    let filled = interpolate(&document.root.to_value(), &vars, Mode::Lax);
    match filled.map_err(|errors| wrong(told(&errors)))? {
        Value::Object(map) => Ok(map),
        _ => Err(wrong("expected a map".to_owned())),
    }
}

/// Puts the step's limits and params over the configuration's; what its author should know.
fn overlay(step: &TaskStep, config: &mut Map<String, Value>, from_file: bool) -> Vec<String> {
    if let Some(limits) = &step.container_limits {
        let written = config
            .entry("container_limits")
            .or_insert_with(|| Value::Object(Map::new()));
        if !written.is_object() {
            *written = Value::Object(Map::new());
        }
        if let (Value::Object(written), Ok(Value::Object(limits))) =
            (written, serde_json::to_value(limits))
        {
            written.extend(limits);
        }
    }
    if step.params.is_empty() {
        return Vec::new();
    }
    let params = config
        .entry("params")
        .or_insert_with(|| Value::Object(Map::new()));
    if !params.is_object() {
        *params = Value::Object(Map::new());
    }
    let mut warnings = Vec::new();
    if let Value::Object(params) = params {
        for (name, value) in &step.params {
            if params.insert(name.clone(), json!(value)).is_none() && from_file {
                warnings.push(format!(
                    "'{name}' was defined in pipeline but missing from task file"
                ));
            }
        }
    }
    warnings
}

/// A value of the environment.
fn env_text(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The configuration as the tasks' own rules have it.
fn decode(mut config: Map<String, Value>) -> Result<TaskConfig, Ended> {
    if let Some(Value::Object(params)) = config.get_mut("params") {
        for value in params.values_mut() {
            *value = Value::String(env_text(value.take()));
        }
    }
    serde_json::from_value(Value::Object(config))
        .map_err(|error| Ended::Errored(format!("config: {error}")))
}

/// The text behind a URL, within what the agent's operator allows.
async fn fetched(build: &Build, uri: &str) -> Result<String, Ended> {
    let wrong = |said: &str| Ended::Errored(format!("{uri}: {said}"));
    if !uri.starts_with("http://") && !uri.starts_with("https://") {
        return Err(wrong("only http:// and https:// are fetched"));
    }
    let fetch = Fetch {
        url: uri.to_owned(),
        method: "GET".to_owned(),
        headers: Vec::new(),
        timeout: None,
        redirect: Redirect::Follow,
        body: None,
    };
    let fetched = outside::fetch::fetch(&build.workshop.outside, &build.secrets, fetch).await;
    match fetched.map_err(|failure| wrong(&failure.message))? {
        Answer::Blob { head, body } => match head["status"].as_u64() {
            Some(200..300) => {
                String::from_utf8(body.to_vec()).map_err(|_| wrong("it is no UTF-8 text"))
            }
            status => Err(wrong(&format!("status {}", status.unwrap_or_default()))),
        },
        Answer::Nothing | Answer::Json(_) | Answer::Run(_) => Err(wrong("no answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_steps_params_and_limits_win_and_unknown_params_are_told() {
        let step = TaskStep {
            params: BTreeMap::from([("A", "1"), ("NEW", "2")].map(|(k, v)| (k.into(), v.into()))),
            container_limits: serde_json::from_value(json!({ "memory": 5 })).unwrap(),
            vars: Map::from_iter([("v".to_owned(), json!("filled"))]),
            ..TaskStep::default()
        };
        let text = "platform: linux\nparams: {A: x, B: ((v)), C: ((later)), D: {a: [1]}, N: }\n\
                    container_limits: {cpu: 3, memory: 4}\n";
        let mut config = parse(&step, text, "file").unwrap();
        let warnings = overlay(&step, &mut config, true);
        assert_eq!(warnings, ["'NEW' was defined in pipeline but missing from task file"]);
        let config = decode(config).unwrap();
        let params: Vec<String> = config.params.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            params,
            ["A=1", "B=filled", "C=((later))", "D={\"a\":[1]}", "N=", "NEW=2"]
        );
        let limits = config.container_limits.unwrap();
        assert_eq!((limits.cpu, limits.memory), (Some(3), Some(5)));
    }
}
