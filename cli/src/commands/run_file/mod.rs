//! `pocketci run FILE`: the agent's own engine and drivers, on this machine, without a server.

mod display;
mod webhook;
mod yaml;

use super::agent::{agent_config, driver};
use super::validate::{compiled, read};
use crate::args::{DriverArg, RunFileArgs, SpoolArgs, WorkArgs};
use crate::client::user;
use crate::output::exit;
use anyhow::Context;
use display::Display;
use pocketci_agent::Token;
use pocketci_agent::attempt::Workshop;
use pocketci_agent::container::docker::DockerDriver;
use pocketci_agent::container::leftovers;
use pocketci_agent::js::{Module, Program};
use pocketci_agent::local::{self, GateVerdict, Happening, LocalBackend, LocalJob};
use pocketci_agent::log::{DEFAULT_PATIENCE, DEFAULT_SPOOL_BYTES};
use pocketci_pipeline::program::ContentType;
use pocketci_proto::agent as pb;
use pocketci_proto::api::Driver as DriverName;
use pocketci_proto::ids::{JobId, RunId};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// How agents of this command are named.
const KIND: &str = "run";

pub async fn run(args: RunFileArgs) -> anyhow::Result<u8> {
    let file = read(&args.file)?;
    if file.content_type == ContentType::Yaml {
        return yaml::run(args, file).await;
    }
    let Some(compiled) = compiled(&file) else {
        return Ok(exit::FAILED);
    };
    let secrets = secrets(&args)?;
    let request = webhook::simulated(&args)?;
    let chosen = driver_of(&args).await;
    sweep(chosen, &args).await;
    let name = file_stem(&file.name);
    let (webhook, body) = match request {
        Some(request) => {
            let (webhook, body) = webhook::to_wire(request);
            (Some(webhook), body)
        }
        None => (None, bytes::Bytes::new()),
    };
    let job = LocalJob {
        assign: assign(&name, chosen, &args, webhook),
        body,
        program: Arc::new(Program {
            file_name: file.name,
            javascript: compiled.javascript,
            source_map: Some(compiled.source_map).filter(|map| !map.is_empty()),
            source: file.content,
            modules: compiled
                .modules
                .into_iter()
                .map(|module| Module {
                    name: module.name,
                    javascript: module.javascript,
                    source_map: Some(module.source_map).filter(|map| !map.is_empty()),
                    source: module.source,
                })
                .collect(),
        }),
    };
    let machine = Machine::new(&args, chosen, secrets);
    let outcome = machine.run(job).await;
    Ok(machine.code(&outcome))
}

async fn driver_of(args: &RunFileArgs) -> DriverArg {
    match args.driver {
        Some(chosen) => chosen,
        None => usual_driver(args).await,
    }
}

/// Removes what an earlier run left behind that was killed, or left by a second Ctrl-C.
async fn sweep(chosen: DriverArg, args: &RunFileArgs) {
    match chosen {
        DriverArg::Docker => {
            let engine = DockerDriver::new(args.limits.docker_host.clone());
            leftovers::remove_of_dead_processes(&engine, KIND).await;
        }
        DriverArg::Native => {
            leftovers::remove_directories();
        }
    }
}

/// This machine as agent and server of jobs, one after the other.
struct Machine {
    workshop: Arc<Workshop>,
    backend: Arc<LocalBackend>,
    display: Arc<Mutex<Display>>,
    plain: bool,
    stop: CancellationToken,
    _interrupts: AbortOnDropHandle<()>,
}

impl Machine {
    fn new(args: &RunFileArgs, chosen: DriverArg, secrets: BTreeMap<String, String>) -> Self {
        let work = WorkArgs {
            slots: Some(1),
            drivers: vec![chosen],
            limits: args.limits.clone(),
            spool: SpoolArgs {
                spool_dir: None,
                spool_max: DEFAULT_SPOOL_BYTES,
                spool_patience: DEFAULT_PATIENCE,
            },
            keep_failed: std::time::Duration::ZERO,
            drain_timeout: std::time::Duration::ZERO,
        };
        let config = agent_config(
            String::new(),
            Token::new(""),
            leftovers::process_name(KIND),
            BTreeMap::new(),
            None,
            &work,
        );
        // Each job has its own; this one shows nothing.
        let display = Arc::new(Mutex::new(Display::new(true)));
        let approve = args.approve;
        let shown = display.clone();
        let decide = move |name: &str, message: &str| ask(&shown, approve, name, message);
        let stop = CancellationToken::new();
        Self {
            workshop: Arc::new(Workshop::new(config, vec![driver(chosen, &args.limits)])),
            backend: Arc::new(LocalBackend::new(secrets, user(), Arc::new(decide))),
            display,
            plain: args.plain,
            _interrupts: AbortOnDropHandle::new(tokio::spawn(interrupts(stop.clone()))),
            stop,
        }
    }

