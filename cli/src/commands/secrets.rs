//! `pocketci secrets …`.

use crate::args::{ListArgs, SecretArg, SecretsCommand, SecretsLsArgs, SetSecretArgs};
use crate::client::Client;
use crate::output::{exit, json, table};
use anyhow::Context;
use pocketci_proto::api::{PutSecret, RotatedSecrets, Secret};
use reqwest::Method;
use std::io::{IsTerminal, Read};
use time::format_description::well_known::Rfc3339;

/// A shorter secret cannot be masked in logs.
const MIN_MASKED_BYTES: usize = pocketci_agent::log::redact::MIN_SECRET_BYTES;

pub async fn run(command: SecretsCommand) -> anyhow::Result<u8> {
    match command {
        SecretsCommand::Set(args) => set(args).await,
        SecretsCommand::Ls(args) => ls(args).await,
        SecretsCommand::Rm(args) => rm(args).await,
        SecretsCommand::Rotate(args) => rotate(args).await,
    }
}

fn whose(pipeline: Option<&str>) -> String {
    match pipeline {
        Some(name) => format!("pipeline {name:?}"),
        None => "all pipelines".to_owned(),
    }
}

async fn set(args: SetSecretArgs) -> anyhow::Result<u8> {
    let value = match args.value {
        Some(value) => value,
        None => {
            if std::io::stdin().is_terminal() {
                eprintln!(
                    "type the secret, then Enter and Ctrl-D (it is shown as you type; a pipe shows nothing):"
                );
            }
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read the secret from stdin")?;
            // The line end belongs to the terminal or to echo.
            text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)
        }
    };
    if value.len() < MIN_MASKED_BYTES {
        eprintln!("warning: a secret of fewer than {MIN_MASKED_BYTES} bytes is not masked in logs");
    }
    let client = Client::new(&args.connection)?;
    let request = PutSecret {
        value,
        pipeline: args.pipeline.clone(),
    };
    client
        .put(&["api", "secrets", &args.name], &request)
        .await?;
    println!(
        "secret {} set for {}",
        args.name,
        whose(args.pipeline.as_deref())
    );
    Ok(exit::OK)
}

async fn ls(args: SecretsLsArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let query: Vec<(&str, String)> = args
        .pipeline
        .map(|name| ("pipeline", name))
        .into_iter()
        .collect();
    let secrets: Vec<Secret> = client.get(&["api", "secrets"], &query).await?;
    if args.json {
        json(&secrets)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = secrets
        .into_iter()
        .map(|secret| {
            vec![
                secret.name,
                secret.pipeline.unwrap_or_else(|| "(all)".to_owned()),
                secret.updated_at.format(&Rfc3339).unwrap_or_default(),
            ]
        })
        .collect();
    table(&["NAME", "PIPELINE", "SET"], &rows)?;
    Ok(exit::OK)
}

async fn rm(args: SecretArg) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let query: Vec<(&str, String)> = args
        .pipeline
        .clone()
        .map(|name| ("pipeline", name))
        .into_iter()
        .collect();
    client
        .act_with(Method::DELETE, &["api", "secrets", &args.name], &query)
        .await?;
    println!(
        "secret {} of {} removed",
        args.name,
        whose(args.pipeline.as_deref())
    );
    Ok(exit::OK)
}

async fn rotate(args: ListArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let rotated: RotatedSecrets = client
        .send(Method::POST, &["api", "secrets", "rotate"], &())
        .await?;
    if args.json {
        json(&rotated)?;
    } else {
        println!("{} secrets encrypted with the current key", rotated.rotated);
    }
    Ok(exit::OK)
}
