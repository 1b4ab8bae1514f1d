//! `pocketci receipts`, `pocketci receipt`, `pocketci replay`.

use super::runs::moment;
use crate::args::{FilterArgs, ReceiptArgs, ReceiptsArgs, ReplayArgs};
use crate::client::{Client, ClientError};
use crate::output::{exit, json, table};
use anyhow::Context;
use futures_util::StreamExt;
use pocketci_proto::api::{
    Page, Receipt, ReceiptDetails, ReceiptQuery, ReplayMany, ReplayRequest, Replayed, ReplayedMany,
};
use reqwest::Method;
use std::io::Write;
use std::path::Path;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

fn query_of(filter: FilterArgs) -> ReceiptQuery {
    ReceiptQuery {
        pipeline: filter.pipeline,
        endpoint: filter.endpoint,
        event: filter.event,
        verdict: filter.verdict,
        provider: filter.provider,
        event_type: filter.event_type,
        delivery_id: filter.delivery,
        text: filter.search,
        from: filter.since.map(|since| since.at()),
        until: filter.until.map(|until| until.at()),
        ..ReceiptQuery::default()
    }
}

/// As the parameters of a URL.
fn parameters(query: &ReceiptQuery) -> Vec<(&'static str, String)> {
    let time = |at: time::OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let all = [
        ("pipeline", query.pipeline.clone()),
        ("endpoint", query.endpoint.clone()),
        ("event", query.event.clone()),
        ("verdict", query.verdict.clone()),
        ("provider", query.provider.clone()),
        ("event_type", query.event_type.clone()),
        ("delivery_id", query.delivery_id.clone()),
        ("text", query.text.clone()),
        ("from", query.from.map(time)),
        ("until", query.until.map(time)),
        ("replay_of", query.replay_of.map(|id| id.to_string())),
        ("after", query.after.map(|id| id.to_string())),
        ("limit", query.limit.map(|limit| limit.to_string())),
    ];
    let given = all.into_iter();
    given
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

pub async fn list(args: ReceiptsArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let query = ReceiptQuery {
        replay_of: args.replay_of,
        after: args.after,
        limit: Some(args.limit),
        ..query_of(args.filter)
    };
    let page: Page<Receipt> = client
        .get(&["api", "receipts"], &parameters(&query))
        .await?;
    if args.json {
        json(&page)?;
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<String>> = page
        .items
        .iter()
        .map(|receipt| {
            let target = receipt.event.clone().or_else(|| receipt.pipeline.clone());
            let status = receipt
                .status
                .map_or("-".into(), |status| status.to_string());
            vec![
                receipt.id.to_string(),
                moment(receipt.received_at),
                target.unwrap_or_else(|| "-".into()),
                receipt.provider.clone(),
                receipt.event_type.clone(),
                receipt.verdict.clone(),
                status,
                receipt.reason.clone(),
            ]
        })
        .collect();
    table(
        &[
            "RECEIPT", "RECEIVED", "FOR", "PROVIDER", "EVENT", "VERDICT", "STATUS", "WHY",
        ],
        &rows,
    )?;
    Ok(exit::OK)
}

pub async fn show(args: ReceiptArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let id = args.receipt.to_string();
    if let Some(file) = &args.body {
        write_body(&client, &id, file).await?;
        return Ok(exit::OK);
    }
    let found: ReceiptDetails = client.get(&["api", "receipts", &id], &[]).await?;
    if args.json {
        json(&found)?;
        return Ok(exit::OK);
    }
    print(&found);
    Ok(exit::OK)
}

fn print(found: &ReceiptDetails) {
    let receipt = &found.receipt;
    let target = receipt.event.clone().or_else(|| receipt.pipeline.clone());
    println!("receipt:  {}", receipt.id);
    println!("for:      {}", target.unwrap_or_else(|| "-".into()));
    println!(
        "received: {} from {}",
        moment(receipt.received_at),
        receipt.remote_addr
    );
    println!("request:  {} {}", receipt.method, receipt.url);
    if let Some(delivery) = &receipt.delivery_id {
        let attempt = receipt
            .attempt
            .map_or(String::new(), |n| format!(", try {n}"));
        println!("delivery: {delivery}{attempt}");
    }
    println!("verdict:  {}", receipt.verdict);
    for sentence in &found.explain {
        println!("          {sentence}");
    }
    let kept = if receipt.body_kept { "" } else { ", not kept" };
    println!(
        "body:     {} bytes{kept}, sha256 {}",
        receipt.body_bytes, receipt.body_sha256
    );
    for file in &receipt.files {
        println!(
            "file:     {} {:?}, {}, {} bytes, sha256 {}",
            file.name, file.filename, file.content_type, file.size, file.sha256
        );
    }
    for (name, value) in &found.form {
        println!("field:    {name}={value}");
    }
    for (name, value) in &found.headers {
        println!("header:   {name}: {value}");
    }
    for run in &found.runs {
        let pipeline = run.pipeline.as_deref().unwrap_or("a deleted pipeline");
        let id = run
            .run_id
            .map_or("no run".to_owned(), |id| format!("run {id}"));
        println!(
            "started:  {id} of {pipeline}, {} {}",
            run.status, run.reason
        );
    }
    for replay in &found.replays {
        println!("replay:   {replay}");
    }
    if let Some(reply) = &found.reply {
        let by = if reply.by_pipeline {
            "the pipeline"
        } else {
            "the server"
        };
        let after = receipt.answered_after_ms;
        let after = after.map_or(String::new(), |ms| format!(" after {ms:.1} ms"));
        println!("answer:   {} by {by}{after}", reply.status);
        for (name, value) in &reply.headers {
            println!("          {name}: {value}");
        }
        if let Some(body) = reply.body.as_ref().or(reply.body_base64.as_ref()) {
            println!("          {body}");
        }
    }
}

async fn write_body(client: &Client, id: &str, file: &Path) -> anyhow::Result<()> {
    let response = client.download(&["api", "receipts", id, "body"]).await?;
    let mut out: Box<dyn Write> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdout().lock()),
        false => Box::new(
            std::fs::File::create(file)
                .with_context(|| format!("cannot write {}", file.display()))?,
        ),
    };
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| client.broken(&error))?;
        out.write_all(&piece)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    out.flush()?;
    Ok(())
}

