//! `pocketci deliveries`, `delivery` and `resend`.

use crate::args::{DeliveriesArgs, DeliveryArg, ResendArgs, WhichArg};
use crate::client::Client;
use crate::output::{exit, json, table};
use pocketci_proto::api::{Delivery, DeliveryDetail, Page, Replay, ReplayDeliveries, Sending};
use pocketci_proto::ids::DeliveryId;
use reqwest::Method;
use serde_json::json as value;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

/// How long a ping is waited for: a try takes at most 10 s, and other deliveries may be before it.
const TRIED_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

fn at(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

pub async fn list(args: DeliveriesArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.list.connection)?;
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.subscription.map(|name| ("subscription", name)));
    query.extend(args.pipeline.map(|name| ("pipeline", name)));
    query.extend(args.run.map(|run| ("run", run.to_string())));
    query.extend(args.event.map(|event| ("event", event)));
    query.extend(args.state.map(|state| ("state", state)));
    query.extend(args.origin.map(|origin| ("origin", origin)));
    query.extend(args.since.map(|since| ("since", at(since))));
    query.extend(args.until.map(|until| ("until", at(until))));
    let page: Page<Delivery> = client.get(&["api", "deliveries"], &query).await?;
    if args.list.json {
        json(&page.items)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = page
        .items
        .into_iter()
        .map(|one| {
            vec![
                one.id.to_string(),
                at(one.created_at),
                one.receiver,
                one.event.unwrap_or_else(|| "webhook.send".to_owned()),
                one.origin,
                one.state,
                one.tries.to_string(),
                one.reason,
            ]
        })
        .collect();
    table(
        &[
            "ID", "AT", "RECEIVER", "EVENT", "ORIGIN", "STATE", "TRIES", "REASON",
        ],
        &rows,
    )?;
    Ok(exit::OK)
}

async fn detail(client: &Client, id: DeliveryId) -> anyhow::Result<DeliveryDetail> {
    client
        .get(&["api", "deliveries", &id.to_string()], &[])
        .await
}

pub async fn show(args: DeliveryArg) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let found = detail(&client, args.id).await?;
    if args.json {
        json(&found)?;
    } else if args.body {
        // Exactly the bytes, so that a signature can be computed over them.
        print!("{}", found.body.unwrap_or_default());
    } else {
        shown(&found);
    }
    Ok(exit::OK)
}

/// A delivery with its tries, for people.
pub(super) fn shown(found: &DeliveryDetail) {
    let one = &found.delivery;
    let event = one.event.as_deref().unwrap_or("webhook.send");
    println!("delivery   {}", one.id);
    println!("receiver   {}", one.receiver);
    println!("event      {event} {}", one.webhook_id);
    println!("origin     {}", one.origin);
    println!("state      {} {}", one.state, one.reason);
    if let Some(next) = one.next_at {
        println!("next try   {}", at(next));
    }
    for tried in &found.log {
        println!();
        let taken = tried
            .duration_ms
            .map_or_else(String::new, |ms| format!(" in {ms} ms"));
        println!(
            "try {}  {}  {}{taken}  by {}",
            tried.number,
            at(tried.began_at),
            tried.state,
            tried.sender
        );
        let request = &tried.request;
        println!("> {} {}", request.method, request.url);
        for (name, value) in &request.headers {
            println!("> {name}: {value}");
        }
        println!(
            "> {} bytes, sha256 {}",
            request.body_bytes, request.body_sha256
        );
        if !tried.error.is_empty() {
            println!("! {}", tried.error);
        }
        if let Some(response) = &tried.response {
            let peer = tried.peer.as_deref().unwrap_or("?");
            println!("< {} from {peer}", response.status);
            for (name, value) in &response.headers {
                println!("< {name}: {value}");
            }
            if !response.body.is_empty() {
                println!("{}", response.body);
            }
        }
    }
}

/// The delivery once its first try has ended, or as it is when that takes too long.
pub(super) async fn settled(client: &Client, id: DeliveryId) -> anyhow::Result<DeliveryDetail> {
    let until = Instant::now() + TRIED_WITHIN;
    loop {
        let found = detail(client, id).await?;
        let ended = found.log.iter().any(|tried| tried.state != "unknown");
        let waits = matches!(found.delivery.state.as_str(), "pending" | "sending");
        if ended || !waits || Instant::now() >= until {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub async fn resend(args: ResendArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    match (args.id, args.subscription.clone(), args.since) {
        (Some(id), _, _) => one(&client, id, args.json).await,
        (None, Some(subscription), Some(since)) => many(&client, args, subscription, since).await,
        // Not to be seen: the flags are required.
        (None, _, _) => anyhow::bail!("give a delivery's id, or --subscription and --since"),
    }
}

async fn one(client: &Client, id: DeliveryId, as_json: bool) -> anyhow::Result<u8> {
    let id = id.to_string();
    let path = ["api", "deliveries", &id, "resend"];
    let sending: Sending = client.send(Method::POST, &path, &value!({})).await?;
    match as_json {
        true => json(&sending)?,
        false => println!("{}", sending.delivery_id),
    }
    Ok(exit::OK)
}

async fn many(
    client: &Client,
    args: ResendArgs,
    subscription: String,
    since: OffsetDateTime,
) -> anyhow::Result<u8> {
    let which = match args.which {
        WhichArg::Failed => "failed",
        WhichArg::Missing => "missing",
        WhichArg::All => "all",
    };
    let request = ReplayDeliveries {
        subscription,
        which: Some(which.to_owned()),
        since,
        until: args.until,
        events: args.events,
        dry_run: args.dry_run,
    };
    let path = ["api", "deliveries", "replay"];
    let replay: Replay = client.send(Method::POST, &path, &request).await?;
    if args.json {
        json(&replay)?;
    } else if args.dry_run {
        println!("{} events would be sent again", replay.expected);
    } else {
        println!("{} events are sent again", replay.expected);
    }
    Ok(exit::OK)
}