    fn display(&self) -> MutexGuard<'_, Display> {
        self.display.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the job to its end, which is shown; its outcome.
    async fn run(&self, job: LocalJob) -> String {
        *self.display() = Display::new(self.plain);
        let (workshop, backend) = (self.workshop.clone(), self.backend.clone());
        local::run(
            workshop,
            job,
            backend,
            self.stop.clone(),
            |happening| match happening {
                Happening::Report(report) => self.display().report(report),
                Happening::Output(chunk) => self.display().output(&chunk),
            },
        )
        .await;
        let mut shown = std::mem::replace(&mut *self.display(), Display::new(true));
        shown.finish()
    }

    /// What a shell is told.
    fn code(&self, outcome: &str) -> u8 {
        match outcome {
            "succeeded" | "skipped" => exit::OK,
            "aborted" if self.stop.is_cancelled() => INTERRUPTED,
            "failed" | "aborted" => exit::FAILED,
            _ => exit::SYSTEM,
        }
    }
}

fn file_stem(name: &str) -> String {
    Path::new(name).file_stem().map_or_else(
        || name.to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

/// Docker where an engine answers.
async fn usual_driver(args: &RunFileArgs) -> DriverArg {
    if DockerDriver::new(args.limits.docker_host.clone())
        .answers()
        .await
    {
        return DriverArg::Docker;
    }
    eprintln!(
        "note: no Docker engine answers; steps run as processes on this machine (--driver native)"
    );
    DriverArg::Native
}

fn assign(
    name: &str,
    driver: DriverArg,
    args: &RunFileArgs,
    webhook: Option<pb::WebhookRequest>,
) -> pb::Assign {
    let kind = if webhook.is_some() {
        "webhook"
    } else {
        "manual"
    };
    pb::Assign {
        r#ref: Some(pb::AttemptRef {
            run_id: RunId::new().to_vec().into(),
            job_id: JobId::new().to_vec().into(),
            attempt: 1,
        }),
        pipeline_id: name.to_owned(),
        pipeline_name: name.to_owned(),
        job_name: "pipeline".to_owned(),
        driver: DriverName::from(driver).as_str().to_owned(),
        trigger: Some(pb::Trigger {
            kind: kind.to_owned(),
            args: args.args.clone(),
            jobs: Vec::new(),
            webhook,
        }),
        ..pb::Assign::default()
    }
}

/// Flags before the file, so that one can be overridden.
fn secrets(args: &RunFileArgs) -> anyhow::Result<BTreeMap<String, String>> {
    let mut secrets = BTreeMap::new();
    if let Some(file) = &args.secret_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the secrets in {}", file.display()))?;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .split_once('=')
                .with_context(|| format!("{}:{number}: NAME=VALUE is expected", file.display()))?;
            secrets.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    secrets.extend(args.secrets.iter().cloned());
    Ok(secrets)
}

/// First Ctrl-C: stop the pipeline and clean up. Second: leave now.
async fn interrupts(stop: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    eprintln!("\nstopping: steps are ended and removed; a second Ctrl-C leaves at once");
    stop.cancel();
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(i32::from(INTERRUPTED));
    }
}

/// Asks whoever sits at the terminal.
fn ask(display: &Mutex<Display>, approve: bool, name: &str, message: &str) -> GateVerdict {
    if approve {
        return GateVerdict::Approve;
    }
    if !std::io::stdin().is_terminal() {
        eprintln!("gate {name:?}: there is no terminal to ask at; --approve approves every gate");
        return GateVerdict::Reject;
    }
    display
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pause();
    let colon = if message.is_empty() { "" } else { ": " };
    eprint!("approve gate {name:?}{colon}{message}? [y/N] ");
    // A terminal that cannot be written to cannot answer either.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => GateVerdict::Approve,
        Ok(_) | Err(_) => GateVerdict::Reject,
    }
}
