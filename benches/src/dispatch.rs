//! How long a stored run waits for its JavaScript: with an empty queue, behind jobs that fit nobody, among many agents.

use crate::Report;
use crate::fleet::Fleet;
use crate::load::{Shot, answers, closed_loop};
use crate::stack::Stack;
use anyhow::Context;
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const CLOCK: &str = "export default () => { http.respond({ status: 200, body: pipelineContext.runID + ' ' + Date.now() }); };";
const SILENT: &str = "export default () => {};";
/// Requests whose time from commit to JavaScript is looked up.
const SAMPLES: usize = 300;
/// Queued jobs that fit no agent.
const UNMATCHED: i64 = 10_000;
/// Simulated agents.
const AGENTS: usize = 1_000;
/// How long idleness is watched.
const IDLE: Duration = Duration::from_secs(20);

/// One figure: median and 95th percentile of `SAMPLES` runs, one after the other.
pub async fn latency(
    report: &mut Report,
    stack: &Stack,
    clock: &Shot,
    when: &str,
) -> anyhow::Result<()> {
    let mut waits = Vec::new();
    for body in answers(clock, SAMPLES).await? {
        let text = String::from_utf8_lossy(&body).into_owned();
        let (run, at) = text
            .split_once(' ')
            .context("the clock pipeline's answer")?;
        let run = stack.get(&format!("/api/runs/{run}")).await?;
        let created = run["created_at"].as_str().context("created_at")?;
        let created = OffsetDateTime::parse(created, &Rfc3339)?;
        // JavaScript's clock has whole milliseconds, cut: half a millisecond is added back.
        waits.push(at.parse::<f64>()? + 0.5 - created.unix_timestamp_nanos() as f64 / 1e6);
    }
    waits.sort_by(f64::total_cmp);
    let [p50, p95] =
        [0.5, 0.95].map(|quantile| waits[((waits.len() - 1) as f64 * quantile) as usize]);
    report.add(
        &format!("(d) stored → JavaScript runs, ±0.5 ms, {when}"),
        format!("p50 {p50:.1} ms, p95 {p95:.1} ms"),
        json!([p50, p95]),
    );
    Ok(())
}

/// All of them.
pub async fn measure(report: &mut Report, stack: &Stack) -> anyhow::Result<()> {
    let clock = stack.pipeline("clock", CLOCK, 200).await?;
    // Held by a group and let go again: the way of whatever cannot be handed out in the transaction that stores it.
    let grouped = json!({ "concurrency": { "limit": 64 } });
    let queued = stack
        .pipeline_with("clock-queued", CLOCK, 200, &json!({ "settings": grouped }))
        .await?;
    closed_loop(&clock, 4, Duration::from_secs(1)).await?;
    latency(report, stack, &clock, "empty queue").await?;
    latency(report, stack, &queued, "empty queue, through the queue").await?;
    fill(stack).await?;
    latency(
        report,
        stack,
        &clock,
        &format!("{UNMATCHED} unmatched jobs queued"),
    )
    .await?;
    latency(
        report,
        stack,
        &queued,
        &format!("{UNMATCHED} unmatched jobs queued, through the queue"),
    )
    .await?;
    among_many(report, stack, &clock).await
}

/// Queues jobs that no agent can take.
async fn fill(stack: &Stack) -> anyhow::Result<()> {
    let more = json!({ "labels": { "rack": "none" } });
    stack.pipeline_with("unmatched", SILENT, 202, &more).await?;
    let shot = Shot {
        path: "/api/pipelines/unmatched/trigger".into(),
        body: "{}".into(),
        headers: vec![("content-type".into(), "application/json".into())],
        address: stack.address.clone(),
        status: 202,
        unique: None,
    };
    loop {
        let queue = stack.get("/api/queue").await?;
        if queue["queued"].as_i64().context("queued")? >= UNMATCHED {
            return Ok(());
        }
        closed_loop(&shot, 16, Duration::from_millis(500)).await?;
    }
}

/// A server with a thousand connected agents: what they cost while nothing happens, and whether work suffers.
async fn among_many(report: &mut Report, stack: &Stack, clock: &Shot) -> anyhow::Result<()> {
    let (before, _) = stack.memory_mib()?;
    let fleet = Fleet::connect(stack.grpc(), AGENTS).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (after, _) = stack.memory_mib()?;
    let started = stack.server_cpu()?;
    tokio::time::sleep(IDLE).await;
    let cpu = (stack.server_cpu()? - started).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    let each = (after - before) * 1024.0 / AGENTS as f64;
    report.add(
        &format!("(j) {AGENTS} agents connected and idle: server's CPU, memory each"),
        format!("{cpu:.1} % of one CPU, {each:.0} KiB"),
        json!({ "cpu_percent": cpu, "kib_each": each, "server_mib": after }),
    );
    latency(
        report,
        stack,
        clock,
        &format!("{UNMATCHED} unmatched jobs, {AGENTS} agents"),
    )
    .await?;
    fleet.still_connected()
}
