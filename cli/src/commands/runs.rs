//! `pocketci runs …`.

use crate::args::{RunArg, RunsCommand, RunsLsArgs};
use crate::client::Client;
use crate::output::{exit, json, table};
use pocketci_proto::api::{Page, Run};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub async fn run(command: RunsCommand) -> anyhow::Result<u8> {
    match command {
        RunsCommand::Ls(args) => ls(args).await,
        RunsCommand::Show(args) => show(args).await,
    }
}

async fn ls(args: RunsLsArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let mut query = vec![("limit", args.limit.to_string())];
    if let Some(pipeline) = &args.pipeline {
        query.push(("pipeline", pipeline.clone()));
    }
    if args.checks {
        query.push(("checks", "true".to_owned()));
    }
    if let Some(status) = &args.status {
        query.push(("status", status.clone()));
    }
    let page: Page<Run> = client.get(&["api", "runs"], &query).await?;
    if args.json {
        json(&page)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = page
        .items
        .iter()
        .map(|run| {
            vec![
                run.id.to_string(),
                run.pipeline_name.clone(),
                run.status.as_str().to_owned(),
                run.triggered_by.clone(),
                moment(run.created_at),
                lasted(run),
            ]
        })
        .collect();
    table(
        &["RUN", "PIPELINE", "STATUS", "TRIGGER", "CREATED", "LASTED"],
        &rows,
    )?;
    Ok(exit::OK)
}

async fn show(args: RunArg) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let run: Run = client
        .get(&["api", "runs", &args.run.to_string()], &[])
        .await?;
    if args.json {
        json(&run)?;
        return Ok(exit::OK);
    }
    println!("run:      {}", run.id);
    println!("pipeline: {} ({})", run.pipeline_name, run.pipeline_id);
    println!("status:   {}", run.status.as_str());
    if let Some(reason) = run.reason.as_deref().filter(|reason| !reason.is_empty()) {
        let by = run.actor.as_deref().unwrap_or_default();
        let by = if by.is_empty() {
            String::new()
        } else {
            format!(" (by {by})")
        };
        println!("reason:   {reason}{by}");
    }
    if let Some(group) = run.group.as_deref().filter(|group| !group.is_empty()) {
        println!("group:    {group}");
    }
    println!("trigger:  {}", run.triggered_by);
    println!("created:  {}", moment(run.created_at));
    println!("lasted:   {}", lasted(&run));
    if let Some(reply) = &run.reply {
        let by = if reply.by_pipeline {
            "the pipeline"
        } else {
            "the server"
        };
        println!(
            "reply:    {} by {by}, {} bytes",
            reply.status, reply.body_bytes
        );
    }
    for job in &run.jobs {
        let agent = job.agent.as_deref().unwrap_or("no agent yet");
        println!(
            "job:      {} {}, attempt {} on {agent}",
            job.name,
            job.status.as_str(),
            job.attempt
        );
        if let Some(wait) = &job.wait {
            println!("waits:    {} ({})", wait.message, wait.reason);
        }
    }
    if let Some(message) = run.message.as_deref().filter(|message| !message.is_empty()) {
        println!("message:  {message}");
    }
    Ok(exit::OK)
}

/// To the second.
pub fn moment(at: OffsetDateTime) -> String {
    let at = at.replace_nanosecond(0).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_default()
}

fn lasted(run: &Run) -> String {
    lasted_between(run.started_at, run.finished_at)
}

/// Between two moments, as far as they have come.
pub fn lasted_between(started: Option<OffsetDateTime>, finished: Option<OffsetDateTime>) -> String {
    match (started, finished) {
        (Some(start), Some(end)) => format!("{:.1}s", (end - start).as_seconds_f64().max(0.0)),
        (Some(_), None) => "running".into(),
        (None, _) => "-".into(),
    }
}
