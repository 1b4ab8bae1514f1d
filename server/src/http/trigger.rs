//! Starting runs by hand: trigger, trigger and follow, run again.

use super::error::ApiError;
use super::extract::{PathId, RawBody, parse, without_nul};
use super::listen::Stopping;
use super::{App, events};
use crate::intake::{IncomingRequest, simulated};
use crate::model::RunId;
use crate::model::pipeline::Pipeline;
use crate::model::receipt::Receipt;
use crate::model::run::{Trigger, TriggerKind};
use crate::runs::{MAX_TRIES, NotStarted, Refused, StartRun};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use pocketci_proto::api::{SimulatedWebhook, TriggerRequest, Triggered};
use std::sync::Arc;

/// An absent body is an empty request.
fn asked(body: &[u8]) -> Result<TriggerRequest, ApiError> {
    if body.is_empty() {
        return Ok(TriggerRequest::default());
    }
    let request: TriggerRequest = parse(body)?;
    for (what, texts) in [("args", &request.args), ("jobs", &request.jobs)] {
        for text in texts {
            without_nul(what, text)?;
        }
    }
    Ok(request)
}

#[utoipa::path(post, path = "/api/pipelines/{id}/trigger", tag = "runs", params(("id" = String, Path, description = "id or name")), request_body = TriggerRequest, responses((status = 202, body = Triggered), (status = 404), (status = 409), (status = 429)))]
pub(super) async fn trigger(
    State(app): State<App>,
    PathId(id): PathId,
    RawBody(body): RawBody,
) -> Result<(StatusCode, Json<Triggered>), ApiError> {
    let run_id = start(&app, &id, asked(&body)?).await?;
    Ok((StatusCode::ACCEPTED, Json(Triggered { run_id })))
}

#[utoipa::path(post, path = "/api/pipelines/{id}/run", tag = "runs", params(("id" = String, Path, description = "id or name")), request_body = TriggerRequest, responses((status = 200, description = "SSE: {stream, data} for output, at last {event: exit, code, run_id}"), (status = 404), (status = 409), (status = 429)))]
pub(super) async fn trigger_and_follow(
    State(app): State<App>,
    stopping: Stopping,
    PathId(id): PathId,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let run_id = start(&app, &id, asked(&body)?).await?;
    events::output(&app, run_id, stopping).await
}

async fn start(app: &App, name_or_id: &str, request: TriggerRequest) -> Result<RunId, ApiError> {
    let kind = match request.webhook {
        Some(_) => TriggerKind::Webhook,
        None => TriggerKind::Manual,
    };
    let incoming = request.webhook.map(incoming).transpose()?;
    let trigger = Trigger {
        kind,
        args: request.args,
        jobs: request.jobs,
        check: None,
        one_off: None,
        anonymous: false,
    };
    store(app, name_or_id, trigger, |pipeline| {
        incoming
            .as_ref()
            .map(|incoming| simulated(pipeline, incoming))
    })
    .await
}

/// Stores the run, deciding again while the pipeline changes.
async fn store(
    app: &App,
    name_or_id: &str,
    trigger: Trigger,
    receipt: impl Fn(&Pipeline) -> Option<Receipt>,
) -> Result<RunId, ApiError> {
    for _ in 0..MAX_TRIES {
        let pipeline: Arc<Pipeline> = app.find_pipeline(name_or_id).await?;
        if pipeline.paused {
            return Err(ApiError::Paused {
                name: pipeline.name.clone(),
            });
        }
        let start = StartRun {
            receipt: receipt(&pipeline),
            ..StartRun::new(pipeline, trigger.clone())
        };
        if let Some(settled) = app.runs.start(start).await?.settled() {
            return Ok(settled?.0);
        }
    }
    Err(ApiError::Unavailable)
}

impl From<NotStarted> for ApiError {
    fn from(why: NotStarted) -> Self {
        match why {
            NotStarted::QueueFull => Self::QueueFull,
            NotStarted::Refused(refused) => refusal(&refused),
        }
    }
}

/// Why a job cannot be run as it was asked for.
pub(super) fn refusal(refused: &Refused) -> ApiError {
    match refused {
        Refused::UnknownJob(name) => ApiError::NotFound {
            what: "job",
            name: name.clone(),
        },
        Refused::NoManualTrigger(_)
        | Refused::NoReruns(_)
        | Refused::Unreadable
        | Refused::BodyGone => ApiError::Conflict(refused.to_string()),
    }
}

fn incoming(webhook: SimulatedWebhook) -> Result<IncomingRequest, ApiError> {
    let bad = |what: &str, name: &str| {
        ApiError::Invalid(format!("webhook.{what} {name:?} is not legal in HTTP"))
    };
    let method = webhook.method.unwrap_or_else(|| "POST".into());
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("headers", name))?;
        let value = HeaderValue::from_str(value).map_err(|_| bad("headers", name))?;
        headers.append(parsed, value);
    }
    let mut url = String::from("/");
    if !webhook.query.is_empty() {
        url.push('?');
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&webhook.query);
        url.push_str(&query.finish());
    }
    Ok(IncomingRequest {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| bad("method", &method))?,
        url,
        headers,
        body: webhook.body.into(),
        remote_addr: "simulated".into(),
    })
}

#[utoipa::path(post, path = "/api/runs/{id}/rerun", tag = "runs", params(("id" = String, Path, description = "the run's id")), responses((status = 202, body = Triggered, description = "a new run with the same input, of the pipeline as it is now"), (status = 404), (status = 409)))]
pub(super) async fn rerun(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<(StatusCode, Json<Triggered>), ApiError> {
    let view = app.find_run(&id).await?;
    if view.run.trigger.one_off.is_some() {
        return Err(ApiError::Conflict(
            "the inputs of a one-off task are kept for its own run only; execute it again".into(),
        ));
    }
    if view.run.trigger.check.is_some() {
        return Err(ApiError::Conflict(
            "the run looked for versions of a resource; ask for a check instead".into(),
        ));
    }
    let mut trigger = view.run.trigger.clone();
    // Somebody wants it again, whether or not there is anything new.
    if matches!(trigger.kind, TriggerKind::Version | TriggerKind::Schedule) {
        trigger.kind = TriggerKind::Manual;
    }
    let earlier = app.receipt_for_rerun(&view.run).await?;
    let run_id = store(&app, &view.run.pipeline_id.to_string(), trigger, |_| {
        earlier
            .clone()
            .map(|receipt| receipt.of_rerun(&id, view.run.pipeline_id))
    })
    .await?;
    Ok((StatusCode::ACCEPTED, Json(Triggered { run_id })))
}
