//! `pocketci queue`: what waits for an agent, and why.

use crate::args::ListArgs;
use crate::client::Client;
use crate::output::{exit, json, table};
use pocketci_proto::api::Queue;
use time::OffsetDateTime;

pub async fn run(args: ListArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let queue: Queue = client.get(&["api", "queue"], &[]).await?;
    if args.json {
        json(&queue)?;
        return Ok(exit::OK);
    }
    println!(
        "{} queued, {} running, {} slots",
        queue.queued, queue.running, queue.slots
    );
    if queue.items.is_empty() {
        return Ok(exit::OK);
    }
    let now = OffsetDateTime::now_utc();
    let rows: Vec<Vec<String>> = queue
        .items
        .into_iter()
        .map(|item| {
            vec![
                item.run_id.to_string(),
                item.pipeline,
                item.job,
                item.priority.to_string(),
                format!("{}s", (now - item.wait.since).whole_seconds().max(0)),
                item.wait.reason,
                item.wait.message,
            ]
        })
        .collect();
    table(
        &[
            "RUN",
            "PIPELINE",
            "JOB",
            "PRIORITY",
            "SINCE",
            "WAITS FOR",
            "WHY",
        ],
        &rows,
    )?;
    Ok(exit::OK)
}
