//! The jobs of a new run, by what starts it.

use super::super::start::{Refused, terms};
use super::super::{RunSettings, Runs};
use super::program::Program;
use super::tags::tags_of;
use crate::model::JobId;
use crate::model::one_off::OneOff;
use crate::model::pipeline::{ContentType, Pipeline};
use crate::model::run::{Trigger, TriggerKind};
use crate::model::settings::MAX_PRIORITY;
use crate::store::{NewBuild, NewJob, Result};
use pocketci_pipeline::config::Job as JobConfig;
use pocketci_proto::YAML_LABEL;
use std::collections::BTreeSet;

/// The name of the one job of a JavaScript pipeline.
const PROGRAM_JOB: &str = "pipeline";
/// The job that stands for a pipeline's `assert`; no agent gets it. No job of a file has this name: it is no identifier.
pub(super) const ASSERT_JOB: &str = "(assert)";
/// What a tag without a value stands for.
const BARE_TAG: &str = "true";

impl Runs {
    /// The jobs that a run of this pipeline has, in the order of its file.
    pub(in super::super) async fn jobs_of(
        &self,
        pipeline: &Pipeline,
        trigger: &Trigger,
        rerun_of: Option<JobId>,
    ) -> Result<std::result::Result<Vec<NewJob>, Refused>> {
        let settings = self.settings();
        if pipeline.content_type != ContentType::Yaml {
            let job = new_job(pipeline, settings, PROGRAM_JOB, [], None);
            return Ok(Ok(vec![job]));
        }
        let Some(program) = self.program(pipeline.revision_id).await? else {
            return Ok(Err(Refused::Unreadable));
        };
        if let Some(check) = &trigger.check {
            return Ok(Ok(vec![check_job(
                pipeline,
                settings,
                &program,
                &check.resource,
            )]));
        }
        if let Some(one_off) = &trigger.one_off {
            return Ok(Ok(vec![one_off_job(pipeline, settings, one_off)]));
        }
        let wanted = match wanted(&program, trigger, rerun_of.is_some()) {
            Ok(wanted) => wanted,
            Err(refused) => return Ok(Err(refused)),
        };
        let jobs = program.config.jobs.iter();
        let jobs = jobs.filter(|job| wanted.contains(&job.name)).map(|job| {
            let build = NewBuild { rerun_of };
            new_job(pipeline, settings, &job.name, tags_of(job), Some(build))
        });
        let mut jobs: Vec<NewJob> = jobs.collect();
        if program.config.assert.is_some() && rerun_of.is_none() {
            let build = NewBuild { rerun_of: None };
            jobs.push(new_job(pipeline, settings, ASSERT_JOB, [], Some(build)));
        }
        Ok(Ok(jobs))
    }
}

/// The names of the jobs: all, or those asked for with the jobs that follow when they pass versions on.
fn wanted(
    program: &Program,
    trigger: &Trigger,
    rerun: bool,
) -> std::result::Result<BTreeSet<String>, Refused> {
    let config = &program.config;
    let asked = &trigger.jobs;
    let by_hand = matches!(trigger.kind, TriggerKind::Manual | TriggerKind::Pipeline);
    for name in asked {
        let job = config
            .job(name)
            .ok_or_else(|| Refused::UnknownJob(name.clone()))?;
        if by_hand && !rerun && job.disable_manual_trigger {
            return Err(Refused::NoManualTrigger(name.clone()));
        }
        if rerun && job.disable_reruns {
            return Err(Refused::NoReruns(name.clone()));
        }
    }
    if !asked.is_empty() {
        let asked_for: BTreeSet<String> = asked.iter().cloned().collect();
        return Ok(match (rerun, trigger.kind) {
            (true, _) => asked_for,
            // What follows by versions is started when there are versions to follow.
            (false, TriggerKind::Version) => with_passed_triggers(program, asked_for),
            (false, _) => with_passed_triggers(program, program.graph.with_dependants(asked)),
        });
    }
    let allowed = |job: &&JobConfig| !(by_hand && job.disable_manual_trigger);
    let all: BTreeSet<String> = config
        .jobs
        .iter()
        .filter(allowed)
        .map(|job| job.name.clone())
        .collect();
    match (all.is_empty(), config.jobs.first()) {
        (true, Some(first)) => Err(Refused::NoManualTrigger(first.name.clone())),
        _ => Ok(all),
    }
}

/// Adds the jobs that start when others have succeeded (`triggers.passed`), if all of these are in the run.
fn with_passed_triggers(program: &Program, mut jobs: BTreeSet<String>) -> BTreeSet<String> {
    loop {
        let follows = |job: &&JobConfig| {
            let passed = job.triggers.as_ref().map_or(&[][..], |t| &t.passed);
            !jobs.contains(&job.name)
                && !passed.is_empty()
                && passed.iter().all(|name| jobs.contains(name))
        };
        let Some(next) = program.config.jobs.iter().find(follows) else {
            return jobs;
        };
        let name = next.name.clone();
        jobs.insert(name);
    }
}

fn new_job(
    pipeline: &Pipeline,
    settings: &RunSettings,
    name: &str,
    tags: impl IntoIterator<Item = String>,
    build: Option<NewBuild>,
) -> NewJob {
    let mut labels = pipeline.labels.clone();
    labels.extend(tags.into_iter().map(label));
    if pipeline.content_type == ContentType::Yaml {
        // An older agent would not know what it was given.
        let (name, value) = YAML_LABEL;
        labels.insert(name.to_owned(), value.to_owned());
    }
    NewJob {
        id: JobId::new(),
        name: name.to_owned(),
        labels,
        driver: pipeline.driver,
        build,
        terms: terms(&pipeline.settings, settings),
        hand_to: None,
    }
}

/// Looking for versions comes before everything else: others wait for it, and it is short.
fn check_job(
    pipeline: &Pipeline,
    settings: &RunSettings,
    program: &Program,
    resource: &str,
) -> NewJob {
    let found = program.config.resource(resource);
    let tags = found.map(|found| found.tags.clone()).unwrap_or_default();
    let name = format!("check:{resource}");
    let mut job = new_job(pipeline, settings, &name, tags, None);
    job.terms.priority = MAX_PRIORITY;
    job.terms.attempts = 1;
    job
}

/// No build: it is not one of the pipeline's jobs, so it has no number among them and nothing to wait for.
fn one_off_job(pipeline: &Pipeline, settings: &RunSettings, one_off: &OneOff) -> NewJob {
    let mut job = new_job(pipeline, settings, &one_off.name, [], None);
    job.labels.extend(one_off.labels.clone());
    job.driver = one_off.driver.or(job.driver);
    job
}

/// `os=linux` asks for that label; `gpu` alone asks for `gpu=true`.
pub(in super::super) fn label(tag: String) -> (String, String) {
    match tag.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (tag, BARE_TAG.to_owned()),
    }
}
