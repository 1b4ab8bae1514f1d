//! A job of a YAML pipeline while it runs: what its steps share.

use super::leaf::Ended;
use super::vars::Vault;
use super::{Job, Outcome, State};
use crate::attempt::secrets::Secrets;
use crate::attempt::{Attempt, Backend, Numbers, SYSTEM, Workshop};
use crate::container::{Driver, Volume};
use crate::resource::{ResourceSpec, Resources};
use async_trait::async_trait;
use bytes::Bytes;
use pocketci_pipeline::config::Config;
use pocketci_proto::agent as pb;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// See the module.
pub(super) struct Build {
    pub(super) workshop: Arc<Workshop>,
    pub(super) attempt: Arc<Attempt>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) secrets: Arc<Secrets>,
    pub(super) resources: Resources,
    /// Why some declared types cannot be used.
    pub(super) broken_types: BTreeMap<String, String>,
    pub(super) config: Config,
    pub(super) about: About,
    /// What everything that it creates is marked with.
    pub(super) labels: BTreeMap<String, String>,
    /// Containers at once; more wait.
    pub(super) room: Semaphore,
    pub(super) numbers: Numbers,
    /// Messages that nobody waits for; their ends are looked at when the job ends.
    pub(super) tasks: Mutex<JoinSet<()>>,
    pub(super) volumes: Mutex<Vec<Volume>>,
    /// Names that the engine's images have because of the job, the newest last.
    pub(super) names: Mutex<Vec<Named>>,
    pub(super) faults: Mutex<Vec<Fault>>,
    /// Names of tasks, `get-NAME` and `put-NAME`, in the order in which they began.
    pub(super) ran: Mutex<Vec<String>>,
}

/// Which job of which run it is.
#[derive(Clone, Default)]
pub(super) struct About {
    pub(super) run_id: String,
    pub(super) job_id: String,
    pub(super) pipeline_id: String,
    pub(super) pipeline_name: String,
    pub(super) job_name: String,
    /// What the server says of it.
    pub(super) yaml: pb::YamlJob,
}

/// A name of an image in the engine.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// With its tag.
    pub(super) name: String,
    /// The image that had the name before, and has it again afterwards.
    pub(super) before: Option<String>,
}

/// Why a step did not succeed.
pub(super) struct Fault {
    path: Arc<str>,
    outcome: Outcome,
    in_hook: bool,
    said: String,
}

