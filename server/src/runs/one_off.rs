//! One-off tasks: checked as a whole, then stored as a run of one job.
//!
//! A run needs a pipeline. A task that takes inputs from a job belongs to that job's pipeline; any other to a built-in
//! one, which is made when it is first needed.

use super::schedule::{Program, input_configs, label};
use super::{MAX_TRIES, NotStarted, Runs, StartRun};
use crate::model::RunId;
use crate::model::archive::{Direction, name_fault};
use crate::model::one_off::{MAX_CONFIG_BYTES, OneOff};
use crate::model::pipeline::{ContentType, Labels, Pipeline, PutPipeline};
use crate::model::run::{Trigger, TriggerKind};
use crate::model::version::Version;
use crate::store::{Result, StoreError};
use pocketci_pipeline::config::model::TaskConfig;
use pocketci_pipeline::config::vars::Vars;
use pocketci_pipeline::config::{load_task, task_faults};
use pocketci_proto::api::Driver;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Name of the built-in pipeline and of its job.
pub const BUILT_IN: &str = "one-off";
/// Nothing starts its job but a mistake: its runs are those of `pocketci execute`.
const SOURCE: &str = "\
# Made by the server: the runs of `pocketci execute` belong to this pipeline.
jobs:
- name: one-off
  disable_manual_trigger: true
  triggers: { webhook: { filter: 'false' } }
  plan:
  - task: nothing
    config: { platform: linux, run: { path: 'true' } }
";

/// A task to execute. Its configuration may hold secrets: no Debug.
pub struct Execute {
    /// The run's id, under which the inputs were sent.
    pub run_id: RunId,
    /// The task's configuration: YAML, or JSON, which is YAML too.
    pub config: String,
    /// The task's name.
    pub name: String,
    /// Inputs that were sent.
    pub uploads: Vec<String>,
    /// Outputs to keep.
    pub outputs: Vec<String>,
    /// Whether its container is privileged.
    pub privileged: bool,
    /// Where it runs, as tags of a step.
    pub tags: Vec<String>,
    /// Driver that the agent must offer.
    pub driver: Option<Driver>,
    /// Pipeline (name or id) and job that it takes the other inputs from.
    pub inputs_from: Option<(Arc<Pipeline>, String)>,
    /// Longest time of one attempt.
    pub timeout_seconds: Option<u64>,
}

/// What became of it.
pub enum Executed {
    /// Stored and durable; also if it was before.
    Stored,
    /// All its faults; nothing was stored.
    Invalid(Vec<String>),
    /// Something is not as it must be, in words; nothing was stored.
    Conflict(String),
    /// Its pipeline is paused; nothing was stored.
    Paused(String),
    /// Too many queued jobs; nothing was stored.
    QueueFull,
    /// The pipeline kept changing; nothing was stored.
    Busy,
}

/// An input that was not sent.
struct Missing {
    name: String,
    required: bool,
}

