//! Where a waiting build stands, and letting it go: the jobs before it, its inputs, its place among running ones.

use super::super::Runs;
use super::filter::lets_pass;
use super::jobs::ASSERT_JOB;
use super::program::Program;
use crate::model::PipelineId;
use crate::model::run::{BY_SERVER, End, Hold, Job, JobState, Outcome, Run, TriggerKind};
use crate::model::selection::{InputConfig, Wish};
use crate::model::transition::{Applied, Change};
use crate::store::{Admission, Admitted, BuildInputs, BuildLimit, OpenRun, Result};
use pocketci_pipeline::config::Job as JobConfig;
use pocketci_pipeline::config::model::{JobInput, VersionChoice};
use std::collections::HashSet;

/// A job before it did not succeed.
const UPSTREAM: &str = "upstream_not_passed";
/// The job is in the run's revision no more; cannot be, as a revision never changes.
const UNKNOWN: &str = "unknown_job";
/// The pipeline has other resources by now.
const SUPERSEDED: &str = "superseded_revision";
/// The pipeline's `assert.execution` does not hold.
const ASSERTION: &str = "assertion";
/// Somebody else has used the versions that started it.
const NOTHING_NEW: &str = "no_new_version";

/// Where a build that waits for its inputs stands.
#[derive(Debug)]
pub enum Standing {
    /// It may begin, if there is a place for it.
    Ready(Admission),
    /// It waits on.
    Waits {
        /// A stable word.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// It is the run's assertion, which holds, or not for this reason.
    Asserted(Option<String>),
    /// It has nothing to do in its run.
    Skip {
        /// A stable word.
        reason: &'static str,
        /// For people.
        message: String,
    },
}

impl Standing {
    fn waits(reason: &'static str, message: String) -> Self {
        Self::Waits { reason, message }
    }

    fn skip(reason: &'static str, message: String) -> Self {
        Self::Skip { reason, message }
    }
}

/// The jobs before one in its run.
enum Before {
    /// All are over; these count as passed whatever versions they had.
    Over(Vec<String>),
    /// One of them stands in the way.
    Bars(Standing),
}

impl Runs {
    /// Lets go every build of a pipeline that may begin and skips those that have nothing to do; whether there was any.
    pub(super) async fn begin_builds(&self, pipeline_id: PipelineId) -> Result<bool> {
        let mut acted = false;
        let mut full = HashSet::new();
        let mut after = None;
        loop {
            let page = self
                .store()
                .open_runs(pipeline_id, after, super::OPEN_RUNS)
                .await?;
            let Some(last) = page.last() else {
                return Ok(acted);
            };
            after = Some(last.run.id);
            for open in page.iter().filter(|open| open.run.cancel.is_none()) {
                match self.begin_of_run(open, &mut full).await {
                    Ok(begun) => acted |= begun,
                    // One that cannot be looked at does not keep the others waiting.
                    Err(error) => tracing::warn!(
                        run = %open.run.id,
                        error = &error as &dyn std::error::Error,
                        "cannot schedule a run; trying again"
                    ),
                }
            }
        }
    }

    /// `full` are the jobs of which no more builds may begin in this pass.
    async fn begin_of_run(&self, open: &OpenRun, full: &mut HashSet<String>) -> Result<bool> {
        let Some(program) = self.program(open.run.revision_id).await? else {
            return self.give_up(open).await;
        };
        if self.skip_refused(open, &program).await? {
            // What is skipped is no obstacle any more: look again.
            return Ok(true);
        }
        let mut acted = false;
        for job in open.jobs.iter().filter(|job| waits_for_inputs(job)) {
            if !full.contains(&job.name) {
                acted |= self.begin(open, job, &program, full).await?;
            }
        }
        Ok(acted)
    }

    /// Ends the builds of a program that cannot be read (any more).
    async fn give_up(&self, open: &OpenRun) -> Result<bool> {
        let mut acted = false;
        for job in open.jobs.iter().filter(|job| waits_for_inputs(job)) {
            let message = "its revision of the pipeline cannot be read; set the pipeline again";
            let errored = Outcome::Errored;
            acted |= self
                .settle(&open.run, job, errored, "config", message.to_owned())
                .await?;
        }
        Ok(acted)
    }

