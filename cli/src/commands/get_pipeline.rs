//! `pocketci get-pipeline`: a stored pipeline's text, or its configuration as JSON.

use crate::args::GetPipelineArgs;
use crate::client::Client;
use crate::output::{exit, json};
use anyhow::Context;
use pocketci_pipeline::config::{decoded, report};

pub async fn run(args: GetPipelineArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let name = args
        .pipeline
        .or(args.named)
        .context("which pipeline? give its name")?;
    let pipeline = client.pipeline(&name).await?;
    let content = pipeline.content.unwrap_or_default();
    if !args.json {
        print!("{content}");
        return Ok(exit::OK);
    }
    if pipeline.content_type != "yaml" {
        anyhow::bail!(
            "{name:?} is a program and has no configuration; `pocketci pipeline get --json` shows what is stored of it"
        );
    }
    match decoded(&content) {
        Ok(config) => json(&config)?,
        Err(faults) => anyhow::bail!("{}", report(&name, &faults).trim_end()),
    }
    Ok(exit::OK)
}
