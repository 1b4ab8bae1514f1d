//! `pocketci set-pipeline`: checks the file here, shows what changes, stores it there, says what changed.

use super::configuration;
use super::validate::{PipelineFile, compiled, read};
use crate::args::SetPipelineArgs;
use crate::client::{Client, ClientError};
use crate::output::{exit, json};
use anyhow::Context;
use pocketci_pipeline::config::{Config, Strictness, decoded, diff, format};
use pocketci_pipeline::program::ContentType;
use pocketci_proto::api::{Pipeline, PutPipeline, PutPipelineResult};
use reqwest::{Method, StatusCode};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

pub async fn run(args: SetPipelineArgs) -> anyhow::Result<u8> {
    let path = args
        .file
        .clone()
        .or_else(|| args.config.clone())
        .context("which file? give it as an argument or with --config")?;
    let file = read(&path)?;
    let name = name(&args, &path)?;
    let client = Client::new(&args.connection)?;
    let content = match file.content_type {
        ContentType::Yaml => match configured(&args, &file, &client, &name).await? {
            Agreed::Store(content) => content,
            Agreed::Invalid => return Ok(exit::FAILED),
            Agreed::No => {
                eprintln!("nothing was changed");
                return Ok(exit::OK);
            }
        },
        ContentType::Ts | ContentType::Js => {
            if compiled(&file).is_none() {
                return Ok(exit::FAILED);
            }
            file.content
        }
    };
    let (webhook_secret, webhook_secrets) = match args.webhook_secrets.as_slice() {
        [] => (None, None),
        [one] => (Some(one.clone()), None),
        several => (None, Some(several.to_vec())),
    };
    let request = PutPipeline {
        content,
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

fn name(args: &SetPipelineArgs, path: &Path) -> anyhow::Result<String> {
    let given = args.name.clone().flatten();
    match given.or_else(|| args.pipeline.clone()) {
        Some(name) => Ok(name),
        None if path == Path::new("-") => {
            anyhow::bail!("a pipeline from stdin needs a --name")
        }
        None => Ok(PathBuf::from(path)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .context("the file's name is not text; give a --name")?
            .to_owned()),
    }
}

/// What is to be done with a YAML pipeline.
enum Agreed {
    /// Store this text.
    Store(String),
    /// It has faults, which were printed.
    Invalid,
    /// The user does not want it.
    No,
}

/// Checks a YAML pipeline, shows what it changes and, on a terminal, asks.
async fn configured(
    args: &SetPipelineArgs,
    file: &PipelineFile,
    client: &Client,
    name: &str,
) -> anyhow::Result<Agreed> {
    let vars = configuration::vars(&args.vars)?;
    let Some(config) = configuration::loaded(file, &vars, Strictness::Server) else {
        return Ok(Agreed::Invalid);
    };
    // With vars, what is stored is not what the file says.
    let content = if vars.is_empty() {
        file.content.clone()
    } else {
        format::format(&config)
    };
    let changes = diff::diff(&stored(client, name).await?, &config);
    if changes.is_empty() {
        eprintln!("no changes to apply");
        return Ok(Agreed::Store(content));
    }
    let on_terminal = std::io::stderr().is_terminal();
    let coloured = on_terminal && std::env::var_os("NO_COLOR").is_none();
    eprint!("{}", diff::render(&changes, coloured));
    let silent = args.non_interactive || args.name == Some(None) || args.json;
    // Stdin may be the file.
    if silent || !on_terminal || !std::io::stdin().is_terminal() || asked()? {
        Ok(Agreed::Store(content))
    } else {
        Ok(Agreed::No)
    }
}

/// The stored configuration; an empty one if there is none, or none that can be read.
async fn stored(client: &Client, name: &str) -> anyhow::Result<Config> {
    let pipeline: Pipeline = match client.pipeline(name).await {
        Ok(pipeline) => pipeline,
        Err(error) => match error.downcast_ref::<ClientError>() {
            Some(ClientError::Refused { status, .. }) if *status == StatusCode::NOT_FOUND => {
                return Ok(Config::default());
            }
            _ => return Err(error),
        },
    };
    if pipeline.content_type != "yaml" {
        eprintln!("note: {name:?} is a program now; the configuration takes its place");
        return Ok(Config::default());
    }
    Ok(decoded(&pipeline.content.unwrap_or_default()).unwrap_or_default())
}

fn asked() -> anyhow::Result<bool> {
    eprint!("apply configuration? [yN]: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
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
