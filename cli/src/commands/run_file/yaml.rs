//! `pocketci run FILE.yml`: the jobs of a YAML pipeline one after the other, in the order in which versions pass them.
//!
//! Nobody chooses versions here: each get takes the newest at its time. Nothing is stored.

use super::{Machine, assign, driver_of, file_stem, secrets, sweep};
use crate::args::RunFileArgs;
use crate::commands::validate::PipelineFile;
use crate::output::exit;
use pocketci_agent::js::Program;
use pocketci_agent::local::LocalJob;
use pocketci_pipeline::config::vars::Vars;
use pocketci_pipeline::config::{self, Config, Job};
use pocketci_proto::agent as pb;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) async fn run(args: RunFileArgs, file: PipelineFile) -> anyhow::Result<u8> {
    let loaded = match config::load(&file.name, &file.content, &Vars::new()) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprint!("{}", config::report(&file.name, &faults));
            return Ok(exit::FAILED);
        }
    };
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let config = loaded.config;
    let jobs = match &args.job {
        None => in_order(&config),
        Some(name) => match config.job(name) {
            Some(job) => vec![job],
            None => anyhow::bail!("{} has no job {name:?}", file.name),
        },
    };
    let chosen = driver_of(&args).await;
    sweep(chosen, &args).await;
    let machine = Machine::new(&args, chosen, secrets(&args)?);
    let program = Arc::new(Program {
        file_name: file.name.clone(),
        source: file.content,
        ..Program::default()
    });
    let mut outcomes = BTreeMap::new();
    let mut worst = exit::OK;
    for (number, job) in (1..).zip(&jobs) {
        let lacking = before(&config, job).into_iter().find(|name| {
            outcomes
                .get(name)
                .is_some_and(|outcome| outcome != "succeeded")
        });
        if let Some(name) = lacking {
            eprintln!("job {}: not run, as {name} did not succeed", job.name);
            outcomes.insert(job.name.clone(), "skipped".to_owned());
            continue;
        }
        if jobs.len() > 1 {
            eprintln!("job {} ({number} of {})", job.name, jobs.len());
        }
        let assign = pb::Assign {
            job_name: job.name.clone(),
            yaml: Some(pb::YamlJob {
                build_number: "1".to_owned(),
                ..pb::YamlJob::default()
            }),
            ..assign(&file_stem(&file.name), chosen, &args, None)
        };
        let outcome = machine
            .run(LocalJob {
                program: program.clone(),
                assign,
                body: bytes::Bytes::new(),
            })
            .await;
        worst = worst.max(machine.code(&outcome));
        outcomes.insert(job.name.clone(), outcome);
        if machine.stop.is_cancelled() {
            break;
        }
    }
    // What jobs keep for each other: nobody comes after them.
    machine.workshop.clear_caches().await;
    Ok(worst)
}

/// Jobs whose versions this one takes.
fn before(config: &Config, job: &Job) -> Vec<String> {
    let inputs = job.inputs();
    let globs: Vec<String> = inputs
        .iter()
        .flat_map(|input| input.passed.clone())
        .collect();
    config.jobs_matching(&globs)
}

/// Each job after those whose versions it takes, otherwise as written. Jobs in a circle come last.
fn in_order(config: &Config) -> Vec<&Job> {
    let mut left: Vec<&Job> = config.jobs.iter().collect();
    let mut ordered: Vec<&Job> = Vec::new();
    while !left.is_empty() {
        let is_ready = |job: &&Job| {
            let mut waits_for = before(config, job).into_iter();
            waits_for.all(|name| name == job.name || ordered.iter().any(|done| done.name == name))
        };
        match left.iter().position(is_ready) {
            Some(next) => ordered.push(left.remove(next)),
            None => ordered.append(&mut left),
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_after_those_whose_versions_they_take() {
        let text = "resources: [{name: r, type: mock, source: {}}]\n\
                    jobs:\n\
                    - {name: deploy, plan: [{get: r, passed: [test, lint]}]}\n\
                    - {name: test, plan: [{get: r, passed: [build]}]}\n\
                    - {name: lint, plan: [{get: r}]}\n\
                    - {name: build, plan: [{get: r}]}\n";
        let config = config::load("p.yml", text, &Vars::new()).unwrap().config;
        let names: Vec<&str> = in_order(&config)
            .iter()
            .map(|job| job.name.as_str())
            .collect();
        assert_eq!(names, ["lint", "build", "test", "deploy"]);
        assert_eq!(
            before(&config, config.job("deploy").unwrap()),
            ["test", "lint"]
        );
    }
}
