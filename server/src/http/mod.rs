//! The HTTP side: what a stranger can ask of the server, a file a noun.

mod agents;
mod answer;
mod auth;
mod body;
mod builds;
mod circleci;
mod deliveries;
mod endpoints;
mod error;
mod events;
mod execute;
mod extract;
mod gates;
mod health;
mod idle;
mod listen;
mod metrics;
mod openapi;
mod peers;
mod pipeforce;
mod pipelines;
mod proxy;
mod receipt_view;
mod receipts;
mod replay;
mod request_id;
mod resources;
mod runs;
mod secrets;
mod subscriptions;
mod terminals;
mod trigger;
mod view;
mod webhook;

pub use listen::serve;
pub use proxy::{Cidr, InvalidCidr};

use crate::intake::Intake;
use crate::intake::admit::{Admission, DiskBudget};
use crate::runs::Runs;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, any, delete, get, post, put};
use metrics::Metrics;
use pocketci_outside::guard::Guard;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What the HTTP side is told at start.
#[derive(Clone)]
pub struct HttpSettings {
    /// Clients of the API must present it; none means that everybody may do everything.
    pub auth_token: Option<String>,
    /// How long a webhook's caller waits for `http.respond`.
    pub webhook_timeout: Duration,
    /// Webhook requests at once.
    pub max_webhooks: usize,
    /// Bytes of webhook bodies in memory at once.
    pub max_body_bytes_in_flight: usize,
    /// Largest webhook body.
    pub max_body_bytes: usize,
    /// Bytes of webhook bodies in temporary files at once.
    pub max_spilled_bytes: u64,
    /// Proxies that are believed about who called.
    pub trusted_proxies: Vec<Cidr>,
    /// Whether terminals in steps may be opened.
    pub intercept: bool,
    /// Where deliveries of this server may go.
    pub delivery_guard: Guard,
}

/// What handlers share; clones are cheap.
#[derive(Clone)]
struct App {
    runs: Runs,
    intake: Intake,
    admission: Admission,
    disk: DiskBudget,
    metrics: Arc<Metrics>,
    /// Places for terminals.
    terminals: Arc<Semaphore>,
    settings: Arc<HttpSettings>,
}

/// Collects routes together with their paths, so that a test can hold them against the OpenAPI document.
struct Routes {
    router: Router<App>,
    paths: Vec<&'static str>,
}

impl Routes {
    fn new() -> Self {
        Self {
            router: Router::new(),
            paths: Vec::new(),
        }
    }

    fn at(mut self, path: &'static str, methods: MethodRouter<App>) -> Self {
        self.paths.push(path);
        self.router = self.router.route(path, methods);
        self
    }
}

/// Open to everybody.
fn public() -> Routes {
    Routes::new()
        .at("/api/webhooks/{id}", any(webhook::receive))
        .at("/api/webhooks/{id}/{*rest}", any(webhook::receive_below))
        .at("/e/{id}", any(webhook::custom))
        .at("/private/soc/e/{id}", any(webhook::custom_private))
        .at(
            "/api/v3/command/webhook.receive",
            get(pipeforce::receive).post(pipeforce::receive),
        )
        .at("/api/v3/result", get(pipeforce::result))
        .at(
            "/api/pipelines/{id}/resources/{resource}/check/webhook",
            post(resources::check_webhook),
        )
        .at("/healthz", get(health::alive))
        .at("/readyz", get(health::ready))
        .at("/api/openapi.json", get(openapi::document))
}

