//! Webhooks that are stored and answered with 202 at once, beside bare verification and beside single-row commits.
//!
//! Nobody executes the runs: what is measured is signature, delivery id, receipt, run and job, durable before the answer.

use crate::baseline::{bare_handler, insert_commits};
use crate::load::closed_loop;
use crate::stack::Stack;
use crate::{Report, SILENT};
use serde_json::json;
use std::time::Duration;

/// Callers at a time: few, so that commits stand alone, and many, so that they share.
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// More than any machine stores while this is measured.
const MAX_QUEUE: &str = "100000000";

/// Measures; `admin` and `storage` are databases of one PostgreSQL.
pub async fn measure(
    report: &mut Report,
    admin: &str,
    storage: &str,
    lasting: Duration,
) -> anyhow::Result<()> {
    let stack = Stack::without_agent(storage, &["--max-queue-size", MAX_QUEUE]).await?;
    let once = json!({ "settings": { "webhook": { "reply_within_ms": 0 } } });
    let plain = stack.pipeline_with("accepts", SILENT, 202, &once).await?;
    let mut numbered = plain.clone();
    numbered.unique = Some("x-github-delivery");
    let bare = bare_handler().await?;
    closed_loop(&plain, 16, Duration::from_secs(2)).await?;
    for connections in CONNECTIONS {
        let on = |what: &str| format!("(w) {what}, {connections} connections");
        let verified = closed_loop(&bare, connections, lasting).await?.rate();
        report.rate(&on("bare handler that verifies"), verified);
        let commits = insert_commits(admin, connections, lasting).await?;
        report.rate(&on("single-row INSERT commits"), commits);
        for (what, shot) in [
            ("durable signed accepts", &plain),
            ("durable signed accepts with delivery ids", &numbered),
        ] {
            let times = closed_loop(shot, connections, lasting).await?;
            let rate = times.rate();
            report.quantiles(&on(what), times);
            report.rate(&on(what), rate);
            report.ratio(&on(&format!("{what} / single-row commits")), rate / commits);
        }
    }
    Ok(())
}
