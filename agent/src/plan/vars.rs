//! `((vars))` while a job runs: local ones, those of the pipeline's `var_sources`, and secrets.

use crate::attempt::secrets::Secrets as Kept;
use crate::log::redact::{MAX_VALUE_BYTES, MIN_SECRET_BYTES, Redactor, TooMuch};
use pocketci_pipeline::config::model::VarSource;
use pocketci_pipeline::config::vars::{
    Chain, Local, Lookup, Mode, NamedVars, Reference, VarError, Vars, interpolate, used,
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where values come from that are not local.
pub(super) struct Vault<'a> {
    pub(super) secrets: &'a Kept,
    pub(super) redactor: &'a Arc<Redactor>,
    /// Of the pipeline.
    pub(super) sources: &'a [VarSource],
}

impl Vault<'_> {
    /// The value with all of its vars. A secret that is a JSON map has fields: `((db.password))`.
    pub(super) async fn fill(
        &self,
        local: Map<String, Value>,
        value: &Value,
    ) -> Result<Value, String> {
        let asked = used(value).map_err(|error| error.to_string())?;
        if asked.is_empty() {
            return Ok(value.clone());
        }
        let mut of_sources = Vec::new();
        for source in sources(&asked) {
            of_sources.push((source.to_owned(), self.source_vars(source).await?));
        }
        let secrets = self.found(&asked).await?;
        let local = Local::of(Vars::from(local));
        let mut named = NamedVars::default();
        for (source, vars) in of_sources {
            named.sources.insert(source, Box::new(vars));
        }
        let chain = Chain(vec![&local, &named, &secrets]);
        interpolate(value, &chain, Mode::Strict).map_err(|errors| told(&errors))
    }

    /// The vars of a source of the pipeline.
    async fn source_vars(&self, name: &str) -> Result<Vars, String> {
        let mut declared = self.sources.iter();
        let Some(source) = declared.find(|source| source.name == name) else {
            return Err(format!("missing source '{name}' in var_sources"));
        };
        match source.type_name.as_str() {
            "dummy" => {
                let vars = source.config.get("vars").cloned().unwrap_or_default();
                // Its values may be secrets of this server; sources cannot ask each other in a circle.
                let asked = used(&vars).map_err(|error| error.to_string())?;
                let secrets = self.found(&asked).await?;
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
    async fn found(&self, asked: &BTreeSet<Reference>) -> Result<Secrets, String> {
        let mut found = Map::new();
        let plain = asked.iter().filter(|asked| asked.source.is_empty());
        for reference in plain {
            if found.contains_key(&reference.path) {
                continue;
            }
            let Some(text) = self.secrets.find(&reference.path).await? else {
                continue;
            };
            let value = match serde_json::from_str(&text) {
                Ok(map @ Value::Object(_)) => {
                    let hidden = hide(self.redactor, &map).await;
                    hidden.map_err(|error| format!("secret {:?}: {error}", reference.path))?;
                    map
                }
                _ => Value::String(text),
            };
            found.insert(reference.path.clone(), value);
        }
        Ok(Secrets(found))
    }
}

/// Errors in one sentence.
pub(super) fn told(errors: &[VarError]) -> String {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("; ")
}

/// Named sources that are asked for, each once.
fn sources(asked: &BTreeSet<Reference>) -> impl Iterator<Item = &str> {
    let sources: BTreeSet<&str> = asked.iter().map(|asked| asked.source.as_str()).collect();
    let named = |source: &&str| !source.is_empty() && *source != ".";
    sources.into_iter().filter(named)
}

/// Masks every text and number of a value in the job's output.
///
/// # Errors
/// There is too much of them.
pub(super) async fn hide(redactor: &Arc<Redactor>, value: &Value) -> Result<(), String> {
    let (mut left, mut texts) = (MAX_VALUE_BYTES, Vec::new());
    if collect(value, &mut left, &mut texts).is_none() {
        return Err(TooMuch.to_string());
    }
    if texts.is_empty() {
        return Ok(());
    }
    let redactor = redactor.clone();
    let adding = tokio::task::spawn_blocking(move || redactor.add_values(&texts));
    match adding.await {
        Ok(added) => added.map_err(|error| error.to_string()),
        Err(error) => Err(format!("the value cannot be hidden: {error}")),
    }
}

/// The texts and numbers of a value; `None` once they have more bytes than are left.
fn collect(value: &Value, left: &mut usize, texts: &mut Vec<String>) -> Option<()> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => {
            return items.iter().try_for_each(|item| collect(item, left, texts));
        }
        Value::Object(map) => {
            return map
                .values()
                .try_for_each(|value| collect(value, left, texts));
        }
        Value::Null | Value::Bool(_) => return Some(()),
    };
    *left = left.checked_sub(text.len())?;
    // Shorter ones are not masked.
    if text.len() >= MIN_SECRET_BYTES {
        texts.push(text);
    }
    Some(())
}

/// Secrets by name.
struct Secrets(Map<String, Value>);

impl Lookup for Secrets {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, VarError> {
        if !reference.source.is_empty() {
            return Ok(None);
        }
        let known = self.0.get_key_value(&reference.path);
        let known = known.map(|(name, value)| (name.clone(), value.clone()));
        Vars::from(Map::from_iter(known)).get(reference)
    }
}
