//! `put`: publishes, records the new version at once, and fetches it.

use super::super::State;
use super::super::build::{Build, lock};
use super::get::{Fetch, metadata_json};
use super::{Ended, Running, within};
use crate::resource::{Artifact, Fetched};
use pocketci_pipeline::config::model::{PutInputs, PutStep};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) async fn put(build: &Build, state: &State, step: &PutStep) -> Result<(), Ended> {
    lock(&build.ran).push(format!("put-{}", step.name));
    let running = Running::plain(build, state, "put", &step.name).await;
    let result = publish(build, state, step, &running).await;
    running.end(&result).await;
    let fetched = result?;
    if step.no_get {
        return Ok(());
    }
    let path = format!("{}.get", state.path);
    let fetch = Fetch {
        name: &step.name,
        resource: step.resource_name(),
        version: Some(fetched.version),
        params: &Value::Object(step.get_params.clone()),
        timeout: step.timeout.as_deref(),
        path: &path,
    };
    fetch.run(build, state).await.map(drop)
}

async fn publish(
    build: &Build,
    state: &State,
    step: &PutStep,
    running: &Running,
) -> Result<Fetched, Ended> {
    let resource = step.resource_name();
    let spec = build.resource(state, resource).await?;
    let params = Value::Object(step.params.clone());
    let params = build.filled(state, &params, "params").await?;
    let artifacts = artifacts(state, step, &params)?;
    let mut env = build.resource_env(state);
    let declared = build.config.resource(resource);
    if !declared.is_some_and(|declared| declared.expose_build_created_by) {
        env.remove("BUILD_CREATED_BY");
    }
    let what = format!("put {:?}", step.name);
    let _room = build.room(state).await?;
    let fetched = within(state, step.timeout.as_deref(), |stop| {
        let io = running.io(&stop);
        let (spec, params, artifacts, env, what) = (&spec, &params, &artifacts, &env, &what);
        async move {
            let putting = build.resources.put(spec, params, artifacts, env, &io);
            Box::pin(putting)
                .await
                .map_err(|stop| Ended::of_resource(what, stop))
        }
    })
    .await?;
    let version = json!(fetched.version).to_string();
    let content = json!([state.path.as_ref(), resource, version]).to_string();
    let call = build.numbers.next("save_output", &content);
    let metadata = metadata_json(&fetched.metadata);
    let saved = build
        .backend
        .save_output(call, resource, version, metadata)
        .await;
    saved.map_err(|error| Ended::Errored(format!("{what}: its version is not stored: {error}")))?;
    Ok(fetched)
}

/// What the put sees.
fn artifacts(
    state: &State,
    step: &PutStep,
    params: &Value,
) -> Result<Vec<(String, Artifact)>, Ended> {
    let all = state.scope.artifacts();
    let wanted: BTreeSet<String> = match &step.inputs {
        Some(PutInputs::All) => all.keys().cloned().collect(),
        Some(PutInputs::Named(names)) => {
            let missing: Vec<&str> = names
                .iter()
                .filter(|name| !all.contains_key(*name))
                .map(String::as_str)
                .collect();
            if !missing.is_empty() {
                return Err(missing_inputs(&missing));
            }
            names.iter().cloned().collect()
        }
        None | Some(PutInputs::Detect) => {
            let mut named = BTreeSet::new();
            detect(params, &mut named);
            named
        }
    };
    let found: BTreeMap<String, Artifact> = all
        .into_iter()
        .filter(|(name, _)| wanted.contains(name))
        .collect();
    Ok(found.into_iter().collect())
}

pub(super) fn missing_inputs(names: &[&str]) -> Ended {
    Ended::Errored(format!("missing inputs: {}", names.join(", ")))
}

/// First segments of all texts, as they may be paths into artifacts.
fn detect(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let mut segments = text.split('/');
            let first = segments.find(|segment| !matches!(*segment, "." | ".." | ""));
            found.extend(first.map(str::to_owned));
        }
        Value::Array(items) => items.iter().for_each(|item| detect(item, found)),
        Value::Object(map) => map.values().for_each(|value| detect(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_anywhere_in_the_params() {
        let params = json!({
            "file": "built/app.tgz", "list": ["./notes/body.txt", {"deep": "../up/x"}],
            "plain": "word", "number": 3, "none": null, "absolute": "/abs/x"
        });
        let mut found = BTreeSet::new();
        detect(&params, &mut found);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["abs", "built", "notes", "up", "word"]);
    }
}
