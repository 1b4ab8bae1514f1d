//! `pocketci subscription …`.

use super::deliveries::{settled, shown};
use crate::args::{
    PingArgs, PutSubscriptionArgs, RotateArgs, Schedule, SubscriptionArg, SubscriptionCommand,
    SubscriptionsLsArgs,
};
use crate::client::{Client, user};
use crate::output::{exit, json, table};
use anyhow::Context;
use pocketci_proto::api::{
    By, Page, PutSubscription, PutSubscriptionResult, RotateSubscription, RotatedSubscription,
    Sending, Subscription,
};
use reqwest::Method;
use std::io::Read;
use std::time::Duration;
use time::format_description::well_known::Rfc3339;

pub async fn run(command: SubscriptionCommand) -> anyhow::Result<u8> {
    match command {
        SubscriptionCommand::Put(args) => put(*args).await,
        SubscriptionCommand::Get(args) => get(args).await,
        SubscriptionCommand::Ls(args) => ls(args).await,
        SubscriptionCommand::Delete(args) => delete(args).await,
        SubscriptionCommand::Enable(args) => act(args, "enable").await,
        SubscriptionCommand::Disable(args) => act(args, "disable").await,
        SubscriptionCommand::Rotate(args) => rotate(args).await,
        SubscriptionCommand::Ping(args) => ping(args).await,
    }
}

/// `""` is none.
fn or_none(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// `-` reads stdin, so that the secret is in no history.
fn secret(given: String) -> anyhow::Result<String> {
    if given != "-" {
        return Ok(given);
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read the secret from stdin")?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        anyhow::bail!("stdin holds no secret");
    }
    Ok(text.to_owned())
}

fn certificates(path: &str) -> anyhow::Result<Option<String>> {
    if path.is_empty() {
        return Ok(None);
    }
    std::fs::read_to_string(path)
        .map(Some)
        .with_context(|| format!("cannot read {path}"))
}

fn wish(args: PutSubscriptionArgs) -> anyhow::Result<PutSubscription> {
    let seconds = |waits: Vec<Duration>| waits.iter().map(Duration::as_secs_f64).collect();
    Ok(PutSubscription {
        name: args.rename,
        url: args.url,
        events: (!args.events.is_empty()).then_some(args.events),
        pipeline: args.pipeline.map(or_none),
        secret: args.secret.map(secret).transpose()?.map(or_none),
        verify_tls: args.verify_tls,
        ca_pem: args.ca.as_deref().map(certificates).transpose()?,
        headers: args
            .headers
            .into_iter()
            .map(|(name, value)| (name, or_none(value)))
            .collect(),
        filter: args.filter.map(or_none),
        concurrency: args.concurrency.map(Some),
        rate_per_second: args.rate.map(|rate| (rate != 0.0).then_some(rate)),
        schedule_seconds: args.schedule.map(|schedule| match schedule {
            Schedule::Default => None,
            Schedule::Waits(waits) => Some(seconds(waits)),
        }),
        ordered: args.ordered,
    })
}

async fn put(args: PutSubscriptionArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let (name, as_json) = (args.name.clone(), args.json);
    let wish = wish(args)?;
    let result: PutSubscriptionResult = client
        .send(Method::PUT, &["api", "subscriptions", &name], &wish)
        .await?;
    if as_json {
        json(&result)?;
        return Ok(exit::OK);
    }
    for warning in &result.warnings {
        eprintln!("warning: {warning}");
    }
    let word = if result.created { "created" } else { "changed" };
    println!("subscription {:?} {word}", result.subscription.name);
    Ok(exit::OK)
}

async fn get(args: SubscriptionArg) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let found: Subscription = client
        .get(&["api", "subscriptions", &args.name], &[])
        .await?;
    match args.json {
        true => json(&found)?,
        false => print(&found)?,
    }
    Ok(exit::OK)
}

