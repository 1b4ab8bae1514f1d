//! What a job gets: every `get` of its plan, hooks included.

use pocketci_pipeline::config::Job;
use pocketci_pipeline::config::model::{GetStep, VersionChoice};
use pocketci_pipeline::plan::{Plan, plan_of};

/// An input of a job.
#[derive(Debug, Clone)]
pub struct JobInput {
    /// Name of the get.
    pub name: String,
    /// Its resource.
    pub resource: String,
    /// Jobs whose successful builds must have used the version.
    pub passed: Vec<String>,
    /// Whether a new version starts the job.
    pub trigger: bool,
    /// Which versions.
    pub version: VersionChoice,
}

impl JobInput {
    fn of(get: &GetStep) -> Self {
        Self {
            name: get.name.clone(),
            resource: get.resource_name().to_owned(),
            passed: get.passed.clone(),
            trigger: get.trigger,
            version: get.version.clone().unwrap_or(VersionChoice::Latest),
        }
    }
}

/// The inputs of a job in the order of its plan.
pub fn inputs_of(job: &Job) -> Vec<JobInput> {
    let mut inputs = Vec::new();
    leaves(&plan_of(job), &mut |leaf| {
        if let Plan::Get(get) = leaf {
            inputs.push(JobInput::of(get));
        }
    });
    inputs
}

/// The tags of a job's steps, and its own.
pub fn tags_of(job: &Job) -> Vec<String> {
    let mut tags = job.tags.clone();
    leaves(&plan_of(job), &mut |leaf| {
        tags.extend_from_slice(match leaf {
            Plan::Get(step) => &step.tags,
            Plan::Put(step) => &step.tags,
            Plan::Task(step) => &step.tags,
            Plan::Run(step) => &step.tags,
            _ => &[],
        });
    });
    tags
}

fn leaves(plan: &Plan, see: &mut impl FnMut(&Plan)) {
    match plan {
        Plan::Do(steps) | Plan::InParallel { steps, .. } => {
            for step in steps {
                leaves(step, see);
            }
        }
        Plan::Try(step)
        | Plan::Across { step, .. }
        | Plan::Attempts { step, .. }
        | Plan::Timeout { step, .. } => leaves(step, see),
        Plan::OnSuccess { step, hook }
        | Plan::OnFailure { step, hook }
        | Plan::OnError { step, hook }
        | Plan::OnAbort { step, hook }
        | Plan::Ensure { step, hook } => {
            leaves(step, see);
            leaves(hook, see);
        }
        leaf => see(leaf),
    }
}
