//! `pocketci webhook …`: endpoints.

use crate::args::{
    ListArgs, PutWebhookArgs, RotateUuidArgs, RotateWebhookArgs, WebhookArg, WebhookCommand,
};
use crate::client::Client;
use crate::output::{exit, json, table};
use anyhow::{Context, bail};
use pocketci_proto::api::{Endpoint, EndpointKey, PutEndpoint, RotateEndpoint, SavedEndpoint};
use reqwest::Method;
use serde_json::{Map, Value};
use std::io::Read;
use time::format_description::well_known::Rfc3339;

pub async fn run(command: WebhookCommand) -> anyhow::Result<u8> {
    match command {
        WebhookCommand::Put(args) => put(*args).await,
        WebhookCommand::Get(args) => get(args).await,
        WebhookCommand::Ls(args) => ls(args).await,
        WebhookCommand::Delete(args) => delete(args).await,
        WebhookCommand::Rotate(args) => rotate(args).await,
        WebhookCommand::RotateUuid(args) => rotate_uuid(args).await,
    }
}

/// A secret as it was given; `-` is what stdin says.
fn secret(given: String) -> anyhow::Result<String> {
    if given != "-" {
        return Ok(given);
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read the secret from stdin")?;
    // The line end belongs to the terminal or to echo.
    Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
}

fn settings(args: &PutWebhookArgs) -> anyhow::Result<Option<Value>> {
    let mut settings = match &args.settings {
        None => Map::new(),
        Some(text) => match serde_json::from_str(text).context("--settings is no JSON")? {
            Value::Object(settings) => settings,
            _ => bail!("--settings must be a JSON object"),
        },
    };
    let named = [
        ("provider", &args.provider),
        ("filter", &args.filter),
        ("dedup_key", &args.dedup_key),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            settings.insert(name.to_owned(), value.clone().into());
        }
    }
    if args.no_auth {
        settings.insert("auth".to_owned(), "none".into());
    }
    Ok((!settings.is_empty()).then_some(Value::Object(settings)))
}

async fn put(args: PutWebhookArgs) -> anyhow::Result<u8> {
    let request = PutEndpoint {
        settings: settings(&args)?,
        pipeline: args.pipeline,
        event: args.event,
        // With --no-auth a secret from the environment is not meant.
        secret: match args.no_auth {
            true => None,
            false => args.secret.map(secret).transpose()?,
        },
        enabled: match (args.enable, args.disable) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        },
    };
    let client = Client::new(&args.connection)?;
    let path = ["api", "endpoints", &args.name];
    let saved: SavedEndpoint = client.send(Method::PUT, &path, &request).await?;
    tell(&args.connection.server_url, &saved, args.json)
}

fn tell(server: &str, saved: &SavedEndpoint, as_json: bool) -> anyhow::Result<u8> {
    if as_json {
        json(saved)?;
        return Ok(exit::OK);
    }
    let what = if saved.created { "created" } else { "saved" };
    println!("endpoint {} {what}", saved.endpoint.name);
    if let Some(path) = &saved.path {
        println!("url: {}{path}", server.trim_end_matches('/'));
        eprintln!(
            "note: the URL is a credential and is shown this once; `webhook rotate-uuid` makes another"
        );
    }
    Ok(exit::OK)
}

async fn get(args: WebhookArg) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let endpoint: Endpoint = client.get(&["api", "endpoints", &args.name], &[]).await?;
    if args.json {
        json(&endpoint)?;
        return Ok(exit::OK);
    }
    println!("name:     {}", endpoint.name);
    println!("id:       {}", endpoint.id);
    println!("starts:   {}", starts(&endpoint));
    println!("enabled:  {}", endpoint.enabled);
    println!("secrets:  {}", keys(&endpoint.secrets));
    println!("urls:     {}", keys(&endpoint.uuids));
    println!("settings: {}", serde_json::to_string(&endpoint.settings)?);
    Ok(exit::OK)
}

fn starts(endpoint: &Endpoint) -> String {
    match (&endpoint.event, endpoint.pipeline_id) {
        (Some(event), _) => format!("event {event}"),
        (None, Some(id)) => format!("pipeline {id}"),
        (None, None) => String::new(),
    }
}

fn keys(keys: &[EndpointKey]) -> String {
    let shown: Vec<String> = keys
        .iter()
        .map(|key| match key.not_after {
            Some(end) => format!(
                "{} (until {})",
                key.id,
                end.format(&Rfc3339).unwrap_or_default()
            ),
            None => key.id.clone(),
        })
        .collect();
    match shown.is_empty() {
        true => "none".to_owned(),
        false => shown.join(", "),
    }
}

async fn ls(args: ListArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let all: Vec<Endpoint> = client.all(&["api", "endpoints"]).await?;
    if args.json {
        json(&all)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|endpoint| {
            vec![
                endpoint.name.clone(),
                starts(endpoint),
                endpoint
                    .settings
                    .provider
                    .clone()
                    .unwrap_or_else(|| "(any)".into()),
                keys(&endpoint.secrets),
                endpoint.enabled.to_string(),
            ]
        })
        .collect();
    table(&["NAME", "STARTS", "PROVIDER", "SECRETS", "ENABLED"], &rows)?;
    Ok(exit::OK)
}

async fn delete(args: WebhookArg) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    client
        .act_with(Method::DELETE, &["api", "endpoints", &args.name], &[])
        .await?;
    println!("endpoint {} removed", args.name);
    Ok(exit::OK)
}

async fn rotate(args: RotateWebhookArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let request = RotateEndpoint {
        secret: Some(secret(args.secret)?),
        grace_seconds: Some(args.grace.as_secs()),
    };
    let path = ["api", "endpoints", &args.name, "rotate"];
    let saved: SavedEndpoint = client.send(Method::POST, &path, &request).await?;
    tell(&args.connection.server_url, &saved, args.json)
}

async fn rotate_uuid(args: RotateUuidArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let request = RotateEndpoint {
        secret: None,
        grace_seconds: Some(args.grace.as_secs()),
    };
    let path = ["api", "endpoints", &args.name, "rotate-uuid"];
    let saved: SavedEndpoint = client.send(Method::POST, &path, &request).await?;
    tell(&args.connection.server_url, &saved, args.json)
}