/// Ends early without being an error of the storage.
enum Stop {
    With(Executed),
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Runs {
    /// Stores the run of a one-off task. Repeated, it changes nothing.
    ///
    /// # Errors
    /// Of the storage.
    pub async fn execute(&self, execute: Execute) -> Result<Executed> {
        match self.try_execute(execute).await {
            Ok(()) => Ok(Executed::Stored),
            Err(Stop::With(executed)) => Ok(executed),
            Err(Stop::Store(error)) => Err(error),
        }
    }

    async fn try_execute(&self, execute: Execute) -> std::result::Result<(), Stop> {
        let (config, missing) = checked(&execute).map_err(|f| Stop::With(Executed::Invalid(f)))?;
        let run_id = execute.run_id;
        let from = execute.inputs_from.clone();
        let mut one_off = OneOff {
            name: execute.name,
            config: serde_json::to_string(&config)
                .map_err(|error| StoreError::Internal(error.into()))?,
            uploads: execute.uploads,
            outputs: execute.outputs,
            privileged: execute.privileged,
            inputs: Vec::new(),
            labels: execute.tags.into_iter().map(label).collect::<Labels>(),
            driver: execute.driver,
            timeout_seconds: execute.timeout_seconds,
        };
        if self.is_repeated(run_id, &one_off).await? {
            return Ok(());
        }
        for name in &one_off.uploads {
            if self.archive(run_id, Direction::In, name).await?.is_none() {
                return Err(conflict(format!(
                    "input {name:?} was not sent, or not to its end; send it (again) first"
                )));
            }
        }
        for _ in 0..MAX_TRIES {
            let pipeline = match &from {
                None => self.built_in().await?,
                Some((pipeline, job)) => {
                    let newest = self.reload_pipeline(pipeline.id).await?;
                    let pipeline = newest.unwrap_or_else(|| pipeline.clone());
                    one_off.inputs = self.inputs_of(&pipeline, job, &missing).await?;
                    pipeline
                }
            };
            if pipeline.paused {
                return Err(Stop::With(Executed::Paused(pipeline.name.clone())));
            }
            let trigger = Trigger {
                one_off: Some(one_off.clone()),
                ..Trigger::new(TriggerKind::Manual)
            };
            let start = StartRun {
                id: Some(run_id),
                ..StartRun::new(pipeline, trigger)
            };
            match self.start(start).await?.settled() {
                Some(Ok(_)) => return Ok(()),
                Some(Err(NotStarted::QueueFull)) => return Err(Stop::With(Executed::QueueFull)),
                Some(Err(NotStarted::Refused(refused))) => {
                    return Err(conflict(refused.to_string()));
                }
                None => {}
            }
        }
        Err(Stop::With(Executed::Busy))
    }

    /// Whether the same run is stored already; another one with its id is in the way.
    async fn is_repeated(
        &self,
        run_id: RunId,
        one_off: &OneOff,
    ) -> std::result::Result<bool, Stop> {
        let Some(view) = self.store().run(run_id).await? else {
            return Ok(false);
        };
        let same = view.run.trigger.one_off.is_some_and(|mut known| {
            known.inputs = one_off.inputs.clone();
            known == *one_off
        });
        match same {
            true => Ok(true),
            false => Err(conflict(format!(
                "there is another run {run_id}; take a new id"
            ))),
        }
    }

    /// The built-in pipeline.
    async fn built_in(&self) -> std::result::Result<Arc<Pipeline>, Stop> {
        if let Some(known) = self.store().pipeline_by_name(BUILT_IN).await? {
            let program = self.program(known.revision_id).await?;
            return match program.is_some_and(|program| is_built_in(&program)) {
                true => Ok(Arc::new(known)),
                false => Err(conflict(format!(
                    "the runs of execute need the name {BUILT_IN:?} for their pipeline: set yours under another name and remove that one"
                ))),
            };
        }
        let put = PutPipeline {
            name: BUILT_IN.to_owned(),
            content_type: ContentType::Yaml,
            file_name: format!("{BUILT_IN}.yml"),
            source: SOURCE.to_owned(),
            javascript: String::new(),
            source_map: String::new(),
            modules: Vec::new(),
            driver: None,
            labels: None,
            webhook_secrets: None,
            settings: None,
            listens: Vec::new(),
        };
        let put = self.store().put_pipeline(put).await?;
        Ok(Arc::new(put.pipeline))
    }

    /// The versions that a job would use, for these inputs.
    async fn inputs_of(
        &self,
        pipeline: &Arc<Pipeline>,
        job: &str,
        wanted: &[Missing],
    ) -> std::result::Result<Vec<(String, String, Version)>, Stop> {
        let Some(program) = self.program(pipeline.revision_id).await? else {
            return Err(conflict(format!(
                "{:?} is no YAML pipeline: it has no jobs with inputs",
                pipeline.name
            )));
        };
        if program.config.job(job).is_none() {
            return Err(conflict(format!(
                "pipeline {:?} has no job {job:?}",
                pipeline.name
            )));
        }
        self.declare(pipeline, &program).await?;
        let mut configs = input_configs(&program, job, &[]);
        configs.retain(|input| wanted.iter().any(|missing| missing.name == input.name));
        let unknown: Vec<String> = wanted
            .iter()
            .filter(|missing| missing.required)
            .map(|missing| &missing.name)
            .filter(|name| !configs.iter().any(|input| input.name == **name))
            .map(|name| {
                format!("input {name:?} was not sent, and job {job:?} has none of this name")
            })
            .collect();
        if !unknown.is_empty() {
            return Err(Stop::With(Executed::Invalid(unknown)));
        }
        let selection = self
            .store()
            .select_inputs(pipeline.id, job, configs)
            .await?;
        if !selection.errors.is_empty() {
            let explained = selection.errors.iter().map(|(name, why)| why.explain(name));
            return Err(conflict(explained.collect::<Vec<_>>().join("; ")));
        }
        let chosen = selection.inputs.into_values();
        Ok(chosen
            .map(|input| (input.name, input.resource, input.version))
            .collect())
    }
}

fn conflict(why: String) -> Stop {
    Stop::With(Executed::Conflict(why))
}

fn is_built_in(program: &Program) -> bool {
    match program.config.jobs.as_slice() {
        [job] => job.name == BUILT_IN && job.disable_manual_trigger,
        _ => false,
    }
}

/// The configuration, and the inputs that were not sent; or all faults.
fn checked(execute: &Execute) -> std::result::Result<(TaskConfig, Vec<Missing>), Vec<String>> {
    if execute.config.len() > MAX_CONFIG_BYTES {
        return Err(vec![format!(
            "the task's configuration has more than {MAX_CONFIG_BYTES} bytes"
        )]);
    }
    let mut faults = Vec::new();
    let config = match load_task(&execute.config, &Vars::default()) {
        Ok(config) => config,
        Err(found) => {
            faults.extend(found.iter().map(ToString::to_string));
            return Err(faults);
        }
    };
    faults.extend(task_faults(&config));
    faults.extend(
        name_fault(&execute.name)
            .map(|_| format!("the task's name {:?} cannot be one", execute.name)),
    );
    let inputs: Vec<&str> = config
        .inputs
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    let outputs: Vec<&str> = config
        .outputs
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    let asked = [
        ("input", &inputs, &execute.uploads),
        ("output", &outputs, &execute.outputs),
    ];
    for (what, declared, names) in asked {
        let mut seen = BTreeSet::new();
        for name in names {
            if !declared.contains(&name.as_str()) {
                faults.push(format!("the task has no {what} {name:?}"));
            } else if !seen.insert(name) {
                faults.push(format!("{what} {name:?} is named twice"));
            }
            faults.extend(name_fault(name));
        }
    }
    let missing: Vec<Missing> = config
        .inputs
        .iter()
        .filter(|input| !execute.uploads.contains(&input.name))
        .map(|input| Missing {
            name: input.name.clone(),
            required: !input.optional,
        })
        .collect();
    if execute.inputs_from.is_none() {
        for missing in missing.iter().filter(|missing| missing.required) {
            let name = &missing.name;
            faults.push(format!(
                "input {name:?} was not sent, and there is no job to take it from"
            ));
        }
    }
    match faults.is_empty() {
        true => Ok((config, missing)),
        false => Err(faults),
    }
}