    async fn begin(
        &self,
        open: &OpenRun,
        job: &Job,
        program: &Program,
        full: &mut HashSet<String>,
    ) -> Result<bool> {
        match self.standing(open, job, program, true).await? {
            Standing::Waits { .. } => Ok(false),
            Standing::Ready(admission) => match self.store().admit_build(admission).await? {
                Admitted::Done => Ok(true),
                Admitted::Full(_) => {
                    full.insert(job.name.clone());
                    Ok(false)
                }
                Admitted::Stale => Ok(false),
            },
            Standing::Skip { reason, message } => {
                self.skip_job(&open.run, job, reason, message).await
            }
            Standing::Asserted(None) => {
                let message = String::new();
                self.settle(&open.run, job, Outcome::Succeeded, "", message)
                    .await
            }
            Standing::Asserted(Some(message)) => {
                self.settle(&open.run, job, Outcome::Failed, ASSERTION, message)
                    .await
            }
        }
    }

    async fn skip_job(
        &self,
        run: &Run,
        job: &Job,
        reason: &'static str,
        message: String,
    ) -> Result<bool> {
        self.settle(run, job, Outcome::Skipped, reason, message)
            .await
    }

    async fn settle(
        &self,
        run: &Run,
        job: &Job,
        outcome: Outcome,
        reason: &'static str,
        message: String,
    ) -> Result<bool> {
        let end = End {
            outcome,
            reason: reason.to_owned(),
            actor: BY_SERVER.to_owned(),
            message,
        };
        let job_id = job.id;
        let change = Change::Settle { job_id, end };
        Ok(self.store().submit(run.id, change).await? == Applied::Done)
    }

    /// Skips the jobs that the run's webhook is not meant for.
    async fn skip_refused(&self, open: &OpenRun, program: &Program) -> Result<bool> {
        if open.run.trigger.kind != TriggerKind::Webhook {
            return Ok(false);
        }
        let mut receipt = None;
        let mut acted = false;
        for job in open.jobs.iter().filter(|job| waits_for_inputs(job)) {
            let Some(config) = program.config.job(&job.name) else {
                continue;
            };
            let plain = config.triggers.is_none() && config.webhook_filter().is_none();
            if plain || self.inner.programs.is_meant(job.id) {
                continue;
            }
            if receipt.is_none() {
                receipt = match open.run.receipt_id {
                    Some(id) => self.store().receipt(id).await?,
                    None => return Ok(acted),
                };
            }
            let Some(receipt) = &receipt else {
                return Ok(acted);
            };
            match self
                .refuses(open.run.pipeline_id, open.run.id, receipt, config)
                .await?
            {
                Some((reason, message)) => {
                    acted |= self.skip_job(&open.run, job, reason, message).await?;
                }
                None => self.inner.programs.meant(job.id),
            }
        }
        Ok(acted)
    }

    /// Where a waiting build stands. With `act`, what it waits for and nobody does is begun: checks of its inputs.
    pub(super) async fn standing(
        &self,
        open: &OpenRun,
        job: &Job,
        program: &Program,
        act: bool,
    ) -> Result<Standing> {
        if job.name == ASSERT_JOB
            && let Some(assert) = &program.config.assert
        {
            return Ok(asserted(open, job, program, &assert.execution));
        }
        let Some(config) = program.config.job(&job.name) else {
            let message = format!("the pipeline has no job {:?}", job.name);
            return Ok(Standing::skip(UNKNOWN, message));
        };
        let passed_over = match before(open, job, program) {
            Before::Over(passed_over) => passed_over,
            Before::Bars(standing) => return Ok(standing),
        };
        let admission = |inputs| Admission {
            pipeline_id: open.run.pipeline_id,
            run_id: open.run.id,
            job_id: job.id,
            inputs,
            limits: limits(program, config),
        };
        if let Some(original) = job.build.and_then(|build| build.rerun_of) {
            return Ok(Standing::Ready(admission(BuildInputs::Of(original))));
        }
        if let Some(resource) = self.changed_resource(open, job, program).await? {
            let message = format!(
                "resource {resource} is another one in the pipeline's newest revision; trigger the job again"
            );
            return Ok(Standing::skip(SUPERSEDED, message));
        }
        let inputs = input_configs(program, &job.name, &passed_over);
        if let Some(waits) = self.unchecked(open, job, program, &inputs, act).await? {
            return Ok(waits);
        }
        let selection = self
            .store()
            .select_inputs(open.run.pipeline_id, &job.name, inputs)
            .await?;
        if !selection.errors.is_empty() {
            let explained = selection.errors.iter().map(|(name, why)| why.explain(name));
            let message = explained.collect::<Vec<_>>().join("; ");
            return Ok(Standing::waits("inputs", message));
        }
        let is_new = |input: &JobInput| {
            let chosen = selection.inputs.get(&input.name);
            input.trigger && chosen.is_some_and(|chosen| chosen.first_occurrence)
        };
        if open.run.trigger.kind == TriggerKind::Version
            && !program.inputs(&job.name).iter().any(is_new)
        {
            let message = "another build has used the versions that started it".to_owned();
            return Ok(Standing::skip(NOTHING_NEW, message));
        }
        let chosen = selection.inputs.into_values().collect();
        Ok(Standing::Ready(admission(BuildInputs::Chosen(chosen))))
    }

