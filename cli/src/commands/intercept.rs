//! `pocketci intercept`: a shell, or any command, in a step that runs or in what a failed one left.

use super::jobs::run_of;
use super::runs::moment;
use crate::args::{InterceptArgs, RunOrJob};
use crate::client::Client;
use crate::output::{exit, json, table};
use crate::terminal;
use pocketci_proto::api::TerminalStep;
use std::io::{IsTerminal, Write, stderr, stdin, stdout};

pub async fn run(args: InterceptArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let run = run_of(&client, &args.target, args.build.as_deref()).await?;
    let run = run.to_string();
    let all: Vec<TerminalStep> = client.get(&["api", "runs", &run, "terminals"], &[]).await?;
    let job = match &args.target {
        RunOrJob::Job(path) => Some(path.name.as_str()),
        RunOrJob::Run(_) => None,
    };
    let fits = |step: &&TerminalStep| {
        job.is_none_or(|job| step.job == job)
            && args.attempt.is_none_or(|attempt| step.attempt == attempt)
            && args
                .step
                .as_deref()
                .is_none_or(|wanted| is_called(step, wanted))
    };
    let found: Vec<&TerminalStep> = all.iter().filter(fits).collect();
    if args.json {
        json(&found)?;
        return Ok(exit::OK);
    }
    let step = match found.as_slice() {
        [] => {
            tell_none(&all)?;
            return Ok(exit::REFUSED);
        }
        [step] => step,
        steps if stdin().is_terminal() && stderr().is_terminal() => match choose(steps)? {
            Some(step) => step,
            None => return Ok(exit::REFUSED),
        },
        steps => {
            eprintln!("several steps can be looked into; name one with -s (and -a)");
            list(steps)?;
            return Ok(exit::REFUSED);
        }
    };
    let tty = stdin().is_terminal() && stdout().is_terminal();
    terminal::talk(&client, &run, step, &args.command, tty).await
}

/// By its name or its number.
fn is_called(step: &TerminalStep, wanted: &str) -> bool {
    step.name == wanted || step.step.to_string() == wanted
}

fn tell_none(all: &[TerminalStep]) -> anyhow::Result<()> {
    if all.is_empty() {
        eprintln!(
            "error: there is nothing to look into: no step of a YAML job runs, and nothing of a failed one is kept (any more)"
        );
        return Ok(());
    }
    eprintln!("error: no such step can be looked into; these can:");
    list(&all.iter().collect::<Vec<_>>())
}

fn row(step: &TerminalStep) -> Vec<String> {
    let status = match (&step.kept_until, step.exit_code) {
        (Some(_), Some(code)) => format!("exit code {code}"),
        _ => step.status.clone(),
    };
    vec![
        step.job.clone(),
        step.attempt.to_string(),
        step.step.to_string(),
        format!("{} {}", step.kind, step.name),
        status,
        step.kept_until.map_or_else(|| "-".to_owned(), moment),
    ]
}

fn list(steps: &[&TerminalStep]) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = steps.iter().map(|step| row(step)).collect();
    table(
        &["JOB", "ATTEMPT", "STEP", "NAME", "STATUS", "KEPT UNTIL"],
        &rows,
    )
}

/// Asks until there is an answer; `None` if there is none.
fn choose<'a>(steps: &[&'a TerminalStep]) -> anyhow::Result<Option<&'a TerminalStep>> {
    for (number, step) in (1..).zip(steps) {
        let row = row(step);
        eprintln!(
            "{number}: {} #{}, {}, attempt {}, {}",
            row[3], row[2], row[0], row[1], row[4]
        );
    }
    loop {
        eprint!("which step? ");
        stderr().flush()?;
        let mut line = String::new();
        if stdin().read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let chosen = line.trim().parse::<usize>().ok();
        let chosen = chosen.and_then(|number| steps.get(number.checked_sub(1)?));
        if let Some(step) = chosen {
            return Ok(Some(step));
        }
    }
}
