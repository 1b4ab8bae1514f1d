//! `get`: fetches the version that was chosen before the job began.

use super::super::State;
use super::super::build::{Build, lock};
use super::{Ended, Running, within};
use crate::attempt::Began;
use crate::resource::{ResourceSpec, Version};
use pocketci_pipeline::config::model::GetStep;
use serde_json::{Map, Value, json};

pub(super) async fn get(build: &Build, state: &State, step: &GetStep) -> Result<(), Ended> {
    let resource = step.resource_name();
    let version = match build.chosen(&step.name) {
        Some(chosen) => Some(version_of(&chosen.version_json)?),
        None if build.backend.keeps_versions() => {
            return Err(Ended::Errored(format!(
                "get {:?}: no version of resource {resource:?} was chosen for this job",
                step.name
            )));
        }
        None => match build.backend.put_last(resource) {
            Some(version) => Some(version_of(&version)?),
            None => None,
        },
    };
    let fetch = Fetch {
        name: &step.name,
        resource,
        version,
        params: &Value::Object(step.params.clone()),
        timeout: step.timeout.as_deref(),
        path: &state.path,
    };
    let metadata = fetch.run(build, state).await?;
    let saved = build.backend.save_input_metadata(&step.name, metadata);
    if let Err(error) = saved.await {
        tracing::warn!(error, "metadata of an input is not stored");
    }
    Ok(())
}

/// A version as the server sends it.
pub(crate) fn version_of(json: &str) -> Result<Version, Ended> {
    serde_json::from_str(json)
        .map_err(|_| Ended::Errored("the server chose a version that is none".to_owned()))
}

/// Most bytes of metadata that a server takes, as JSON.
const MAX_METADATA_BYTES: usize = 64 << 10;
/// Most bytes of a field, as JSON, where all of them together are too many.
const MAX_FIELD_BYTES: usize = 4 << 10;

/// Metadata as the server keeps it; where it is too large, long values are cut, and what has no room then is left out: it is
/// only for people, and no reason to lose the version.
pub(crate) fn metadata_json(metadata: &[(String, String)]) -> String {
    let written = |(name, value): &(String, String)| json!({ "name": name, "value": value });
    let whole = Value::Array(metadata.iter().map(written).collect()).to_string();
    if whole.len() <= MAX_METADATA_BYTES {
        return whole;
    }
    let mut fields = Vec::new();
    let mut left = MAX_METADATA_BYTES - "[]".len();
    for (name, value) in metadata {
        let mut field = (name.clone(), value.clone());
        let mut text = written(&field).to_string();
        if text.len() > MAX_FIELD_BYTES {
            // A character has at most six bytes as JSON.
            let cut: String = value.chars().take(MAX_FIELD_BYTES / 8).collect();
            field.1 = format!("{cut}…");
            text = written(&field).to_string();
        }
        let bytes = text.len() + ",".len();
        if text.len() <= MAX_FIELD_BYTES && bytes <= left {
            left -= bytes;
            fields.push(text);
        }
    }
    format!("[{}]", fields.join(","))
}

/// A version to be fetched as an artifact.
pub(crate) struct Fetch<'a> {
    /// Of the artifact.
    pub(crate) name: &'a str,
    /// Of the resource.
    pub(crate) resource: &'a str,
    /// `None` is the newest there is right now.
    pub(crate) version: Option<Version>,
    /// As written.
    pub(crate) params: &'a Value,
    pub(crate) timeout: Option<&'a str>,
    /// Of the step.
    pub(crate) path: &'a str,
}

impl Fetch<'_> {
    /// Fetches, and registers the artifact and its metadata; the latter as JSON.
    pub(crate) async fn run(&self, build: &Build, state: &State) -> Result<String, Ended> {
        let began = Began {
            name: self.name,
            kind: "get",
            image: "",
            path: self.path,
        };
        lock(&build.ran).push(format!("get-{}", self.name));
        let running = Running::begin(build, began).await;
        let result = self.fetch(build, state, &running).await;
        running.end(&result).await;
        result
    }

    async fn fetch(
        &self,
        build: &Build,
        state: &State,
        running: &Running,
    ) -> Result<String, Ended> {
        let spec = build.resource(state, self.resource).await?;
        let params = build.filled(state, self.params, "params").await?;
        let mut env = build.resource_env(state);
        // Only a put may say who began the build: what a get fetches is everybody's.
        env.remove("BUILD_CREATED_BY");
        let what = &format!("get {:?}", self.name);
        let _room = build.room(state).await?;
        let (fetched, artifact) = within(state, self.timeout, |stop| {
            let io = running.io(&stop);
            let (spec, params, env) = (&spec, &params, &env);
            async move {
                let version = match &self.version {
                    Some(version) => version.clone(),
                    None => newest(build, spec, &io, what).await?,
                };
                let getting = build.resources.get(spec, &version, params, env, &io);
                Box::pin(getting)
                    .await
                    .map_err(|stop| Ended::of_resource(what, stop))
            }
        })
        .await?;
        state.scope.register(self.name, artifact);
        let mut fields = Map::new();
        for (name, value) in fetched.version.iter() {
            fields.insert(name.clone(), json!(value));
        }
        for (name, value) in &fetched.metadata {
            fields.insert(name.clone(), json!(value));
        }
        state.scope.set_var(self.name, Value::Object(fields));
        Ok(metadata_json(&fetched.metadata))
    }
}

/// Where nobody chooses versions: the newest one right now.
async fn newest(
    build: &Build,
    spec: &ResourceSpec,
    io: &crate::resource::StepIo,
    what: &str,
) -> Result<Version, Ended> {
    let found = Box::pin(build.resources.check(spec, None, io)).await;
    let found = found.map_err(|stop| Ended::of_resource(what, stop))?;
    found
        .into_iter()
        .next_back()
        .ok_or_else(|| Ended::Errored(format!("{what}: resource {:?} has no version", spec.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_fits_a_server_whatever_a_script_says() {
        let field = |name: &str, value: String| (name.to_owned(), value);
        let small = [field("a", "1".to_owned())];
        assert_eq!(metadata_json(&small), r#"[{"name":"a","value":"1"}]"#);
        let mut large = vec![
            field("notes", "\u{1}\"ü".repeat(100_000)),
            field("commit", "abc".to_owned()),
            field(&"n".repeat(100_000), String::new()),
        ];
        large.extend((0..10_000).map(|number| field("f", number.to_string())));
        let json = metadata_json(&large);
        assert!(json.len() <= MAX_METADATA_BYTES, "{}", json.len());
        let kept: Vec<Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(kept[1], json!({"name": "commit", "value": "abc"}));
        assert_eq!(kept[2], json!({"name": "f", "value": "0"}));
        assert!(kept[0]["value"].as_str().unwrap().ends_with('…'));
        assert!(json.len() > MAX_METADATA_BYTES / 2);
    }
}