/// The repository and the tag of an image's name.
pub(super) fn split(image: &str) -> (&str, &str) {
    let name_at = image.rfind('/').map_or(0, |at| at + 1);
    match image[name_at..].find(':') {
        Some(at) => (&image[..name_at + at], &image[name_at + at + 1..]),
        None => (image, "latest"),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Build {
    /// Keeps a volume until the job ends.
    pub(super) fn hold(&self, volume: &Volume) {
        lock(&self.volumes).push(volume.clone());
    }

    /// Removes volumes before the job ends.
    pub(super) async fn remove_volumes(&self, volumes: &[Volume]) {
        lock(&self.volumes).retain(|held| !volumes.contains(held));
        let removing = volumes
            .iter()
            .map(|volume| self.driver.remove_volume(volume));
        futures_util::future::join_all(removing).await;
    }

    /// Removes everything that the job held.
    pub(super) async fn release(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
        let held = std::mem::take(&mut *lock(&self.volumes));
        let removing = held.iter().map(|volume| self.driver.remove_volume(volume));
        futures_util::future::join_all(removing).await;
        let names = std::mem::take(&mut *lock(&self.names));
        for named in names.iter().rev() {
            self.give_back(named).await;
        }
        self.resources.release().await;
    }

    /// Takes a name from the job's image.
    pub(super) async fn give_back(&self, named: &Named) {
        lock(&self.names).retain(|known| known != named);
        let Some(engine) = self.driver.engine() else {
            return;
        };
        let Some(before) = &named.before else {
            return engine.remove_image(&named.name).await;
        };
        let (repository, tag) = split(&named.name);
        if let Err(error) = engine.tag_image(before, repository, tag).await {
            tracing::warn!(%error, image = named.name, "an image has not got its name back");
        }
    }

    /// Waits for messages that nobody waits for.
    pub(super) async fn settle(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        while tasks.join_next().await.is_some() {}
    }

    /// The version that was chosen for the get of this name.
    pub(super) fn chosen(&self, name: &str) -> Option<&pb::ChosenInput> {
        let inputs = &self.about.yaml.inputs;
        inputs.iter().find(|input| input.name == name)
    }

    /// The resource as declared, its vars filled in.
    pub(super) async fn resource(&self, state: &State, name: &str) -> Result<ResourceSpec, Ended> {
        let declared = self
            .config
            .resource(name)
            .ok_or_else(|| Ended::Errored(format!("the pipeline declares no resource {name:?}")))?;
        let source = Value::Object(declared.source.clone());
        self.spec(state, name, &declared.type_name, &source).await
    }

    /// A resource of this type and source, whose vars are filled in.
    pub(super) async fn spec(
        &self,
        state: &State,
        name: &str,
        type_name: &str,
        source: &Value,
    ) -> Result<ResourceSpec, Ended> {
        self.check_type(type_name)?;
        let source = self.filled(state, source, "source").await?;
        let Value::Object(source) = source else {
            return Err(Ended::Errored(format!(
                "source of {name:?}: expected a map"
            )));
        };
        Ok(ResourceSpec {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            source,
        })
    }

    /// Whether the type, and those that it is built from, could be read.
    pub(super) fn check_type(&self, name: &str) -> Result<(), Ended> {
        let types = &self.config.resource_types;
        let mut name = name;
        // A type may be built from one of its own name, which is then ours.
        for _ in 0..=types.len() {
            if let Some(error) = self.broken_types.get(name) {
                return Err(Ended::Errored(format!("resource type {name:?}: {error}")));
            }
            match types.iter().find(|declared| declared.name == name) {
                Some(declared) if declared.type_name != name => name = &declared.type_name,
                Some(_) | None => break,
            }
        }
        Ok(())
    }

    /// The value with its vars, all of which must be known; `what` names it in the error.
    pub(super) async fn filled(
        &self,
        state: &State,
        value: &Value,
        what: &str,
    ) -> Result<Value, Ended> {
        // A server that does not answer keeps nobody from stopping.
        self.unless_stopped(state, self.interpolate(state, value))
            .await?
            .map_err(|error| Ended::Errored(format!("{what}: {error}")))
    }

    /// The text with its vars; a number becomes a text.
    pub(super) async fn text(
        &self,
        state: &State,
        text: &str,
        what: &str,
    ) -> Result<String, Ended> {
        if !text.contains("((") {
            return Ok(text.to_owned());
        }
        let value = Value::String(text.to_owned());
        match self.filled(state, &value, what).await? {
            Value::String(text) => Ok(text),
            value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
            _ => Err(Ended::Errored(format!("{what}: {text} is no text"))),
        }
    }

    /// The file that `artifact/path` names, at most [`crate::container::READ_FILES_BYTES`].
    pub(super) async fn read_file(&self, state: &State, file: &str) -> Result<Bytes, Ended> {
        let Some((name, path)) = file.split_once('/') else {
            return Err(Ended::Errored(format!(
                "file {file:?} names no artifact; write artifact/path/to/file"
            )));
        };
        let artifact = state.scope.artifact(name).ok_or_else(|| {
            Ended::Errored(format!(
                "unknown artifact source: '{name}' in file path '{file}'"
            ))
        })?;
        let paths = [path.to_owned()];
        let read = self.driver.read_files(&artifact.volume, &paths).await;
        let mut read = read.map_err(|error| Ended::of_driver(&format!("file '{file}'"), &error))?;
        read.remove(path)
            .ok_or_else(|| Ended::Errored(format!("file '{file}' not found")))
    }

    /// A text of a file: it must be UTF-8.
    pub(super) async fn read_text(&self, state: &State, file: &str) -> Result<String, Ended> {
        let bytes = self.read_file(state, file).await?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Ended::Errored(format!("file '{file}' is no UTF-8 text")))
    }

    /// The environment of resource scripts.
    pub(super) fn resource_env(&self, state: &State) -> BTreeMap<String, String> {
        let about = &self.about;
        let mut env = BTreeMap::from(
            [
                ("BUILD_ID", about.job_id.as_str()),
                ("BUILD_NAME", &about.yaml.build_number),
                ("BUILD_JOB_NAME", &about.job_name),
                ("BUILD_PIPELINE_NAME", &about.pipeline_name),
                ("BUILD_PIPELINE_ID", &about.pipeline_id),
                (
                    "BUILD_PIPELINE_INSTANCE_VARS",
                    &about.yaml.instance_vars_json,
                ),
                ("BUILD_TEAM_NAME", "main"),
                ("BUILD_TEAM_ID", "1"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        env.extend(about.yaml.build_env.clone());
        if let Some(outcome) = state.hook_of {
            env.insert("BUILD_STATUS".to_owned(), outcome.as_str().to_owned());
        }
        env.retain(|_, value| !value.is_empty());
        env
    }

    /// Keeps in mind why a step did not succeed.
    pub(super) fn note_fault(&self, state: &State, outcome: Outcome, said: &str) {
        lock(&self.faults).push(Fault {
            path: state.path.clone(),
            outcome,
            in_hook: state.hook_of.is_some(),
            said: self.attempt.redactor.text(said),
        });
    }

    /// Why the plan ended so: what was said last, of its steps rather than of their hooks.
    pub(super) fn reason(&self, outcome: Outcome) -> String {
        let faults = lock(&self.faults);
        let of = |in_hook| {
            let mut found = faults.iter().rev();
            found.find(|fault| fault.outcome == outcome && fault.in_hook == in_hook)
        };
        of(false)
            .or_else(|| of(true))
            .map(|fault| fault.said.clone())
            .unwrap_or_default()
    }

    /// Waits for room for one more container, unless the step is stopped first.
    pub(super) async fn room(
        &self,
        state: &State,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, Ended> {
        tokio::select! {
            biased;
            () = state.halt.token().cancelled() => Err(Ended::Stopped),
            permit = self.room.acquire() => permit.map_err(|_| Ended::Stopped),
        }
    }

    /// Ends with the step's part of the plan at the latest.
    pub(super) async fn unless_stopped<T>(
        &self,
        state: &State,
        work: impl Future<Output = T>,
    ) -> Result<T, Ended> {
        tokio::select! {
            biased;
            () = state.halt.token().cancelled() => Err(Ended::Stopped),
            done = work => Ok(done),
        }
    }
}

#[async_trait]
impl Job for Build {
    async fn interpolate(&self, state: &State, value: &Value) -> Result<Value, String> {
        let vault = Vault {
            secrets: &self.secrets,
            redactor: &self.attempt.redactor,
            sources: &self.config.var_sources,
        };
        vault.fill(state.scope.vars(), value).await
    }

    fn masked(&self, text: String) -> String {
        self.attempt.redactor.text(&text)
    }

    fn forgive(&self, state: &State) {
        lock(&self.faults).retain(|fault| !fault.path.starts_with(&*state.path));
    }

    async fn fault(&self, state: &State, outcome: Outcome, said: &str) {
        let colon = if state.path.is_empty() { "" } else { ": " };
        let line = format!("{}{colon}{said}\n", state.path);
        let line = self.attempt.redactor.text(&line);
        self.attempt.log.append(SYSTEM, Bytes::from(line)).await;
        self.note_fault(state, outcome, said);
    }
}
