//! `/metrics` in the text format of Prometheus (OpenMetrics).

use super::App;
use super::error::ApiError;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::{Duration, Instant};

/// Upper bounds of the answer times, in seconds.
const BUCKETS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    verdict: String,
}

/// Of an answered request. Every label has few values, whatever strangers ask for: a route as it is written in
/// `http`, a known method, a status' first digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    method: &'static str,
    status: &'static str,
}

impl Answered {
    fn new(route: Option<&MatchedPath>, method: &Method, status: StatusCode) -> Self {
        Self {
            route: route.map_or(NO_ROUTE, MatchedPath::as_str).to_owned(),
            method: METHODS
                .into_iter()
                .find(|known| *known == method.as_str())
                .unwrap_or(OTHER_METHOD),
            status: match status.as_u16() {
                100..200 => "1xx",
                200..300 => "2xx",
                300..400 => "3xx",
                400..500 => "4xx",
                _ => "5xx",
            },
        }
    }
}

/// `route` of paths that do not exist.
const NO_ROUTE: &str = "none";
/// Methods told apart.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
/// `method` of all others, which can have any name.
const OTHER_METHOD: &str = "other";

pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    request_seconds: Family<Answered, Histogram, fn() -> Histogram>,
    webhooks: Family<Verdict, Counter>,
    answer_seconds: Histogram,
    queued_jobs: Gauge,
    connected_agents: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("pocketci");
        let requests = Family::<Answered, Counter>::default();
        registry.register(
            "http_requests",
            "Answered requests by route, method and class of status",
            requests.clone(),
        );
        let request_seconds: Family<Answered, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "http_request_seconds",
            "Time until the head of the answer, by route, method and class of status",
            request_seconds.clone(),
        );
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
            requests,
            request_seconds,
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

/// Counts every request that is answered; one whose caller leaves before is not.
pub(super) async fn measure(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let labels = Answered::new(route.as_ref(), &method, response.status());
    let metrics = &app.metrics;
    metrics.requests.get_or_create(&labels).inc();
    let took = started.elapsed().as_secs_f64();
    metrics.request_seconds.get_or_create(&labels).observe(took);
    response
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
