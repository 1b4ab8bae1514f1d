//! `((vars))` while a job runs: local ones, those of the pipeline's `var_sources`, and secrets.

use super::build::Build;
use pocketci_pipeline::config::vars::{
    Chain, Local, Lookup, Mode, NamedVars, Reference, VarError, Vars, interpolate, used,
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The value with all of its vars. A secret that is a JSON map has fields: `((db.password))`.
pub(super) async fn fill(
    build: &Build,
    local: Map<String, Value>,
    value: &Value,
) -> Result<Value, String> {
    let asked = used(value).map_err(|error| error.to_string())?;
    if asked.is_empty() {
        return Ok(value.clone());
    }
    let local = Local::of(Vars::from(local));
    let mut named = NamedVars::default();
    for source in sources(&asked) {
        let vars = source_vars(build, source).await?;
        named.sources.insert(source.to_owned(), Box::new(vars));
    }
    if !named.sources.is_empty() {
        // Once there is one, an unknown one is an error: all that are declared are known.
        for declared in &build.config.var_sources {
            let known = named.sources.entry(declared.name.clone());
            known.or_insert_with(|| Box::new(Vars::new()));
        }
    }
    let secrets = secrets(build, &asked).await?;
    let chain = Chain(vec![&local, &named, &secrets]);
    interpolate(value, &chain, Mode::Strict).map_err(|errors| told(&errors))
}

/// Errors in one sentence.
pub(super) fn told(errors: &[VarError]) -> String {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("; ")
}

/// Named sources that are asked for.
fn sources(asked: &BTreeSet<Reference>) -> BTreeSet<&str> {
    let sources = asked.iter().map(|reference| reference.source.as_str());
    sources
        .filter(|source| !source.is_empty() && *source != ".")
        .collect()
}

/// The vars of a source of the pipeline.
async fn source_vars(build: &Build, name: &str) -> Result<Vars, String> {
    let declared = &build.config.var_sources;
    let Some(source) = declared.iter().find(|source| source.name == name) else {
        return Err(format!("missing source '{name}' in var_sources"));
    };
    match source.type_name.as_str() {
        "dummy" => {
            let vars = source.config.get("vars").cloned().unwrap_or_default();
            // Its values may be secrets of this server; sources cannot ask each other in a circle.
            let asked = used(&vars).map_err(|error| error.to_string())?;
            let secrets = secrets(build, &asked).await?;
            let vars = interpolate(&vars, &secrets, Mode::Strict).map_err(|e| told(&e))?;
            Ok(match vars {
                Value::Object(vars) => Vars::from(vars),
                _ => Vars::new(),
            })
        }
        other => Err(format!(
            "var source {name:?} has type {other:?}, which this agent does not offer; keep the values as secrets: pocketci secrets set"
        )),
    }
}

/// Those of the vars without a source that are secrets here.
async fn secrets(build: &Build, asked: &BTreeSet<Reference>) -> Result<Secrets, String> {
    let mut found = Map::new();
    let plain = asked
        .iter()
        .filter(|reference| reference.source.is_empty());
    for reference in plain {
        if found.contains_key(&reference.path) {
            continue;
        }
        let Some(text) = build.secrets.find(&reference.path).await? else {
            continue;
        };
        let map = match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Some(Value::Object(map)),
            _ => None,
        };
        let value = match map {
            Some(map) => {
                hide(build, &map);
                map
            }
            None => Value::String(text),
        };
        found.insert(reference.path.clone(), value);
    }
    Ok(Secrets(found))
}

/// Masks every text and number of a value in the job's output.
pub(super) fn hide(build: &Build, value: &Value) {
    match value {
        Value::String(text) => build.attempt.redactor.add(text),
        Value::Number(number) => build.attempt.redactor.add(&number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| hide(build, item)),
        Value::Object(map) => map.values().for_each(|value| hide(build, value)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Secrets by name. One that is a map and is asked for as a whole is its text.
struct Secrets(Map<String, Value>);

impl Lookup for Secrets {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, VarError> {
        if !reference.source.is_empty() {
            return Ok(None);
        }
        let Some(value) = self.0.get(&reference.path) else {
            return Ok(None);
        };
        Vars::from(Map::from_iter([(reference.path.clone(), value.clone())])).get(reference)
    }
}
