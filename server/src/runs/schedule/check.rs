//! Looking for new versions: when, and the run that does it.
//!
//! A check has a number in its resource, from which the id of its run follows. So whoever comes by finishes what a
//! server that died has begun: a check without a run gets it, one whose run is over is over.

use super::super::{Runs, StartRun, Started};
use super::begin::Standing;
use super::program::Program;
use crate::model::derived;
use crate::model::pipeline::Pipeline;
use crate::model::run::{CheckTrigger, Job, Outcome, RunState, Trigger, TriggerKind};
use crate::model::selection::{InputConfig, Wish};
use crate::model::version::{ResourceState, Version, contains};
use crate::model::{PipelineId, RunId};
use crate::store::{OpenRun, Result};
use pocketci_pipeline::config::Resource;
use pocketci_pipeline::config::model::JobInput;
use pocketci_pipeline::duration;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Between checks of a resource that says nothing else (Concourse's default).
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// Between looks at a pipeline of which nothing is due.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Word of a resource that is never looked at by the clock.
const NEVER: &str = "never";

impl Runs {
    /// Does what the clock says: starts jobs by their schedules, begins the checks of a pipeline that are due and ends
    /// those whose run is over; when to come again, if ever.
    pub async fn by_clock(&self, pipeline_id: PipelineId) -> Result<Option<Duration>> {
        let Some(pipeline) = self.pipeline(pipeline_id).await? else {
            return Ok(None);
        };
        let Some(program) = self.program(pipeline.revision_id).await? else {
            return Ok(None);
        };
        if pipeline.paused {
            return Ok(None);
        }
        let now = OffsetDateTime::now_utc();
        let by_clock = self.start_by_clock(&pipeline, &program, now).await?;
        let mut pause = by_clock.map_or(MAX_PAUSE, |next| next.min(MAX_PAUSE));
        for state in self.store().resources(pipeline_id).await? {
            let Some(resource) = program.config.resource(&state.name) else {
                continue;
            };
            if state.checking {
                self.tend_check(&pipeline, &program, &state).await?;
                pause = pause.min(interval(resource).unwrap_or(MAX_PAUSE));
                continue;
            }
            let Some(every) = interval(resource).filter(|_| is_watched(&program, resource, &state))
            else {
                continue;
            };
            // From its end: one that takes long does not follow itself at once.
            let since = state.check_finished_at.map(|at| now - at);
            let left = since.map_or(Duration::ZERO, |since| {
                every.saturating_sub(Duration::try_from(since).unwrap_or_default())
            });
            if left.is_zero() {
                self.begin_check(&pipeline, &program, &state, None).await?;
                pause = pause.min(every);
            } else {
                pause = pause.min(left);
            }
        }
        Ok(Some(pause))
    }

    /// A check of what is there now: one that has not begun yet will see it, so that whoever asks often starts few.
    pub async fn ask_for_check(
        &self,
        pipeline: &Arc<Pipeline>,
        program: &Program,
        state: &ResourceState,
        from: Option<Version>,
    ) -> Result<Option<RunId>> {
        if state.checking
            && from.is_none()
            && let Some(id) = check_run(pipeline.id, state)
            && let Some(view) = self.store().run(id).await?
            && view.run.state == RunState::Queued
        {
            return Ok(Some(id));
        }
        self.begin_check(pipeline, program, state, from).await
    }

    /// Begins a check now; `None` if the resource is not (or no longer) what `state` says. `from` is the version to
    /// begin with, else the newest known.
    pub async fn begin_check(
        &self,
        pipeline: &Arc<Pipeline>,
        program: &Program,
        state: &ResourceState,
        from: Option<Version>,
    ) -> Result<Option<RunId>> {
        let begun = self
            .store()
            .check_begun(pipeline.id, &state.name, state.scope, Duration::ZERO)
            .await?;
        if begun.is_none() {
            return Ok(None);
        }
        let Some(now) = self.store().resource(pipeline.id, &state.name).await? else {
            return Ok(None);
        };
        let from = from.or_else(|| start_of(program, &now));
        self.run_check(pipeline, program, &now, from).await
    }

    /// Finishes what was begun: gives a check its run, or ends it when its run is over.
    async fn tend_check(
        &self,
        pipeline: &Arc<Pipeline>,
        program: &Program,
        state: &ResourceState,
    ) -> Result<bool> {
        let Some(id) = check_run(pipeline.id, state) else {
            return Ok(false);
        };
        let Some(view) = self.store().run(id).await? else {
            let from = start_of(program, state);
            self.run_check(pipeline, program, state, from).await?;
            return Ok(false);
        };
        let Some(end) = view.run.end else {
            return Ok(false);
        };
        let error = match end.outcome {
            Outcome::Succeeded | Outcome::Skipped => None,
            _ if end.message.is_empty() => Some(format!("the check {}", end.outcome.as_str())),
            _ => Some(end.message),
        };
        self.store()
            .check_ended(pipeline.id, &state.name, state.check_seq, error.as_deref())
            .await
    }

    async fn run_check(
        &self,
        pipeline: &Arc<Pipeline>,
        program: &Program,
        state: &ResourceState,
        from: Option<Version>,
    ) -> Result<Option<RunId>> {
        let Some(id) = check_run(pipeline.id, state) else {
            return Ok(None);
        };
        if program.scope(&state.name) != Some(state.scope) {
            return Ok(None);
        }
        let check = CheckTrigger {
            resource: state.name.clone(),
            scope: hex::encode(state.scope.0),
            from,
        };
        let trigger = Trigger {
            check: Some(check),
            ..Trigger::new(TriggerKind::Check)
        };
        let start = StartRun {
            id: Some(id),
            ..StartRun::new(pipeline.clone(), trigger)
        };
        // Changed this very moment: the next look gives it a run.
        let stored = matches!(self.start(start).await?, Started::Stored { .. });
        Ok(stored.then_some(id))
    }

    /// Why a build must wait for a check of one of its inputs; with `act` the check is begun.
    ///
    /// Whoever starts a run by hand or by webhook means the versions that are there now: every input that passed nothing
    /// and is not pinned must have been looked at since. A run for new versions waits only for its other inputs, if
    /// their interval is over.
    pub(super) async fn unchecked(
        &self,
        open: &OpenRun,
        job: &Job,
        program: &Program,
        inputs: &[InputConfig],
        act: bool,
    ) -> Result<Option<Standing>> {
        let looked_at = |input: &&InputConfig| {
            input.passed.is_empty() && !matches!(input.version, Wish::Pinned(_))
        };
        let mut states = Vec::new();
        for input in inputs.iter().filter(looked_at) {
            let state = self
                .store()
                .resource(open.run.pipeline_id, &input.resource)
                .await?;
            let Some(state) = state.filter(|state| state.pin.is_none()) else {
                continue;
            };
            if !is_fresh(open, job, program, input, &state) {
                states.push(state);
            }
        }
        let Some(first) = states.first() else {
            return Ok(None);
        };
        if act && let Some(pipeline) = self.reload_pipeline(open.run.pipeline_id).await? {
            let mut ended = false;
            for state in &states {
                ended |= self.look_now(&pipeline, state).await?;
            }
            if ended {
                // What was waited for is known now, or begun anew: look again.
                let looked = Box::pin(self.unchecked(open, job, program, inputs, false));
                return looked.await;
            }
        }
        let names: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
        let message = match first.checking {
            true => format!("{} is being checked for versions", names.join(", ")),
            false => format!("{} is to be checked for versions", names.join(", ")),
        };
        Ok(Some(Standing::Waits {
            reason: "checking",
            message,
        }))
    }

    /// One check at a time: who comes while one is under way begins the next one when that is over. Whether one has
    /// ended.
    async fn look_now(&self, pipeline: &Arc<Pipeline>, state: &ResourceState) -> Result<bool> {
        let Some(program) = self.program(pipeline.revision_id).await? else {
            return Ok(false);
        };
        if state.checking {
            return self.tend_check(pipeline, &program, state).await;
        }
        self.begin_check(pipeline, &program, state, None).await?;
        Ok(false)
    }
}

fn is_fresh(
    open: &OpenRun,
    job: &Job,
    program: &Program,
    input: &InputConfig,
    state: &ResourceState,
) -> bool {
    if open.run.trigger.kind != TriggerKind::Version {
        return state.checked_at.is_some_and(|at| at >= job.queued_at);
    }
    let of_input = |found: &&JobInput| found.name == input.name;
    let is_trigger = program.inputs(&job.name).iter().find(of_input);
    let every = program.config.resource(&input.resource).and_then(interval);
    let Some(every) = every.filter(|_| !is_trigger.is_some_and(|found| found.trigger)) else {
        return true;
    };
    state
        .checked_at
        .is_some_and(|at| at + every >= job.queued_at)
}

/// The version to begin with: what is pinned and not known, else the newest.
fn start_of(program: &Program, state: &ResourceState) -> Option<Version> {
    let configured = program.config.resource(&state.name);
    let configured = configured.and_then(|resource| resource.version.clone());
    let by_command = state.pin.as_ref().filter(|_| !state.pin_found);
    configured
        .or_else(|| by_command.map(|pin| pin.fields.clone()))
        .or_else(|| state.newest.clone())
}

/// Between checks by the clock; `None` for never.
fn interval(resource: &Resource) -> Option<Duration> {
    match resource.check_every.as_str() {
        "" => Some(CHECK_EVERY),
        NEVER => None,
        // Checked when the pipeline was set.
        text => Some(duration::parse_go(text).unwrap_or(CHECK_EVERY)),
    }
}

/// Whether the clock looks at a resource (Concourse since 8.2): if it starts jobs, or nothing is known of it.
fn is_watched(program: &Program, resource: &Resource, state: &ResourceState) -> bool {
    let triggers = program.config.jobs.iter().any(|job| {
        let inputs = program.inputs(&job.name);
        let of_it = |input: &&JobInput| input.resource == resource.name;
        inputs.iter().filter(of_it).any(|input| input.trigger)
    });
    let pinned_unknown = state.pin.is_some() && !state.pin_found;
    // What the pipeline itself pins may be older than all that is known.
    let pinned_beyond = match (&resource.version, &state.newest) {
        (Some(pin), Some(newest)) => !contains(newest, pin),
        _ => false,
    };
    triggers
        || pinned_beyond
        || state.check_error.is_some()
        || state.check_finished_at.is_none()
        || state.newest.is_none()
        || pinned_unknown
}

/// The id of a check's run: the same whoever asks.
fn check_run(pipeline_id: PipelineId, state: &ResourceState) -> Option<RunId> {
    let seq = state.check_seq.to_be_bytes();
    let parts: [&[u8]; 4] = [b"check", &pipeline_id.to_vec(), state.name.as_bytes(), &seq];
    Some(derived::run_id(state.check_started_at?, &parts))
}
