//! `set_pipeline`: sets a pipeline from a file of an artifact; the server validates and compares.

use super::super::State;
use super::super::build::Build;
use super::load_var::yaml;
use super::{Ended, Running};
use crate::attempt::NewPipeline;
use pocketci_pipeline::config::model::SetPipelineStep;
use pocketci_pipeline::config::vars::{Mode, Vars, interpolate};
use serde_json::{Map, Value, json};

/// The name of the job's own pipeline.
const SELF: &str = "self";

pub(super) async fn set_pipeline(
    build: &Build,
    state: &State,
    step: &SetPipelineStep,
) -> Result<(), Ended> {
    let name = build.text(state, &step.name, "set_pipeline").await?;
    let running = Running::plain(build, state, "set_pipeline", &name).await;
    let result = set(build, state, step, &name, &running).await;
    running.end(&result).await;
    result
}

async fn set(
    build: &Build,
    state: &State,
    step: &SetPipelineStep,
    name: &str,
    running: &Running,
) -> Result<(), Ended> {
    let instance_vars = map(build, state, &step.instance_vars, "instance_vars").await?;
    let pipeline = NewPipeline {
        name: if name == SELF { "" } else { name }.to_owned(),
        instance_vars: match instance_vars.is_empty() {
            true => String::new(),
            false => json!(instance_vars).to_string(),
        },
        source: source(build, state, step, instance_vars).await?,
        is_self: name == SELF,
        team: build.text(state, &step.team, "team").await?,
    };
    let content = json!([state.path.as_ref(), pipeline.name, pipeline.source]).to_string();
    let call = build.numbers.next("set_pipeline", &content);
    let asked = build.backend.set_pipeline(call, pipeline);
    let set = build.unless_stopped(state, asked).await?;
    let set = set.map_err(|error| Ended::Errored(format!("set_pipeline {name:?}: {error}")))?;
    for warning in &set.warnings {
        running.say(&format!("warning: {warning}")).await;
    }
    if !set.error.is_empty() {
        running.print(&set.error).await;
        let said = format!("set_pipeline {name:?}: invalid pipeline: {}", set.error);
        return Err(Ended::failed(said));
    }
    if !set.changed {
        running.print("no changes to apply.").await;
        return Ok(());
    }
    running.print(&set.diff).await;
    running.print(&format!("setting pipeline: {name}")).await;
    Ok(())
}

/// The file's text with the vars that are given here; others stay as they are.
async fn source(
    build: &Build,
    state: &State,
    step: &SetPipelineStep,
    instance_vars: Map<String, Value>,
) -> Result<String, Ended> {
    let file = build.text(state, &step.file, "file").await?;
    let text = build
        .unless_stopped(state, build.read_text(state, &file))
        .await??;
    let mut vars = Vars::from(instance_vars);
    vars.add_below(map(build, state, &step.vars, "vars").await?);
    for var_file in &step.var_files {
        let var_file = build.text(state, var_file, "var_files").await?;
        let text = build.read_text(state, &var_file).await?;
        let wrong = |error| Ended::Errored(format!("var file '{var_file}': {error}"));
        match yaml(&text).map_err(wrong)? {
            // What is known stays: the first file wins.
            Value::Object(more) => vars.add_below(more),
            Value::Null => {}
            _ => return Err(wrong("expected a map".to_owned())),
        }
    }
    if vars.is_empty() {
        return Ok(text);
    }
    let value = match yaml(&text) {
        Ok(value) => value,
        // The server says better what is wrong with it.
        Err(_) => return Ok(text),
    };
    match interpolate(&value, &vars, Mode::Lax) {
        // JSON is YAML, and leaves no doubt about what is a text.
        Ok(value) => serde_json::to_string_pretty(&value)
            .map_err(|error| Ended::Errored(format!("file '{file}': {error}"))),
        Err(errors) => Err(Ended::failed(format!(
            "file '{file}': {}",
            super::super::vars::told(&errors)
        ))),
    }
}

async fn map(
    build: &Build,
    state: &State,
    map: &Map<String, Value>,
    what: &str,
) -> Result<Map<String, Value>, Ended> {
    match build
        .filled(state, &Value::Object(map.clone()), what)
        .await?
    {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}
