//! The benchmarks: our system beside named others, in the same run. Prints a table, writes JSON. Figures, no verdicts.

mod accepts;
mod baseline;
mod dispatch;
mod fleet;
mod history;
mod javascript;
mod load;
mod outbound;
mod plan;
mod stack;

use anyhow::Context;
use clap::Parser;
use load::{Shot, closed_loop, open_loop};
use serde_json::{Value, json};
use stack::Stack;
use std::time::Duration;

const ANSWER: &str = "export default async () => { http.respond({ status: 200, body: 'ok' }); };";
const SILENT: &str = "export default () => {};";
/// Jobs that wait until they are stopped.
const WAITING: &str = "export default () => new Promise((r) => setTimeout(r, 3600_000));";
const WAITING_WITH_ALL: &str = "export default () => {
  globalThis.all = [runtime, volumes, fetch, URL, TextEncoder, AbortController, crypto, assert, stage, notify, storage, webhook, yaml, performance, structuredClone];
  return new Promise((r) => setTimeout(r, 3600_000));
};";
/// A database for each system that is measured.
const DATABASES: [&str; 3] = ["bench", "bench_accepts", "bench_outbound"];
/// Jobs of one agent at once.
const CONCURRENT_JOBS: usize = 200;

/// Runs everything; PostgreSQL is taken from POCKETCI_TEST_POSTGRES (see scripts/bench.sh).
#[derive(Parser)]
struct Args {
    /// Seconds for each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Numbers of old runs to measure with, besides none
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    history: Vec<i64>,
    /// Only how long stored runs wait
    #[arg(long)]
    only_dispatch: bool,
    /// Only webhooks taken in and deliveries sent out
    #[arg(long)]
    only_webhooks: bool,
    /// Where the figures go as JSON
    #[arg(long, default_value = "bench-results.json")]
    json: String,
}

struct Report {
    rows: Vec<(String, String)>,
    figures: Value,
}

impl Report {
    fn add(&mut self, name: &str, shown: String, value: Value) {
        println!("{name:58} {shown}");
        self.rows.push((name.to_owned(), shown));
        self.figures[name] = value;
    }

    fn ratio(&mut self, name: &str, ratio: f64) {
        self.add(name, format!("{ratio:10.2} ×"), json!(ratio));
    }

    fn rate(&mut self, name: &str, rate: f64) {
        self.add(name, format!("{rate:10.0} /s"), json!(rate));
    }

    fn write(&self, path: &str) -> anyhow::Result<()> {
        std::fs::write(path, serde_json::to_string_pretty(&self.figures)?)?;
        println!("\n{} figures are in {path}", self.rows.len());
        Ok(())
    }

