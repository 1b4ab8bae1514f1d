//! A YAML job from its assignment to its end.

use super::build::{About, Build, lock};
use super::check::check;
use super::leaf::Leaf;
use super::one_off::one_off;
use super::tree::tree;
use super::vars::Vault;
use super::{Halt, Job as _, Outcome, Scope, State, Step};
use crate::attempt::secrets::Secrets;
use crate::attempt::{Attempt, Backend, Numbers, Work, Workshop, finished, labels, time_limit};
use crate::container::Driver;
use crate::resource::{Resources, Setup, TypeSpec};
use crate::shelf::PIPELINE_LABEL;
use pocketci_pipeline::config::model::{Assert, GateStep, Job, ResourceType};
use pocketci_pipeline::config::vars::Vars;
use pocketci_pipeline::config::{self, Config};
use pocketci_pipeline::plan::{Plan, plan_of};
use pocketci_proto::agent as pb;
use pocketci_proto::agent::yaml_job::Work as Wanted;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long hooks may go on after the job was told to stop: cleaning up takes a while, and a hook that hangs must not
/// hold the job for ever.
const HOOKS_WITHIN: Duration = Duration::from_secs(300);

/// The same while the agent is going down, which waits little longer.
const HOOKS_WITHIN_LEAVING: Duration = Duration::from_secs(3);

/// Carries the job out; nothing of it is left when this returns.
pub(crate) async fn execute(
    workshop: &Arc<Workshop>,
    attempt: &Arc<Attempt>,
    backend: Arc<dyn Backend>,
    work: &Work,
    driver: Arc<dyn Driver>,
) -> pb::Finished {
    let about = about(work);
    let config = match configuration(work, &about) {
        Ok(config) => config,
        Err(error) => return finished("errored", "config", error),
    };
    let (within, too_long) = time_limit(work, &workshop.config.limits);
    let until = Instant::now() + within;
    // It asks the server for secrets; nothing is made yet that would have to be removed.
    let build = tokio::select! {
        biased;
        () = attempt.stop_token().cancelled() => return attempt.end_of_abort(),
        () = attempt.lost() => return attempt.end_of_abort(),
        () = tokio::time::sleep_until(until) => {
            attempt.stop(too_long);
            return attempt.end_of_abort();
        }
        build = build(workshop, attempt, backend, driver, config, about) => build,
    };
    let hooks = CancellationToken::new();
    let state = State::new(
        build.clone(),
        Arc::new(Scope::default()),
        Halt::new(attempt.stop_token().clone()),
        Halt::new(hooks.clone()),
    );
    let watching = async {
        tokio::select! {
            () = tokio::time::sleep_until(until) => attempt.stop(too_long),
            () = attempt.stop_token().cancelled() => {}
        }
        let grace = match attempt.is_handed_back() {
            true => HOOKS_WITHIN_LEAVING,
            false => HOOKS_WITHIN,
        };
        tokio::time::sleep(grace).await;
        hooks.cancel();
        std::future::pending::<()>().await;
    };
    let working = async {
        let outcome = match &build.about.yaml.work {
            None => Box::pin(plan(&build, &state)).await,
            Some(Wanted::Check(wanted)) => Box::pin(check(&build, &state, wanted)).await,
            Some(Wanted::OneOff(wanted)) => Box::pin(one_off(&build, &state, wanted)).await,
        };
        build.settle().await;
        outcome
    };
    let outcome = tokio::select! {
        outcome = working => Some(outcome),
        () = watching => None,
        () = attempt.lost() => None,
    };
    build.release().await;
    match outcome {
        Some(outcome) => end(&build, outcome),
        None => attempt.end_of_abort(),
    }
}

fn end(build: &Build, outcome: Outcome) -> pb::Finished {
    match outcome {
        Outcome::Succeeded => finished("succeeded", "", ""),
        Outcome::Failed => finished("failed", "", build.reason(outcome)),
        Outcome::Errored | Outcome::TimedOut => {
            finished("errored", "", build.reason(Outcome::Errored))
        }
        Outcome::Aborted => build.attempt.end_of_abort(),
    }
}

fn about(work: &Work) -> About {
    let assign = &work.assign;
    let id = |bytes: &[u8]| {
        uuid::Uuid::from_slice(bytes)
            .map(|id| id.to_string())
            .unwrap_or_default()
    };
    let reference = assign.r#ref.clone().unwrap_or_default();
    About {
        run_id: id(&reference.run_id),
        job_id: id(&reference.job_id),
        pipeline_id: assign.pipeline_id.clone(),
        pipeline_name: assign.pipeline_name.clone(),
        job_name: assign.job_name.clone(),
        yaml: assign.yaml.clone().unwrap_or_default(),
    }
}

/// The pipeline, which the server has validated; a one-off task needs none.
fn configuration(work: &Work, about: &About) -> Result<Config, String> {
    let source = &work.program.source;
    if source.trim().is_empty() && matches!(about.yaml.work, Some(Wanted::OneOff(_))) {
        return Ok(Config::default());
    }
    let file = &work.program.file_name;
    config::load(file, source, &Vars::new())
        .map(|loaded| loaded.config)
        .map_err(|faults| config::report(file, &faults))
}

