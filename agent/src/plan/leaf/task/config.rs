//! What a task is: its configuration from the plan or a file, with what the step changes of it.

use super::super::super::State;
use super::super::super::build::Build;
use super::super::{Ended, Running};
use crate::attempt::secrets::reference;
use crate::js::host::Answer;
use crate::js::request::{Fetch, Redirect};
use crate::outside;
use pocketci_pipeline::config::model::{TaskConfig, TaskStep};
use pocketci_pipeline::config::vars::Vars;
use pocketci_pipeline::config::{env_text_of, load_task, task_faults};
use serde_json::Value;
use std::collections::BTreeSet;

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
        (Some(config), _, _) => config.clone(),
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
    let params = config.params.iter();
    let of_secrets: BTreeSet<String> = params
        .filter(|(_, value)| reference(value).is_some())
        .map(|(name, _)| name.clone())
        .collect();
    let written = serde_json::to_value(&config).map_err(wrong)?;
    let filled = build.filled(state, &written, "config").await?;
    let mut config = decode(filled)?;
    let texts = config.params.iter_mut();
    let texts = texts
        .filter(|(name, _)| of_secrets.contains(*name))
        .map(|(_, value)| value);
    let known = build.secrets.fill(texts).await;
    known.map_err(Ended::Errored)?;
    Ok(config)
}

fn wrong(error: impl std::fmt::Display) -> Ended {
    Ended::Errored(format!("config: {error}"))
}

/// A file's text with the step's `vars`; others stay for later.
fn parse(step: &TaskStep, text: &str, what: &str) -> Result<TaskConfig, Ended> {
    load_task(text, &Vars::from(step.vars.clone())).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Ended::Errored(format!("{what}: {}", faults.join("; ")))
    })
}

/// Puts the step's limits and params over the configuration's; what its author should know.
fn overlay(step: &TaskStep, config: &mut TaskConfig, from_file: bool) -> Vec<String> {
    if let Some(limits) = &step.container_limits {
        let written = config.container_limits.get_or_insert_default();
        written.cpu = limits.cpu.or(written.cpu);
        written.memory = limits.memory.or(written.memory);
    }
    let mut warnings = Vec::new();
    for (name, value) in &step.params {
        let before = config.params.insert(name.clone(), value.clone());
        if before.is_none() && from_file {
            warnings.push(format!(
                "'{name}' was defined in pipeline but missing from task file"
            ));
        }
    }
    warnings
}

/// The configuration once its vars are filled in.
fn decode(mut filled: Value) -> Result<TaskConfig, Ended> {
    // A param that is one var has the var's own type.
    if let Some(Value::Object(params)) = filled.get_mut("params") {
        for value in params.values_mut() {
            *value = Value::String(env_text_of(value));
        }
    }
    let config: TaskConfig = serde_json::from_value(filled).map_err(wrong)?;
    match task_faults(&config).as_slice() {
        [] => Ok(config),
        faults => Err(Ended::Errored(format!(
            "invalid task configuration: {}",
            faults.join("; ")
        ))),
    }
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
    use serde_json::{Map, json};
    use std::collections::BTreeMap;

    #[test]
    fn the_steps_params_and_limits_win_and_unknown_params_are_told() {
        let step = TaskStep {
            params: BTreeMap::from([("A", "1"), ("NEW", "2")].map(|(k, v)| (k.into(), v.into()))),
            container_limits: serde_json::from_value(json!({ "memory": 5 })).unwrap(),
            vars: Map::from_iter([("v".to_owned(), json!("filled"))]),
            ..TaskStep::default()
        };
        let text = "platform: linux\nrun: {path: x}\ncontainer_limits: {cpu: 3, memory: 4}\n\
                    params: {A: x, B: ((v)), C: ((later)), D: {a: [1]}, NIL: }\n";
        let mut config = parse(&step, text, "file").unwrap();
        let warnings = overlay(&step, &mut config, true);
        assert_eq!(
            warnings,
            ["'NEW' was defined in pipeline but missing from task file"]
        );
        let config = decode(serde_json::to_value(config).unwrap()).unwrap();
        let params: Vec<String> = config
            .params
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(
            params,
            [
                "A=1",
                "B=filled",
                "C=((later))",
                "D={\"a\":[1]}",
                "NEW=2",
                "NIL="
            ]
        );
        let limits = config.container_limits.unwrap();
        assert_eq!((limits.cpu, limits.memory), (Some(3), Some(5)));
    }

    #[test]
    fn a_param_that_is_a_var_of_another_type_becomes_text() {
        let filled = json!({ "platform": "linux", "run": { "path": "x" }, "params": { "A": 1, "B": { "c": true }, "N": null } });
        let params = decode(filled).unwrap().params;
        let values: Vec<&str> = params.values().map(String::as_str).collect();
        assert_eq!(values, ["1", "{\"c\":true}", ""]);
    }
}
