//! What a job does, as a tree: the steps with their modifiers nested around them.
//!
//! The nesting is fixed, whatever the order in the file (outer to inner): `ensure`, `on_error`, `on_abort`,
//! `on_failure`, `on_success`, `across`, `attempts`, `timeout`, the step itself. A job's hooks nest the same way around
//! its plan. The tree is not run here.

use crate::config::model::{
    AcrossVar, AgentStep, BuildImage, Core, GateStep, GetStep, Hooks, Job, LoadVarStep, NotifyStep,
    PutStep, RunStep, SetPipelineStep, Step, TaskStep,
};
use serde::{Deserialize, Serialize};

/// A node of the tree. `tags` of leaves are those of the step, else of the nearest step around it that has some, else of
/// the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Fetches a version.
    Get(GetStep),
    /// Makes a version, records it and, unless `no_get`, fetches it.
    Put(PutStep),
    /// Runs a program.
    Task(Box<TaskStep>),
    /// Sets a pipeline.
    SetPipeline(SetPipelineStep),
    /// Loads a local var.
    LoadVar(LoadVarStep),
    /// Experimental: a message to a prototype.
    Run(RunStep),
    /// Sends a message.
    Notify(NotifyStep),
    /// Waits for an approval.
    Gate(GateStep),
    /// Builds an image.
    BuildImage(Box<BuildImage>),
    /// Runs a language model.
    Agent(Box<AgentStep>),
    /// One after the other, until one does not succeed.
    Do(Vec<Plan>),
    /// At once.
    InParallel {
        /// The steps.
        steps: Vec<Plan>,
        /// Steps at once; 0 means all.
        limit: usize,
        /// Whether the first that does not succeed stops the others.
        fail_fast: bool,
    },
    /// Failure and error count as success.
    Try(Box<Plan>),
    /// Repeats the step for each combination of values; the first var is the outermost.
    Across {
        /// At least one.
        vars: Vec<AcrossVar>,
        /// Repeated, with `((.:var))` replaced in it.
        step: Box<Plan>,
        /// Whether the first that does not succeed stops the others.
        fail_fast: bool,
    },
    /// Tries again after failure or error.
    Attempts {
        /// Most tries; at least 1.
        times: u32,
        /// Tried.
        step: Box<Plan>,
    },
    /// Fails the step at its deadline.
    Timeout {
        /// As written; may hold `((vars))`.
        duration: String,
        /// Bounded.
        step: Box<Plan>,
    },
    /// Runs the hook after success.
    OnSuccess {
        /// Runs first.
        step: Box<Plan>,
        /// Runs after it.
        hook: Box<Plan>,
    },
    /// Runs the hook after failure.
    OnFailure {
        /// Runs first.
        step: Box<Plan>,
        /// Runs after it.
        hook: Box<Plan>,
    },
    /// Runs the hook after an error.
    OnError {
        /// Runs first.
        step: Box<Plan>,
        /// Runs after it.
        hook: Box<Plan>,
    },
    /// Runs the hook after an abort.
    OnAbort {
        /// Runs first.
        step: Box<Plan>,
        /// Runs after it.
        hook: Box<Plan>,
    },
    /// Always runs the hook.
    Ensure {
        /// Runs first.
        step: Box<Plan>,
        /// Runs after it.
        hook: Box<Plan>,
    },
}

/// What a job does. The outermost nodes are the job's hooks; inside them is a [`Plan::Do`] of the job's steps.
///
/// PocketCI: a job's `timeout` is around its steps and inside of its hooks; a job's `gate` comes before all of it, so that
/// hooks do not run for what was never approved. It has the job's name.
pub fn plan_of(job: &Job) -> Plan {
    let mut plan = Plan::Do(plans(&job.plan, &job.tags));
    if !job.timeout.is_empty() {
        plan = Plan::Timeout {
            duration: job.timeout.clone(),
            step: Box::new(plan),
        };
    }
    let plan = hooked(plan, &job.hooks, &job.tags);
    let Some(gate) = &job.gate else {
        return plan;
    };
    let gate = Plan::Gate(GateStep {
        name: job.name.clone(),
        message: gate.message.clone(),
        timeout: Some(gate.timeout.clone()).filter(|timeout| !timeout.is_empty()),
    });
    Plan::Do(vec![gate, plan])
}

fn plans(steps: &[Step], tags: &[String]) -> Vec<Plan> {
    steps.iter().map(|step| plan_of_step(step, tags)).collect()
}

/// What one step does; `tags` are those around it.
pub fn plan_of_step(step: &Step, tags: &[String]) -> Plan {
    let modifiers = &step.modifiers;
    let mut plan = core(&step.core, tags);
    if let Some(duration) = &modifiers.timeout {
        plan = Plan::Timeout {
            duration: duration.clone(),
            step: Box::new(plan),
        };
    }
    if let Some(times) = modifiers.attempts {
        plan = Plan::Attempts {
            times: u32::try_from(times.max(1)).unwrap_or(u32::MAX),
            step: Box::new(plan),
        };
    }
    if !modifiers.across.is_empty() {
        plan = Plan::Across {
            vars: modifiers.across.clone(),
            step: Box::new(plan),
            fail_fast: modifiers.fail_fast,
        };
    }
    hooked(plan, &modifiers.hooks, tags)
}

fn hooked(plan: Plan, hooks: &Hooks, tags: &[String]) -> Plan {
    let mut plan = plan;
    for (key, hook) in hooks.iter() {
        let step = Box::new(plan);
        let hook = Box::new(plan_of_step(hook, tags));
        plan = match key {
            "on_success" => Plan::OnSuccess { step, hook },
            "on_failure" => Plan::OnFailure { step, hook },
            "on_abort" => Plan::OnAbort { step, hook },
            "on_error" => Plan::OnError { step, hook },
            _ => Plan::Ensure { step, hook },
        };
    }
    plan
}

fn core(core: &Core, around: &[String]) -> Plan {
    fn or<'a>(own: &'a [String], around: &'a [String]) -> &'a [String] {
        if own.is_empty() { around } else { own }
    }
    match core {
        Core::Get(step) => Plan::Get(GetStep {
            tags: or(&step.tags, around).to_vec(),
            ..step.clone()
        }),
        Core::Put(step) => Plan::Put(PutStep {
            tags: or(&step.tags, around).to_vec(),
            ..step.clone()
        }),
        Core::Task(step) => Plan::Task(Box::new(TaskStep {
            tags: or(&step.tags, around).to_vec(),
            ..TaskStep::clone(step)
        })),
        Core::Run(step) => Plan::Run(RunStep {
            tags: or(&step.tags, around).to_vec(),
            ..step.clone()
        }),
        Core::SetPipeline(step) => Plan::SetPipeline(step.clone()),
        Core::LoadVar(step) => Plan::LoadVar(step.clone()),
        Core::Notify(step) => Plan::Notify(step.clone()),
        Core::Gate(step) => Plan::Gate(step.clone()),
        Core::BuildImage(step) => Plan::BuildImage(Box::new(step.build_image.clone())),
        Core::Agent(step) => Plan::Agent(step.clone()),
        Core::Do(step) => Plan::Do(plans(&step.steps, or(&step.tags, around))),
        Core::InParallel(step) => Plan::InParallel {
            steps: plans(&step.in_parallel.steps, or(&step.tags, around)),
            limit: usize::try_from(step.in_parallel.limit).unwrap_or(0),
            fail_fast: step.in_parallel.fail_fast,
        },
        Core::Try(step) => Plan::Try(Box::new(plan_of_step(&step.step, around))),
    }
}

#[cfg(test)]
mod tests;
