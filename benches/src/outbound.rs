//! Deliveries to subscribers: how many a second reach a sink on this machine, beside the same requests without a store,
//! and with a part of the receivers dead.

use crate::Report;
use crate::load::{Shot, closed_loop};
use crate::stack::Stack;
use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Receivers of every event.
const RECEIVERS: usize = 1000;
/// Of which so many never answer, where some are dead.
const DEAD: usize = 300;
/// Events told to all of them in one measurement.
const EVENTS: usize = 10;
/// How long all deliveries to receivers that are alive may take.
const WITHIN: Duration = Duration::from_secs(300);
/// A pipeline that ends at once.
const QUICK: &str = "export default () => {};";

/// A receiver in this process that counts.
struct Sink {
    address: String,
    taken: Arc<AtomicU64>,
}

impl Sink {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let taken: Arc<AtomicU64> = Arc::default();
        let app = Router::new().fallback(take).with_state(taken.clone());
        // Ends with the process.
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { address, taken })
    }

    fn count(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

async fn take(State(taken): State<Arc<AtomicU64>>, _body: Bytes) -> StatusCode {
    taken.fetch_add(1, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

/// Measures, first with all receivers alive, then with some dead.
pub async fn measure(report: &mut Report, storage: &str, lasting: Duration) -> anyhow::Result<()> {
    let sink = Sink::start().await?;
    let shot = Shot {
        address: sink.address.clone(),
        path: "/".into(),
        headers: vec![("content-type".into(), "application/json".into())],
        body: Bytes::from(vec![b'x'; 1000]),
        status: 204,
        unique: None,
    };
    let bare = closed_loop(&shot, 64, lasting).await?.rate();
    report.rate("(o) bare POSTs to the same sink, 64 connections", bare);
    // Connections come into the backlog and nobody ever takes them.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let dead_address = silent.local_addr()?.to_string();
    let stack = Stack::start_with(storage, &["--delivery-allow", "127.0.0.1"]).await?;
    for (what, dead) in [("all alive", 0), ("300 of 1000 dead", DEAD)] {
        let rate = deliveries(&stack, &sink, &dead_address, dead).await?;
        report.rate(&format!("(o) deliveries, 1000 receivers, {what}"), rate);
        report.ratio(&format!("(o) deliveries / bare POSTs, {what}"), rate / bare);
    }
    drop(silent);
    Ok(())
}

/// Deliveries a second to the receivers that are alive.
async fn deliveries(
    stack: &Stack,
    sink: &Sink,
    dead_address: &str,
    dead: usize,
) -> anyhow::Result<f64> {
    let id = stack
        .set(
            &format!("told-{dead}"),
            QUICK,
            &json!({ "driver": "native" }),
        )
        .await?;
    for number in 0..RECEIVERS {
        let address = if number < dead {
            dead_address
        } else {
            &sink.address
        };
        let body = json!({
            "pipeline": id, "events": ["workflow-completed"],
            "url": format!("http://{address}/{number}"), "secret": "bench-secret",
        });
        let path = format!("/api/subscriptions/receiver-{dead}-{number}");
        stack.put(&path, &body).await?;
    }
    let before = sink.count();
    let expected = ((RECEIVERS - dead) * EVENTS) as u64;
    let started = Instant::now();
    for _ in 0..EVENTS {
        let path = format!("/api/pipelines/{id}/trigger");
        stack.post(&path, &json!({})).await.context("trigger")?;
    }
    while sink.count() - before < expected {
        anyhow::ensure!(
            started.elapsed() < WITHIN,
            "{} of {expected} deliveries came",
            sink.count() - before
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(expected as f64 / started.elapsed().as_secs_f64())
}