async fn build(
    workshop: &Arc<Workshop>,
    attempt: &Arc<Attempt>,
    backend: Arc<dyn Backend>,
    driver: Arc<dyn Driver>,
    config: Config,
    about: About,
) -> Arc<Build> {
    let secrets = Arc::new(Secrets::new(backend.clone(), attempt.redactor.clone()));
    let vault = Vault {
        secrets: &secrets,
        redactor: &attempt.redactor,
        sources: &config.var_sources,
    };
    let left_out = match &about.yaml.work {
        // The type of a type's own image is not itself.
        Some(Wanted::Check(check)) if check.resource_type => check.resource.as_str(),
        _ => "",
    };
    let mut types = Vec::new();
    let mut broken_types = BTreeMap::new();
    for declared in &config.resource_types {
        match type_spec(&vault, declared).await {
            _ if declared.name == left_out => {}
            Ok(spec) => types.push(spec),
            Err(error) => {
                broken_types.insert(declared.name.clone(), error);
            }
        }
    }
    let mut labels = labels(workshop, attempt);
    labels.insert(PIPELINE_LABEL.to_owned(), about.pipeline_id.clone());
    let resources = Resources::new(Setup {
        cache: workshop.get_cache(&driver),
        driver: driver.clone(),
        labels: labels.clone(),
        types,
        allow_privileged: workshop.config.allow_privileged,
    });
    Arc::new(Build {
        room: Semaphore::new(workshop.config.limits.max_steps),
        workshop: workshop.clone(),
        attempt: attempt.clone(),
        backend,
        driver,
        secrets,
        resources,
        broken_types,
        config,
        about,
        labels,
        numbers: Numbers::default(),
        tasks: Mutex::default(),
        volumes: Mutex::default(),
        names: Mutex::default(),
        faults: Mutex::default(),
        ran: Mutex::default(),
    })
}

async fn type_spec(vault: &Vault<'_>, declared: &ResourceType) -> Result<TypeSpec, String> {
    let filled = |map: &Map<String, Value>| {
        let value = Value::Object(map.clone());
        async move {
            match vault.fill(Map::new(), &value).await? {
                Value::Object(map) => Ok::<_, String>(map),
                _ => Err("expected a map".to_owned()),
            }
        }
    };
    Ok(TypeSpec {
        name: declared.name.clone(),
        type_name: declared.type_name.clone(),
        source: filled(&declared.source).await?,
        params: filled(&declared.params).await?,
        defaults: filled(&declared.defaults).await?,
        privileged: declared.privileged,
    })
}

/// The job's plan, after its gate.
async fn plan(build: &Arc<Build>, state: &State) -> Outcome {
    let name = &build.about.job_name;
    let Some(job) = build.config.job(name) else {
        let said = format!("the pipeline has no job {name:?}");
        build.fault(state, Outcome::Errored, &said).await;
        return Outcome::Errored;
    };
    let leaf = |plan: Plan| -> Arc<dyn Step> {
        let build = build.clone();
        Arc::new(Leaf { build, plan })
    };
    if let Some(gate) = &job.gate {
        // Not as a step of the plan, whose paths it would shift.
        let asking = leaf(Plan::Gate(GateStep {
            name: name.clone(),
            message: gate.message.clone(),
            timeout: Some(gate.timeout.clone()).filter(|timeout| !timeout.is_empty()),
        }));
        let outcome = asking.run(&state.within("gate")).await;
        if outcome != Outcome::Succeeded {
            return outcome;
        }
    }
    let after_gate = Job {
        gate: None,
        ..job.clone()
    };
    let steps = match tree(plan_of(&after_gate), &leaf) {
        Ok(steps) => steps,
        Err(error) => {
            build.fault(state, Outcome::Errored, &error).await;
            return Outcome::Errored;
        }
    };
    let outcome = steps.run(state).await;
    match &job.assert {
        Some(assert) => judge(build, state, outcome, assert).await,
        None => outcome,
    }
}

/// PocketCI's `assert`: with what should have run, in order, a failure on the way is as it should be.
async fn judge(build: &Build, state: &State, outcome: Outcome, assert: &Assert) -> Outcome {
    if outcome == Outcome::Aborted {
        return outcome;
    }
    let ran = lock(&build.ran).clone();
    // Checks are steps of their own here.
    let wanted = assert.execution.iter();
    let wanted: Vec<&String> = wanted.filter(|name| !name.starts_with("check-")).collect();
    if ran.iter().eq(wanted.iter().copied()) {
        return Outcome::Succeeded;
    }
    let said = format!("assertion failed: expected {wanted:?} to run, but {ran:?} did");
    build.fault(state, Outcome::Failed, &said).await;
    outcome.max(Outcome::Failed)
}
