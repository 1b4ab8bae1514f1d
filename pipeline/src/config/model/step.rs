//! A step: its core (what it does) and its modifiers (what is done around it).

use super::is_false;
use super::steps::{
    AgentStep, BuildImageStep, DoStep, GateStep, GetStep, InParallelStep, LoadVarStep, NotifyStep,
    PutStep, RunStep, SetPipelineStep, TryStep,
};
use super::task::TaskStep;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One entry of a plan. As JSON, the keys of the core and of the modifiers stand side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does.
    pub core: Core,
    /// What is done around it.
    pub modifiers: Modifiers,
}

impl Step {
    /// A step without modifiers.
    pub fn of(core: Core) -> Self {
        Self {
            core,
            modifiers: Modifiers::default(),
        }
    }
}

/// What a step does. Each kind is known by its key.
#[derive(Debug, Clone, PartialEq)]
pub enum Core {
    /// Fetches a version of a resource.
    Get(GetStep),
    /// Makes a version of a resource.
    Put(PutStep),
    /// Runs a program in a container.
    Task(Box<TaskStep>),
    /// Sets a pipeline.
    SetPipeline(SetPipelineStep),
    /// Loads a local var from a file.
    LoadVar(LoadVarStep),
    /// Sends a message to a prototype; experimental.
    Run(RunStep),
    /// One step after the other.
    Do(DoStep),
    /// Steps at once.
    InParallel(InParallelStep),
    /// A step whose failure does not count.
    Try(TryStep),
    /// PocketCI: sends a message.
    Notify(NotifyStep),
    /// PocketCI: waits for an approval.
    Gate(GateStep),
    /// PocketCI: builds an image.
    BuildImage(Box<BuildImageStep>),
    /// PocketCI: runs a language model with tools.
    Agent(Box<AgentStep>),
}

/// What is done around a step. They nest in a fixed order, see [`crate::plan`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Modifiers {
    /// Repeats the step for each combination of values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub across: Vec<AcrossVar>,
    /// Of `across`: the first one that does not succeed stops the others.
    #[serde(skip_serializing_if = "is_false")]
    pub fail_fast: bool,
    /// Tries; at least 1 in a valid pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
    /// Longest time, a duration. Only of kinds that have no `timeout` of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Steps after it.
    #[serde(flatten)]
    pub hooks: Hooks,
}

/// Steps that run after a step or a plan, by its outcome.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// After success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<Box<Step>>,
    /// After failure, or the end of its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Box<Step>>,
    /// After what kept it from running properly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<Box<Step>>,
    /// After the build was aborted while it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_abort: Option<Box<Step>>,
    /// After all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensure: Option<Box<Step>>,
}

impl Hooks {
    /// Those that are set with their keys, innermost first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Step)> {
        [
            ("on_success", &self.on_success),
            ("on_failure", &self.on_failure),
            ("on_abort", &self.on_abort),
            ("on_error", &self.on_error),
            ("ensure", &self.ensure),
        ]
        .into_iter()
        .filter_map(|(key, hook)| hook.as_deref().map(|step| (key, step)))
    }
}

/// A var of `across`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AcrossVar {
    /// Its name: `((.:name))`.
    pub var: String,
    /// A list, or a text with a `((var))` that becomes one.
    pub values: Value,
    /// Values at once; `None` means 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<MaxInFlight>,
}

/// How many of an `across` var's values are done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxInFlight {
    /// All.
    All,
    /// So many; at least 1 in a valid pipeline.
    Limit(i64),
}