/// For those who have the token, if there is one.
fn guarded() -> Routes {
    Routes::new()
        .at("/metrics", get(metrics::show))
        .at("/api/pipelines", get(pipelines::list))
        .at(
            "/api/pipelines/{id}",
            put(pipelines::put)
                .get(pipelines::show)
                .delete(pipelines::remove),
        )
        .at("/api/pipelines/{id}/pause", post(pipelines::pause))
        .at("/api/pipelines/{id}/unpause", post(pipelines::unpause))
        .at("/api/pipelines/{id}/trigger", post(trigger::trigger))
        .at("/api/pipelines/{id}/run", post(trigger::trigger_and_follow))
        .at("/api/pipelines/{id}/jobs", get(builds::jobs))
        .at("/api/pipelines/{id}/builds", get(builds::all))
        .at("/api/pipelines/{id}/jobs/{job}/builds", get(builds::list))
        .at(
            "/api/pipelines/{id}/jobs/{job}/builds/{number}",
            get(builds::show),
        )
        .at(
            "/api/pipelines/{id}/jobs/{job}/builds/{number}/rerun",
            post(builds::rerun),
        )
        .at("/api/pipelines/{id}/resources", get(resources::list))
        .at(
            "/api/pipelines/{id}/resources/{resource}/versions",
            get(resources::versions).delete(resources::clear),
        )
        .at(
            "/api/pipelines/{id}/resources/{resource}/check",
            post(resources::check),
        )
        .at(
            "/api/pipelines/{id}/resources/{resource}/pin",
            put(resources::pin).delete(resources::unpin),
        )
        .at(
            "/api/pipelines/{id}/resources/{resource}/enable",
            post(resources::enable),
        )
        .at(
            "/api/pipelines/{id}/resources/{resource}/disable",
            post(resources::disable),
        )
        .at("/api/queue", get(runs::queue))
        .at("/api/receipts", get(receipts::list))
        .at("/api/receipts/replay", post(replay::many))
        .at("/api/receipts/{id}", get(receipts::show))
        .at("/api/receipts/{id}/body", get(receipts::body))
        .at("/api/receipts/{id}/replay", post(replay::one))
        .at("/api/runs", get(runs::list))
        .at("/api/runs/{id}", get(runs::show))
        .at("/api/runs/{id}/status", get(runs::show))
        .at("/api/runs/{id}/tasks", get(runs::steps))
        .at("/api/runs/{id}/events", get(events::events))
        .at("/api/runs/{id}/logs", get(events::logs))
        .at("/api/runs/{id}/terminals", get(terminals::list))
        .at("/api/runs/{id}/terminal", get(terminals::open))
        .at("/api/runs/{id}/stop", post(runs::stop))
        .at("/api/runs/{id}/rerun", post(trigger::rerun))
        .at("/api/runs/{id}/inputs/{name}", put(execute::put_input))
        .at("/api/runs/{id}/outputs/{name}", get(execute::get_output))
        .at("/api/execute", post(execute::execute))
        .at("/api/secrets", get(secrets::list))
        .at("/api/secrets/rotate", post(secrets::rotate))
        .at(
            "/api/secrets/{id}",
            put(secrets::put).delete(secrets::remove),
        )
        .at("/api/endpoints", get(endpoints::list))
        .at(
            "/api/endpoints/{id}",
            put(endpoints::put)
                .get(endpoints::show)
                .delete(endpoints::remove),
        )
        .at("/api/endpoints/{id}/rotate", post(endpoints::rotate))
        .at(
            "/api/endpoints/{id}/rotate-uuid",
            post(endpoints::rotate_uuid),
        )
        .at("/api/gates", get(gates::list))
        .at("/api/gates/{id}/approve", post(gates::approve))
        .at("/api/gates/{id}/reject", post(gates::reject))
        .at("/api/subscriptions", get(subscriptions::list))
        .at(
            "/api/subscriptions/{id}",
            put(subscriptions::put)
                .get(subscriptions::show)
                .delete(subscriptions::remove),
        )
        .at(
            "/api/subscriptions/{id}/enable",
            post(subscriptions::enable),
        )
        .at(
            "/api/subscriptions/{id}/disable",
            post(subscriptions::disable),
        )
        .at(
            "/api/subscriptions/{id}/rotate",
            post(subscriptions::rotate),
        )
        .at("/api/subscriptions/{id}/ping", post(subscriptions::ping))
        .at("/api/deliveries", get(deliveries::list))
        .at("/api/deliveries/replay", post(deliveries::replay))
        .at("/api/deliveries/replay/{id}", get(deliveries::show_replay))
        .at("/api/deliveries/{id}", get(deliveries::show))
        .at("/api/deliveries/{id}/resend", post(deliveries::resend))
        .at(
            "/api/v2/webhook",
            get(circleci::list).post(circleci::create),
        )
        .at(
            "/api/v2/webhook/{id}",
            get(circleci::show)
                .put(circleci::update)
                .delete(circleci::remove),
        )
        .at("/api/agents", get(agents::list))
        .at(
            "/api/agent-tokens",
            get(agents::tokens).post(agents::create_token),
        )
        .at("/api/agent-tokens/{id}", delete(agents::revoke_token))
}

/// The whole HTTP side over `runs`.
pub fn app(runs: Runs, settings: HttpSettings) -> Router {
    let app = App {
        intake: Intake::new(runs.clone(), settings.webhook_timeout),
        admission: Admission::new(settings.max_webhooks, settings.max_body_bytes_in_flight),
        disk: DiskBudget::new(settings.max_spilled_bytes),
        metrics: Arc::new(Metrics::new()),
        terminals: terminals::places(),
        settings: Arc::new(settings),
        runs,
    };
    let guarded = guarded()
        .router
        .layer(from_fn_with_state(app.clone(), auth::require_token));
    public()
        .router
        .merge(guarded)
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(from_fn(request_id::finish))
        .layer(from_fn_with_state(app.clone(), metrics::measure))
        .with_state(app)
}
