//! `/metrics` in the text format of Prometheus (OpenMetrics).

use super::App;
use super::error::ApiError;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Upper bounds of the answer times, in seconds.
const BUCKETS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    verdict: String,
}

pub(super) struct Metrics {
    registry: Registry,
    webhooks: Family<Verdict, Counter>,
    answer_seconds: Histogram,
    queued_jobs: Gauge,
    connected_agents: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("pocketci");
        let webhooks = Family::<Verdict, Counter>::default();
        registry.register(
            "webhooks",
            "Webhook requests by what became of them",
            webhooks.clone(),
        );
        let answer_seconds = Histogram::new(BUCKETS);
        registry.register(
            "webhook_answer_seconds",
            "Time until a webhook's caller was answered",
            answer_seconds.clone(),
        );
        let queued_jobs = Gauge::default();
        registry.register(
            "queued_jobs",
            "Jobs waiting for an agent, in the whole store",
            queued_jobs.clone(),
        );
        let connected_agents = Gauge::default();
        registry.register(
            "connected_agents",
            "Agents connected to this server",
            connected_agents.clone(),
        );
        Self {
            registry,
            webhooks,
            answer_seconds,
            queued_jobs,
            connected_agents,
        }
    }

    pub(super) fn webhook(&self, verdict: &str, took: Duration) {
        let labels = Verdict {
            verdict: verdict.to_owned(),
        };
        self.webhooks.get_or_create(&labels).inc();
        self.answer_seconds.observe(took.as_secs_f64());
    }
}

#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, description = "OpenMetrics text")))]
pub(super) async fn show(State(app): State<App>) -> Result<Response, ApiError> {
    let metrics = &app.metrics;
    metrics
        .queued_jobs
        .set(app.runs.store().queued_jobs().await?);
    let connected = app.runs.dispatch().sessions().len();
    metrics
        .connected_agents
        .set(i64::try_from(connected).unwrap_or(i64::MAX));
    let mut text = String::new();
    encode(&mut text, &metrics.registry).map_err(|_| ApiError::Internal)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