    /// A resource of the build whose versions are not those that its revision means.
    async fn changed_resource(
        &self,
        open: &OpenRun,
        job: &Job,
        program: &Program,
    ) -> Result<Option<String>> {
        let known = self.store().resources(open.run.pipeline_id).await?;
        let is_same = |input: &&JobInput| {
            let now = known.iter().find(|state| state.name == input.resource);
            now.map(|state| state.scope) == program.scope(&input.resource)
        };
        let mut inputs = program.inputs(&job.name).iter();
        let changed = inputs.find(|input| !is_same(input));
        Ok(changed.map(|input| input.resource.clone()))
    }

    /// Where a build stands, for people: a place that is taken is told as well.
    pub(in super::super) async fn why_waiting(
        &self,
        open: &OpenRun,
        job: &Job,
    ) -> Result<(&'static str, String)> {
        let Some(program) = self.program(open.run.revision_id).await? else {
            return Ok(("inputs", "its pipeline cannot be read".to_owned()));
        };
        let admission = match self.standing(open, job, &program, false).await? {
            Standing::Waits { reason, message } => return Ok((reason, message)),
            Standing::Skip { message, .. } => return Ok(("skipping", message)),
            Standing::Asserted(_) => return Ok(("starting", "it is about to end".to_owned())),
            Standing::Ready(admission) => admission,
        };
        for limit in &admission.limits {
            let begun = self
                .store()
                .begun_builds(admission.pipeline_id, &limit.jobs)
                .await?;
            if begun >= limit.max {
                let of = limit.jobs.join(", ");
                let message = format!(
                    "{begun} of {} builds of {of} are running ({})",
                    limit.max, limit.rule
                );
                return Ok(("max_in_flight", message));
            }
        }
        Ok(("starting", "it is about to be handed out".to_owned()))
    }
}

fn waits_for_inputs(job: &Job) -> bool {
    job.state == JobState::Queued && job.hold == Some(Hold::Inputs)
}

fn before(open: &OpenRun, job: &Job, program: &Program) -> Before {
    let triggers = program.config.job(&job.name);
    let triggers = triggers.and_then(|config| config.triggers.as_ref());
    // What is to start the job must have succeeded: that it was skipped is not enough.
    let starts_it = |name: &str| triggers.is_some_and(|t| t.passed.iter().any(|p| p == name));
    let mut passed_over = Vec::new();
    for name in program.graph.before(&job.name) {
        let Some(earlier) = open.jobs.iter().find(|other| other.name == name) else {
            continue;
        };
        match &earlier.end {
            None => {
                let message = format!("waits for job {name} of the same run");
                return Before::Bars(Standing::waits("upstream", message));
            }
            Some(end) => match end.outcome {
                Outcome::Succeeded => {}
                Outcome::Skipped if lets_pass(&end.reason) && !starts_it(name) => {
                    passed_over.push(name.to_owned());
                }
                other => {
                    let how = match other {
                        Outcome::Skipped => "was skipped".to_owned(),
                        other => other.as_str().to_owned(),
                    };
                    let message = format!("job {name} of the same run {how}");
                    return Before::Bars(Standing::skip(UPSTREAM, message));
                }
            },
        }
    }
    Before::Over(passed_over)
}

/// Compares what was executed with what the pipeline says, when everything else is over: in the order of the file, as
/// jobs may overlap (`assert.execution` of a pipeline). What a webhook was not meant for counts as executed.
fn asserted(open: &OpenRun, job: &Job, program: &Program, expected: &[String]) -> Standing {
    let (mut executed, mut of_run) = (Vec::new(), Vec::new());
    let mut skipped = true;
    for config in &program.config.jobs {
        let others = open.jobs.iter().filter(|other| other.id != job.id);
        let Some(other) = others.into_iter().find(|other| other.name == config.name) else {
            continue;
        };
        of_run.push(config.name.as_str());
        skipped &= other
            .end
            .as_ref()
            .is_some_and(|end| end.outcome == Outcome::Skipped);
        match &other.end {
            None => {
                let message = format!("waits for job {} of the same run", other.name);
                return Standing::waits("upstream", message);
            }
            Some(end) if end.outcome == Outcome::Succeeded || lets_pass(&end.reason) => {
                executed.push(config.name.as_str());
            }
            Some(_) => {}
        }
    }
    if skipped {
        return Standing::skip(UPSTREAM, "nothing of the run was executed".to_owned());
    }
    // A run of some jobs cannot execute the others; a name that no job has is never executed.
    let is_known = |name: &&str| program.config.job(name).is_none() || of_run.contains(name);
    let expected: Vec<&str> = expected
        .iter()
        .map(String::as_str)
        .filter(is_known)
        .collect();
    let holds = executed == expected;
    Standing::Asserted((!holds).then(|| {
        format!(
            "assertion failed: expected execution of [{}], got [{}]",
            expected.join(", "),
            executed.join(", ")
        )
    }))
}

/// What a job gets, in the words of the selection; jobs that were passed over need not have passed anything on.
pub(in super::super) fn input_configs(
    program: &Program,
    job: &str,
    passed_over: &[String],
) -> Vec<InputConfig> {
    let order = |name: &String| {
        let jobs = &program.config.jobs;
        jobs.iter().position(|job| job.name == *name)
    };
    let one = |input: &JobInput| {
        let mut passed: Vec<String> = input
            .passed
            .iter()
            .filter(|name| !passed_over.contains(name))
            .cloned()
            .collect();
        passed.sort_by_key(order);
        let configured = program.config.resource(&input.resource);
        let version = match (&input.version, configured.and_then(|r| r.version.as_ref())) {
            (VersionChoice::Pinned(version), _) => Wish::Pinned(version.clone()),
            (_, Some(version)) => Wish::Pinned(version.clone()),
            (VersionChoice::Every, None) => Wish::Every,
            (VersionChoice::Latest, None) => Wish::Latest,
        };
        InputConfig {
            name: input.name.clone(),
            resource: input.resource.clone(),
            passed,
            version,
        }
    };
    program.inputs(job).iter().map(one).collect()
}

/// What bounds the builds of a job at one time.
fn limits(program: &Program, job: &JobConfig) -> Vec<BuildLimit> {
    let alone = |rule: String, max: i64| BuildLimit {
        rule,
        jobs: vec![job.name.clone()],
        max,
    };
    if !job.serial_groups.is_empty() {
        let group = |name: &String| BuildLimit {
            rule: format!("serial_groups: {name}"),
            jobs: program
                .config
                .jobs
                .iter()
                .filter(|other| other.serial_groups.contains(name))
                .map(|other| other.name.clone())
                .collect(),
            max: 1,
        };
        return job.serial_groups.iter().map(group).collect();
    }
    if job.serial {
        return vec![alone("serial".to_owned(), 1)];
    }
    let limit = job.limit().or(program.config.max_in_flight);
    match limit.filter(|limit| *limit > 0) {
        Some(limit) => vec![alone(format!("max_in_flight: {limit}"), i64::from(limit))],
        None => Vec::new(),
    }
}
