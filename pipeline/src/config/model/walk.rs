//! Every step of a job, hooks included, and what it takes and makes.

use super::steps::{GetStep, PutStep, VersionChoice};
use super::{Config, Core, Hooks, Job, Params, Step};
use crate::config::glob::Glob;
use std::collections::BTreeSet;

/// A get of a job: a version is chosen for it before a build starts, wherever it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct JobInput {
    /// Name of the artifact; unique in the job.
    pub name: String,
    /// The resource.
    pub resource: String,
    /// Only versions that passed these jobs.
    pub passed: Vec<String>,
    /// Whether a new version starts the job.
    pub trigger: bool,
    /// Which versions.
    pub version: VersionChoice,
    /// For the type's `in`.
    pub params: Params,
    /// Where it runs.
    pub tags: Vec<String>,
}

/// A put of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobOutput {
    /// Name of the artifact.
    pub name: String,
    /// The resource.
    pub resource: String,
}

impl JobInput {
    fn of(step: &GetStep) -> Self {
        Self {
            name: step.name.clone(),
            resource: step.resource_name().to_owned(),
            passed: step.passed.clone(),
            trigger: step.trigger,
            version: step.version.clone().unwrap_or(VersionChoice::Latest),
            params: step.params.clone(),
            tags: step.tags.clone(),
        }
    }
}

impl JobOutput {
    fn of(step: &PutStep) -> Self {
        Self {
            name: step.name.clone(),
            resource: step.resource_name().to_owned(),
        }
    }
}

impl Job {
    /// Calls `visit` for each step, hooks and steps in steps included, in the order of the plan.
    pub fn each_step<'a>(&'a self, visit: &mut dyn FnMut(&'a Step)) {
        for step in &self.plan {
            each(step, visit);
        }
        each_hook(&self.hooks, visit);
    }

    /// Its gets, `passed` as written: globs are for [`Config::inputs`] to expand.
    pub fn inputs(&self) -> Vec<JobInput> {
        let mut inputs = Vec::new();
        self.each_step(&mut |step| {
            if let Core::Get(get) = &step.core {
                inputs.push(JobInput::of(get));
            }
        });
        inputs
    }

    /// Its puts, each name once.
    pub fn outputs(&self) -> Vec<JobOutput> {
        let mut outputs = Vec::new();
        self.each_step(&mut |step| {
            if let Core::Put(put) = &step.core {
                let output = JobOutput::of(put);
                if !outputs.contains(&output) {
                    outputs.push(output);
                }
            }
        });
        outputs
    }

    /// The resources it gets or puts.
    pub fn resources(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        self.each_step(&mut |step| match &step.core {
            Core::Get(get) => {
                names.insert(get.resource_name());
            }
            Core::Put(put) => {
                names.insert(put.resource_name());
            }
            _ => {}
        });
        names
    }
}

impl Config {
    /// A job's gets with the globs of `passed` expanded to the names of jobs, each once.
    pub fn inputs(&self, job: &Job) -> Vec<JobInput> {
        let mut inputs = job.inputs();
        for input in &mut inputs {
            input.passed = self.jobs_matching(&input.passed);
        }
        inputs
    }

    /// The names of the jobs that some glob matches, in the order of the globs, then of the file.
    pub fn jobs_matching(&self, globs: &[String]) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for text in globs {
            let Ok(glob) = Glob::compile(text) else {
                continue;
            };
            for job in self.jobs.iter().filter(|job| glob.matches(&job.name)) {
                if !names.contains(&job.name) {
                    names.push(job.name.clone());
                }
            }
        }
        names
    }
}

fn each<'a>(step: &'a Step, visit: &mut dyn FnMut(&'a Step)) {
    visit(step);
    match &step.core {
        Core::Do(inner) => inner.steps.iter().for_each(|step| each(step, visit)),
        Core::InParallel(inner) => inner
            .in_parallel
            .steps
            .iter()
            .for_each(|step| each(step, visit)),
        Core::Try(inner) => each(&inner.step, visit),
        Core::Get(_)
        | Core::Put(_)
        | Core::Task(_)
        | Core::SetPipeline(_)
        | Core::LoadVar(_)
        | Core::Run(_)
        | Core::Notify(_)
        | Core::Gate(_)
        | Core::BuildImage(_)
        | Core::Agent(_) => {}
    }
    each_hook(&step.modifiers.hooks, visit);
}

fn each_hook<'a>(hooks: &'a Hooks, visit: &mut dyn FnMut(&'a Step)) {
    for (_, hook) in hooks.iter() {
        each(hook, visit);
    }
}
