//! `pocketci trigger-job`, `watch`, `abort`, `rerun`, `jobs`, `builds`: jobs of YAML pipelines and their builds.

use super::logs;
use super::runs::{lasted_between, moment};
use crate::args::{
    AbortArgs, BuildsArgs, JobPath, JobsArgs, RerunArgs, RunOrJob, TriggerJobArgs, WatchArgs,
};
use crate::client::{Client, ClientError};
use crate::output::{exit, json, table};
use anyhow::bail;
use pocketci_proto::api::{Build, Page, PipelineJob, Run, TriggerRequest, Triggered};
use pocketci_proto::ids::RunId;
use reqwest::{Method, StatusCode};

pub async fn trigger(args: TriggerJobArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let request = TriggerRequest {
        jobs: vec![args.job.name.clone()],
        ..TriggerRequest::default()
    };
    let path = ["api", "pipelines", &args.job.pipeline, "trigger"];
    let triggered: Triggered = client.send(Method::POST, &path, &request).await?;
    began(&client, &triggered, args.watch, args.json).await
}

/// Says which run it is, and follows it if that is wanted.
async fn began(
    client: &Client,
    triggered: &Triggered,
    watch: bool,
    json: bool,
) -> anyhow::Result<u8> {
    let id = triggered.run_id.to_string();
    if !watch {
        match json {
            true => crate::output::json(triggered)?,
            false => println!("{id}"),
        }
        return Ok(exit::OK);
    }
    eprintln!("-- run {id}");
    logs::follow(client, &id, json).await
}

pub async fn watch(args: WatchArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let id = run_of(&client, &args.target, args.build.as_deref()).await?;
    logs::follow(&client, &id.to_string(), args.json).await
}

pub async fn abort(args: AbortArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let id = run_of(&client, &args.target, args.build.as_deref()).await?;
    let id = id.to_string();
    client
        .act_by(&["api", "runs", &id, "stop"], args.by)
        .await?;
    let run: Run = client.get(&["api", "runs", &id], &[]).await?;
    if args.json {
        json(&run)?;
    } else {
        let state = if run.status.is_final() {
            run.status.as_str()
        } else {
            "stopping"
        };
        println!("run {id} {state}");
    }
    Ok(exit::OK)
}

pub async fn rerun(args: RerunArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let nothing = serde_json::json!({});
    let triggered: Triggered = match &args.target {
        RunOrJob::Run(id) => {
            let path = ["api", "runs", &id.to_string(), "rerun"];
            client.send(Method::POST, &path, &nothing).await?
        }
        RunOrJob::Job(job) => {
            let number = match args.build {
                Some(number) => number,
                None => newest(&client, job).await?.number,
            };
            let mut path = build_path(job, &number);
            path.push("rerun");
            client.send(Method::POST, &path, &nothing).await?
        }
    };
    began(&client, &triggered, args.watch, args.json).await
}

fn build_path<'a>(job: &'a JobPath, number: &'a str) -> Vec<&'a str> {
    let job: [&str; 7] = [
        "api",
        "pipelines",
        &job.pipeline,
        "jobs",
        &job.name,
        "builds",
        number,
    ];
    job.to_vec()
}

/// The run that is meant.
pub(super) async fn run_of(
    client: &Client,
    target: &RunOrJob,
    build: Option<&str>,
) -> anyhow::Result<RunId> {
    match (target, build) {
        (RunOrJob::Run(id), None) => Ok(*id),
        (RunOrJob::Run(_), Some(_)) => bail!("-b names a build of a job: give PIPELINE/JOB"),
        (RunOrJob::Job(job), None) => Ok(newest(client, job).await?.run_id),
        (RunOrJob::Job(job), Some(number)) => {
            let build: Build = client.get(&build_path(job, number), &[]).await?;
            Ok(build.run_id)
        }
    }
}

async fn newest(client: &Client, job: &JobPath) -> anyhow::Result<Build> {
    let path = [
        "api",
        "pipelines",
        &job.pipeline,
        "jobs",
        &job.name,
        "builds",
    ];
    let page: Page<Build> = client.get(&path, &[("limit", "1".to_owned())]).await?;
    match page.items.into_iter().next() {
        Some(build) => Ok(build),
        None => bail!("job {}/{} has no builds yet", job.pipeline, job.name),
    }
}

