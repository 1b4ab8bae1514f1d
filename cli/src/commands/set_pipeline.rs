//! `pocketci set-pipeline`: checks the file here, stores it there, says what changed.

use super::validate::{check, read};
use crate::args::SetPipelineArgs;
use crate::client::Client;
use crate::output::{exit, json};
use anyhow::Context;
use pocketci_proto::api::{PutPipeline, PutPipelineResult};
use reqwest::Method;
use std::path::Path;

pub async fn run(args: SetPipelineArgs) -> anyhow::Result<u8> {
    let file = read(&args.file)?;
    let name = match args.name {
        Some(name) => name,
        None if args.file == Path::new("-") => {
            anyhow::bail!("a pipeline from stdin needs a --name")
        }
        None => args
            .file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .context("the file's name is not text; give a --name")?
            .to_owned(),
    };
    if !check(&file) {
        return Ok(exit::FAILED);
    }
    let client = Client::new(&args.connection)?;
    let (webhook_secret, webhook_secrets) = match args.webhook_secrets.as_slice() {
        [] => (None, None),
        [one] => (Some(one.clone()), None),
        several => (None, Some(several.to_vec())),
    };
    let request = PutPipeline {
        content: file.content,
        content_type: Some(file.content_type.as_str().to_owned()),
        file_name: Some(file.name),
        modules: file.modules,
        driver: args.driver.map(Into::into),
        webhook_secret,
        webhook_secrets,
        settings: args.settings.patch(),
        labels: (!args.labels.is_empty()).then(|| args.labels.into_iter().collect()),
    };
    let result: PutPipelineResult = client
        .send(Method::PUT, &["api", "pipelines", &name], &request)
        .await?;
    if args.json {
        json(&result)?;
    } else {
        say(&client, &result);
    }
    Ok(exit::OK)
}

fn say(client: &Client, result: &PutPipelineResult) {
    let pipeline = &result.pipeline;
    let what = match (result.created, result.changed.as_slice()) {
        (true, _) => "created".to_owned(),
        (false, []) => "unchanged".to_owned(),
        (false, changed) => format!("updated ({})", changed.join(", ")),
    };
    let id = pipeline.id.to_string();
    println!(
        "pipeline {:?} {what}, revision {}",
        pipeline.name, pipeline.revision
    );
    println!("id:      {id}");
    println!("webhook: {}", client.url(&["api", "webhooks", &id]));
    if pipeline.webhook_secrets == 0 {
        eprintln!(
            "note: no webhook secret: anyone who knows the URL may trigger it (--webhook-secret)"
        );
    }
}
