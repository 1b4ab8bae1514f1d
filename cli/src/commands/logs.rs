//! `pocketci logs`: a run's output, byte for byte, and how it ended.

use crate::args::LogsArgs;
use crate::client::Client;
use crate::output::exit;
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pocketci_proto::api::{Run, RunEvent, RunEventKind, RunStatus};
use std::io::{self, Write};

/// The one job of a JavaScript pipeline.
const PROGRAM_JOB: &str = "pipeline";

pub async fn run(args: LogsArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let id = args.run.to_string();
    if args.follow {
        return follow(&client, &id, args.json).await;
    }
    let run: Run = client.get(&["api", "runs", &id], &[]).await?;
    let mut printer = Printer::new(args.json);
    let mut after = 0;
    // Pages until the end of what is there now; `-f` would wait for more.
    loop {
        let page: Vec<RunEvent> = client
            .get(
                &["api", "runs", &id, "events"],
                &[("after", after.to_string()), ("follow", "0".into())],
            )
            .await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for event in page {
            printer.print(event)?;
        }
    }
    if !run.status.is_final() {
        eprintln!(
            "the run is {}; -f goes on until it ends",
            run.status.as_str()
        );
    }
    Ok(exit::OK)
}

/// Prints output as it comes; the exit code says whether the run succeeded.
pub async fn follow(client: &Client, run: &str, as_json: bool) -> anyhow::Result<u8> {
    let mut printer = Printer::new(as_json);
    client.follow(run, |event| printer.print(event)).await?;
    Ok(match printer.end {
        Some(RunStatus::Success | RunStatus::Skipped) => exit::OK,
        _ => exit::FAILED,
    })
}

struct Printer {
    json: bool,
    end: Option<RunStatus>,
}

impl Printer {
    fn new(json: bool) -> Self {
        Self { json, end: None }
    }

    fn print(&mut self, event: RunEvent) -> anyhow::Result<()> {
        if let RunEventKind::RunFinished { status, .. } = &event.kind {
            self.end = Some(*status);
        }
        if self.json {
            let mut out = io::stdout().lock();
            serde_json::to_writer(&mut out, &event)?;
            writeln!(out)?;
            return Ok(());
        }
        match event.kind {
            // No output, but about it.
            RunEventKind::Log {
                gap: Some(_), text, ..
            } => {
                eprint!("{}", text.unwrap_or_default());
                Ok(())
            }
            RunEventKind::Log {
                stream,
                text,
                base64,
                ..
            } => {
                let bytes = match (text, base64) {
                    (Some(text), _) => text.into_bytes(),
                    (None, Some(encoded)) => STANDARD
                        .decode(encoded)
                        .context("the server sent bad base64")?,
                    (None, None) => Vec::new(),
                };
                write_to(&stream, &bytes)
            }
            kind => {
                // A JavaScript pipeline has one job, of which nothing need be said.
                let job = event.job.filter(|job| job != PROGRAM_JOB);
                if let Some(line) = narrate(&kind) {
                    match job {
                        Some(job) => eprintln!("-- {job}: {line}"),
                        None => eprintln!("-- {line}"),
                    }
                }
                Ok(())
            }
        }
    }
}

fn write_to(stream: &str, bytes: &[u8]) -> anyhow::Result<()> {
    if stream == "stdout" {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
    } else {
        io::stderr().lock().write_all(bytes)?;
    }
    Ok(())
}

/// What happened, in a line; nothing for what the output itself shows.
fn narrate(kind: &RunEventKind) -> Option<String> {
    match kind {
        RunEventKind::Started { agent } => Some(format!("started on agent {agent}")),
        RunEventKind::Requeued { reason } => Some(format!("back in the queue: {reason}")),
        RunEventKind::Replied { status } => Some(format!("answered the caller with {status}")),
        RunEventKind::ReplyIgnored { status } => Some(format!(
            "an answer with {status} came too late: the caller had been answered"
        )),
        RunEventKind::StepStarted {
            step, name, image, ..
        } if image.is_empty() => Some(format!("step {step} {name:?}")),
        RunEventKind::StepStarted {
            step, name, image, ..
        } => Some(format!("step {step} {name:?} in {image}")),
        RunEventKind::StepFinished {
            step,
            status,
            exit_code,
            message,
            ..
        } => Some(match status.as_str() {
            "complete" => format!("step {step} ended with code {exit_code}"),
            _ if message.is_empty() => format!("step {step} {status}"),
            _ => format!("step {step} {status}: {message}"),
        }),
        RunEventKind::CancelRequested { actor, .. } => {
            Some(format!("{actor} asked to stop the run"))
        }
        RunEventKind::RunFinished {
            status,
            reason,
            message,
        } => {
            let why = [reason.as_str(), message.as_str()]
                .into_iter()
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join(": ");
            let colon = if why.is_empty() { "" } else { ": " };
            Some(format!("run {}{colon}{why}", status.as_str()))
        }
        RunEventKind::Emitted { name, payload } => Some(format!("event {name}: {payload}")),
        RunEventKind::GateOpened { gate_id, name, .. } => {
            Some(format!("waits at gate {name:?} ({gate_id})"))
        }
        RunEventKind::GateDecided {
            name, status, by, ..
        } => Some(format!("gate {name:?} {status} by {by}")),
        RunEventKind::JobFinished {
            status, message, ..
        } if *status == RunStatus::Skipped => Some(format!("skipped: {message}")),
        RunEventKind::JobFinished { .. } | RunEventKind::Log { .. } => None,
    }
}