fn print(found: &Subscription) -> anyhow::Result<()> {
    let at = |at: Option<time::OffsetDateTime>| {
        at.and_then(|at| at.format(&Rfc3339).ok())
            .unwrap_or_default()
    };
    let secrets: Vec<String> = found
        .secrets
        .iter()
        .map(|secret| match secret.not_after {
            Some(end) => format!("{} until {}", secret.id, at(Some(end))),
            None => secret.id.clone(),
        })
        .collect();
    let headers: Vec<&str> = found.headers.keys().map(String::as_str).collect();
    let rows = [
        ("id", found.id.to_string()),
        ("name", found.name.clone()),
        ("url", found.url.clone()),
        ("events", found.events.join(", ")),
        (
            "pipeline",
            found
                .pipeline_id
                .map_or_else(|| "all".to_owned(), |id| id.to_string()),
        ),
        ("filter", found.filter.clone().unwrap_or_default()),
        ("secrets", secrets.join(", ")),
        ("headers", headers.join(", ")),
        ("verify tls", found.verify_tls.to_string()),
        ("state", found.state.clone()),
        (
            "disabled",
            found.disabled_reason.clone().unwrap_or_default(),
        ),
        ("failures", found.failures.to_string()),
        ("failing since", at(found.failing_since)),
        ("last success", at(found.succeeded_at)),
        ("paused until", at(found.paused_until)),
    ];
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    table(&["", ""], &rows)
}

async fn ls(args: SubscriptionsLsArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.list.connection)?;
    let mut found: Vec<Subscription> = Vec::new();
    loop {
        let mut query: Vec<(&str, String)> = Vec::new();
        query.extend(args.pipeline.clone().map(|pipeline| ("pipeline", pipeline)));
        query.extend(found.last().map(|last| ("after", last.name.clone())));
        let page: Page<Subscription> = client.get(&["api", "subscriptions"], &query).await?;
        found.extend(page.items);
        if page.next.is_none() {
            break;
        }
    }
    if args.list.json {
        json(&found)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = found
        .into_iter()
        .map(|one| {
            vec![
                one.name,
                one.state,
                one.failures.to_string(),
                one.events.join(","),
                one.url,
            ]
        })
        .collect();
    table(&["NAME", "STATE", "FAILURES", "EVENTS", "URL"], &rows)?;
    Ok(exit::OK)
}

async fn delete(args: SubscriptionArg) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    client
        .act(Method::DELETE, &["api", "subscriptions", &args.name])
        .await?;
    match args.json {
        true => json(&serde_json::json!({ "deleted": args.name }))?,
        false => println!("subscription {:?} deleted", args.name),
    }
    Ok(exit::OK)
}

async fn act(args: SubscriptionArg, verb: &str) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let found: Subscription = client
        .send(
            Method::POST,
            &["api", "subscriptions", &args.name, verb],
            &serde_json::json!({}),
        )
        .await?;
    match args.json {
        true => json(&found)?,
        false => println!("subscription {:?} is {}", found.name, found.state),
    }
    Ok(exit::OK)
}

async fn rotate(args: RotateArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let wish = RotateSubscription {
        secret: args.secret.map(secret).transpose()?,
        overlap_seconds: Some(args.overlap.as_secs()),
        stage: args.stage,
        cut_over: args.cut_over,
    };
    let rotated: RotatedSubscription = client
        .send(
            Method::POST,
            &["api", "subscriptions", &args.name, "rotate"],
            &wish,
        )
        .await?;
    if args.json {
        json(&rotated)?;
        return Ok(exit::OK);
    }
    if let Some(secret) = &rotated.secret {
        println!("{secret}");
        eprintln!("note: it is shown this once; give it to the receiver");
    }
    let ids: Vec<&str> = rotated
        .subscription
        .secrets
        .iter()
        .map(|secret| secret.id.as_str())
        .collect();
    eprintln!("signing now, the current one first: {}", ids.join(", "));
    Ok(exit::OK)
}

async fn ping(args: PingArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let by = By {
        by: Some(args.by.unwrap_or_else(user)),
    };
    let query: Vec<(&str, String)> = args
        .event
        .into_iter()
        .map(|event| ("event", event))
        .collect();
    let sending: Sending = client
        .send_with(
            Method::POST,
            &["api", "subscriptions", &args.name, "ping"],
            &query,
            &by,
        )
        .await?;
    if args.no_wait {
        match args.json {
            true => json(&sending)?,
            false => println!("{}", sending.delivery_id),
        }
        return Ok(exit::OK);
    }
    let tried = settled(&client, sending.delivery_id).await?;
    match args.json {
        true => json(&tried)?,
        false => shown(&tried),
    }
    Ok(match tried.delivery.state.as_str() {
        "delivered" => exit::OK,
        _ => exit::FAILED,
    })
}