pub async fn jobs(args: JobsArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let path = ["api", "pipelines", &args.pipeline, "jobs"];
    let jobs: Vec<PipelineJob> = client.get(&path, &[]).await?;
    if args.json {
        json(&jobs)?;
        return Ok(exit::OK);
    }
    let told = |build: Option<&Build>| {
        build.map_or_else(
            || "-".to_owned(),
            |build| format!("#{} {}", build.number, build.status.as_str()),
        )
    };
    let rows: Vec<Vec<String>> = jobs
        .iter()
        .map(|job| {
            vec![
                job.name.clone(),
                told(job.last.as_ref()),
                told(job.current.as_ref()),
            ]
        })
        .collect();
    table(&["JOB", "LAST", "NEXT"], &rows)?;
    Ok(exit::OK)
}

pub async fn builds(args: BuildsArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    if let Some(number) = &args.build {
        let Ok(job) = args.target.parse::<JobPath>() else {
            bail!("-b names a build of a job: give PIPELINE/JOB");
        };
        let build: Build = client.get(&build_path(&job, number), &[]).await?;
        return show(&build, args.json);
    }
    let query = [("limit", args.count.to_string())];
    let page = list(&client, &args.target, &query).await?;
    if args.json {
        json(&page)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = page
        .items
        .iter()
        .map(|build| {
            vec![
                format!("{}/{}", build.pipeline, build.job),
                build.number.clone(),
                build.status.as_str().to_owned(),
                build.triggered_by.clone(),
                build.run_id.to_string(),
                moment(build.created_at),
                lasted_between(build.started_at, build.finished_at),
            ]
        })
        .collect();
    table(
        &[
            "JOB", "BUILD", "STATUS", "TRIGGER", "RUN", "CREATED", "LASTED",
        ],
        &rows,
    )?;
    Ok(exit::OK)
}

/// Builds of a pipeline or of a job; an instance of a pipeline has slashes in its name too, so both are tried.
async fn list(
    client: &Client,
    target: &str,
    query: &[(&str, String)],
) -> anyhow::Result<Page<Build>> {
    let of_pipeline = ["api", "pipelines", target, "builds"];
    let Ok(job) = target.parse::<JobPath>() else {
        return client.get(&of_pipeline, query).await;
    };
    let path = [
        "api",
        "pipelines",
        &job.pipeline,
        "jobs",
        &job.name,
        "builds",
    ];
    match client.get(&path, query).await {
        Err(error) if is_unknown(&error) => {
            let instance = client.get(&of_pipeline, query).await;
            instance.map_err(|_| error)
        }
        found => found,
    }
}

fn is_unknown(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<ClientError>();
    matches!(refused, Some(ClientError::Refused { status, .. }) if *status == StatusCode::NOT_FOUND)
}

fn show(build: &Build, as_json: bool) -> anyhow::Result<u8> {
    if as_json {
        json(build)?;
        return Ok(exit::OK);
    }
    println!(
        "build:    {}/{} #{}",
        build.pipeline, build.job, build.number
    );
    println!("run:      {}", build.run_id);
    println!("status:   {}", build.status.as_str());
    println!("trigger:  {}", build.triggered_by);
    println!("created:  {}", moment(build.created_at));
    println!(
        "lasted:   {}",
        lasted_between(build.started_at, build.finished_at)
    );
    for (what, versions) in [("input:   ", &build.inputs), ("output:  ", &build.outputs)] {
        for found in versions {
            let version: Vec<String> = found
                .version
                .iter()
                .map(|(field, value)| format!("{field}: {value}"))
                .collect();
            println!("{what} {} {}", found.name, version.join(", "));
        }
    }
    if let Some(wait) = &build.wait {
        println!("waits:    {} ({})", wait.message, wait.reason);
    }
    if let Some(message) = &build.message {
        println!("message:  {message}");
    }
    Ok(exit::OK)
}
