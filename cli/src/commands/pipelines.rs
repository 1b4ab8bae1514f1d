//! `pocketci pipeline …`.

use super::{logs, set_pipeline};
use crate::args::{
    ListArgs, PauseArgs, PipelineArg, PipelineCommand, PipelineRunArgs, TriggerArgs,
};
use crate::client::Client;
use crate::output::{exit, json, table};
use pocketci_proto::api::{Pipeline, SimulatedWebhook, TriggerRequest, Triggered};
use reqwest::Method;

pub async fn run(command: PipelineCommand) -> anyhow::Result<u8> {
    match command {
        PipelineCommand::Set(args) => set_pipeline::run(*args).await,
        PipelineCommand::Ls(args) => ls(args).await,
        PipelineCommand::Get(args) => get(args).await,
        PipelineCommand::Rm(args) => act(args, Method::DELETE, None, "removed").await,
        PipelineCommand::Pause(args) => pause(args).await,
        PipelineCommand::Unpause(args) => {
            act(args, Method::POST, Some("unpause"), "unpaused").await
        }
        PipelineCommand::Trigger(args) => trigger(args).await,
        PipelineCommand::Run(args) => run_and_follow(args).await,
    }
}

async fn ls(args: ListArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let all: Vec<Pipeline> = client.all(&["api", "pipelines"]).await?;
    if args.json {
        json(&all)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = all
        .into_iter()
        .map(|pipeline| {
            vec![
                pipeline.name,
                pipeline.id.to_string(),
                pipeline.revision.to_string(),
                pipeline
                    .driver
                    .map_or("-", |driver| driver.as_str())
                    .to_owned(),
                if pipeline.paused { "paused" } else { "active" }.to_owned(),
                client
                    .url(&["api", "webhooks", &pipeline.id.to_string()])
                    .to_string(),
            ]
        })
        .collect();
    table(
        &["NAME", "ID", "REVISION", "DRIVER", "STATE", "WEBHOOK"],
        &rows,
    )?;
    Ok(exit::OK)
}

async fn get(args: PipelineArg) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let pipeline = client.pipeline(&args.pipeline).await?;
    if args.json {
        json(&pipeline)?;
    } else {
        print!("{}", pipeline.content.unwrap_or_default());
    }
    Ok(exit::OK)
}

async fn pause(args: PauseArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let pipeline = client.pipeline(&args.pipeline).await?;
    let id = pipeline.id.to_string();
    client
        .act_by(&["api", "pipelines", &id, "pause"], args.by)
        .await?;
    done(args.json, &pipeline, "paused")
}

fn done(as_json: bool, pipeline: &Pipeline, result: &str) -> anyhow::Result<u8> {
    if as_json {
        let id = pipeline.id.to_string();
        json(&serde_json::json!({ "id": id, "name": pipeline.name, "result": result }))?;
    } else {
        println!("pipeline {:?} {result}", pipeline.name);
    }
    Ok(exit::OK)
}

async fn act(
    args: PipelineArg,
    method: Method,
    verb: Option<&str>,
    result: &str,
) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let pipeline = client.pipeline(&args.pipeline).await?;
    let id = pipeline.id.to_string();
    let mut path = vec!["api", "pipelines", id.as_str()];
    path.extend(verb);
    client.act(method, &path).await?;
    done(args.json, &pipeline, result)
}

async fn trigger(args: TriggerArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let simulate = args.webhook_body.is_some()
        || args.webhook_method.is_some()
        || !args.webhook_headers.is_empty();
    let request = TriggerRequest {
        args: args.args,
        jobs: Vec::new(),
        webhook: simulate.then(|| SimulatedWebhook {
            method: args.webhook_method,
            headers: args.webhook_headers.into_iter().collect(),
            body: args.webhook_body.unwrap_or_default(),
            query: Default::default(),
        }),
    };
    let triggered = start(&client, &args.pipeline, &request).await?;
    if args.json {
        json(&triggered)?;
    } else {
        println!("{}", triggered.run_id);
    }
    Ok(exit::OK)
}

async fn start(
    client: &Client,
    pipeline: &str,
    request: &TriggerRequest,
) -> anyhow::Result<Triggered> {
    client
        .send(
            Method::POST,
            &["api", "pipelines", pipeline, "trigger"],
            request,
        )
        .await
}

async fn run_and_follow(args: PipelineRunArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let request = TriggerRequest {
        args: args.args,
        ..TriggerRequest::default()
    };
    let triggered = start(&client, &args.pipeline, &request).await?;
    eprintln!("run {}", triggered.run_id);
    logs::follow(&client, &triggered.run_id.to_string(), false).await
}