pub async fn replay(args: ReplayArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let wish = args.wish.unwrap_or_else(Uuid::now_v7);
    if !args.receipts.is_empty() {
        return replay_these(&client, args, wish).await;
    }
    let filter = ReceiptQuery {
        after: args.after,
        ..query_of(args.filter)
    };
    let everything = ReceiptQuery {
        after: args.after,
        ..ReceiptQuery::default()
    };
    if filter == everything && !args.all {
        anyhow::bail!(
            "name receipts, or give a filter such as --pipeline and --since; --all takes every one"
        );
    }
    let mut many = ReplayMany {
        filter,
        dry_run: args.dry_run,
        wish: Some(wish),
    };
    let mut failed = false;
    let mut told = false;
    loop {
        let sent = client.send(Method::POST, &["api", "receipts", "replay"], &many);
        let page: ReplayedMany = sent.await.inspect_err(|_| resume(&many, wish))?;
        if !told {
            eprintln!("{} receipts", page.count);
            told = true;
        }
        for item in &page.items {
            failed |= tell(item, args.json)?;
        }
        let Some(next) = page.next else { break };
        if many.filter.after == Some(next) {
            resume(&many, wish);
            anyhow::bail!("the server takes no more for now");
        }
        many.filter.after = Some(next);
    }
    Ok(if failed { exit::FAILED } else { exit::OK })
}

/// How to go on with what was broken off.
fn resume(many: &ReplayMany, wish: Uuid) {
    if many.dry_run {
        return;
    }
    let after = many.filter.after;
    let after = after.map_or(String::new(), |after| format!(" --after {after}"));
    eprintln!("broken off; go on with the same filter and: --wish {wish}{after}");
}

async fn replay_these(client: &Client, args: ReplayArgs, wish: Uuid) -> anyhow::Result<u8> {
    let request = ReplayRequest {
        revision: args.revision,
        dry_run: args.dry_run,
        wish: Some(wish),
    };
    let mut failed = false;
    for receipt in &args.receipts {
        let id = receipt.to_string();
        let path = ["api", "receipts", &id, "replay"];
        let done: anyhow::Result<Replayed> = client.send(Method::POST, &path, &request).await;
        match done {
            Ok(item) => failed |= tell(&item, args.json)?,
            Err(error) if args.receipts.len() == 1 => return Err(error),
            Err(error) => match error.downcast_ref::<ClientError>() {
                Some(refused) if !refused.is_temporary() => {
                    eprintln!("{id}: {refused}");
                    failed = true;
                }
                _ => return Err(error),
            },
        }
    }
    Ok(if failed { exit::FAILED } else { exit::OK })
}

/// Prints what became of one; whether it could not be done again.
fn tell(item: &Replayed, as_json: bool) -> anyhow::Result<bool> {
    if as_json {
        println!("{}", serde_json::to_string(item)?);
        return Ok(item.error.is_some());
    }
    let of = item.replay_of;
    if let Some(error) = &item.error {
        println!("{of}  failed: {error}");
        return Ok(true);
    }
    if item.decisions.is_empty() {
        println!("{of}  nobody listens");
    }
    for decision in &item.decisions {
        let what = match (decision.run_id, decision.starts) {
            (Some(run), _) => format!("run {run}"),
            (None, true) => "would start".to_owned(),
            (None, false) => "nothing is started".to_owned(),
        };
        let why = match decision.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        println!("{of}  {}: {what}{why}", decision.pipeline);
    }
    Ok(false)
}