    fn quantiles(&mut self, name: &str, mut times: load::Times) {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|quantile| times.quantile_ms(quantile));
        let shown = format!("p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms");
        self.add(
            name,
            shown,
            json!({ "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "rate": times.rate() }),
        );
    }
}

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(Args::parse()))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let admin = std::env::var("POCKETCI_TEST_POSTGRES")
        .context("run `make bench`, which starts PostgreSQL")?;
    let (base, _) = admin.rsplit_once('/').context("a URL with a database")?;
    let (client, connection) = tokio_postgres::connect(&admin, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    for name in DATABASES {
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await?;
    }
    let [storage, accepted, outbound] = DATABASES.map(|name| format!("{base}/{name}"));
    let lasting = Duration::from_secs(args.seconds);
    let mut report = Report {
        rows: Vec::new(),
        figures: json!({ "cpus": std::thread::available_parallelism()?.get() }),
    };

    if args.only_dispatch {
        let stack = Stack::start(&storage).await?;
        dispatch::measure(&mut report, &stack).await?;
        return report.write(&args.json);
    }
    accepts::measure(&mut report, &admin, &accepted, lasting).await?;
    outbound::measure(&mut report, &outbound, lasting).await?;
    if args.only_webhooks {
        return report.write(&args.json);
    }
    let step_us = plan::step_us().await?;
    report.add(
        "(y) a step of a YAML plan of 500, beside its container",
        format!("{step_us:.1} µs"),
        json!(step_us),
    );
    for start in javascript::start().await? {
        let stages: Vec<String> = start
            .stages
            .iter()
            .map(|(stage, us)| format!("{stage} {us:.0}"))
            .collect();
        report.add(
            &format!("(g) JavaScript start, {}", start.name),
            format!("{:.0} µs = {}", start.total_us, stages.join(" + ")),
            json!({ "total_us": start.total_us, "stages_us": start.stages }),
        );
    }

    let stack = Stack::start(&storage).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (server, agent) = stack.memory_mib()?;
    report.add(
        "idle memory: server, agent",
        format!("{server:.1} MiB, {agent:.1} MiB"),
        json!([server, agent]),
    );

    let answered = stack.pipeline("answered", ANSWER, 200).await?;
    closed_loop(&answered, 16, Duration::from_secs(2)).await?;
    compare(&mut report, &admin, &answered, lasting).await?;
    ours(&mut report, &stack, &answered, lasting).await?;
    dispatch::measure(&mut report, &stack).await?;
    let (server, agent) = stack.memory_mib()?;
    report.add(
        "memory after the load: server, agent",
        format!("{server:.1} MiB, {agent:.1} MiB"),
        json!([server, agent]),
    );

    for (what, content) in [
        ("least", WAITING),
        ("looking at every global", WAITING_WITH_ALL),
    ] {
        let agent = stack
            .agent_memory_with(what, content, CONCURRENT_JOBS)
            .await?;
        report.add(
            &format!("(h) agent's memory with {CONCURRENT_JOBS} jobs under way, {what}"),
            format!("{agent:.1} MiB"),
            json!(agent),
        );
    }

    let mut stored = 0;
    for wanted in args.history {
        history::add_runs(&storage, wanted - stored).await?;
        stored = wanted;
        // Until the checkpoint and the statistics of so many new rows are over.
        closed_loop(&answered, 16, lasting.max(Duration::from_secs(4))).await?;
        let times = closed_loop(&answered, 16, lasting).await?;
        report.rate(
            &format!("(f) answered by JavaScript, 16 connections, {wanted} old runs"),
            times.rate(),
        );
    }
    report.write(&args.json)
}

/// (c): what is measured beside us.
async fn compare(
    report: &mut Report,
    admin: &str,
    answered: &Shot,
    lasting: Duration,
) -> anyhow::Result<()> {
    let bare = baseline::bare_handler().await?;
    report.rate(
        "(c) bare handler that verifies, 16 connections",
        closed_loop(&bare, 16, lasting).await?.rate(),
    );
    report.rate(
        "(c) single-row INSERT commits, 16 connections",
        baseline::insert_commits(admin, 16, lasting).await?,
    );
    let ours = closed_loop(answered, 16, lasting).await?.rate();
    report.rate("(a) answered by JavaScript, 16 connections", ours);
    match baseline::DebianWebhook::start().await? {
        Some(webhook) => {
            let theirs = closed_loop(&webhook.shot, 16, lasting).await?.rate();
            report.rate("(c) Debian's webhook, /bin/echo, 16 connections", theirs);
            report.ratio("(a) ours / Debian's webhook", ours / theirs);
        }
        None => println!("Debian's webhook is not installed: not measured"),
    }
    Ok(())
}

/// (a), (b), (d): our own figures.
async fn ours(
    report: &mut Report,
    stack: &Stack,
    answered: &Shot,
    lasting: Duration,
) -> anyhow::Result<()> {
    report.quantiles(
        "(a) answered by JavaScript, 1 connection",
        closed_loop(answered, 1, lasting).await?,
    );
    let peak = closed_loop(answered, 64, lasting).await?.rate();
    report.rate("(a) answered by JavaScript, 64 connections", peak);
    let half = open_loop(answered, peak / 2.0, 64, lasting).await?;
    report.quantiles(
        &format!("(a) at half of peak ({:.0} /s, open loop)", peak / 2.0),
        half,
    );
    let silent = stack.pipeline("silent", SILENT, 202).await?;
    report.rate(
        "(b) accepted with 202 (the run ends unanswered), 16 connections",
        closed_loop(&silent, 16, lasting).await?.rate(),
    );
    Ok(())
}
