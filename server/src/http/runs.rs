//! Runs: list, show, stop, the steps inside.

use super::error::ApiError;
use super::extract::{ApiQuery, PathId, RawBody, by};
use super::{App, view};
use crate::model::RunId;
use crate::model::run::EventBody;
use crate::store::{RunFilter, RunView};
use axum::Json;
use axum::extract::State;
use pocketci_proto::api::{self, RunEventKind, RunStatus};
use serde::Deserialize;

/// Entries of a page unless asked otherwise.
const PAGE: i64 = 50;
/// Entries of a page at most.
const MAX_PAGE: i64 = 200;
/// Events looked through at a time for steps.
const EVENTS: i64 = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    pipeline: Option<String>,
    status: Option<String>,
    checks: Option<bool>,
    after: Option<RunId>,
    limit: Option<i64>,
}

impl App {
    /// A run by its id.
    pub(super) async fn find_run(&self, id: &str) -> Result<RunView, ApiError> {
        let unknown = || ApiError::NotFound {
            what: "run",
            name: id.to_owned(),
        };
        let id: RunId = id.parse().map_err(|_| unknown())?;
        self.runs.store().run(id).await?.ok_or_else(unknown)
    }
}

#[utoipa::path(get, path = "/api/runs", tag = "runs", params(("pipeline" = Option<String>, Query), ("status" = Option<String>, Query), ("checks" = Option<bool>, Query, description = "those that look for versions as well"), ("after" = Option<String>, Query), ("limit" = Option<i64>, Query)), responses((status = 200, body = api::Page<api::Run>)))]
pub(super) async fn list(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<api::Page<api::Run>>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let status = match &query.status {
        None => None,
        Some(text) => Some(RunStatus::parse(text).ok_or_else(|| {
            ApiError::Invalid(format!(
                "status {text:?} is not one of queued, running, success, failed, errored, aborted, skipped"
            ))
        })?),
    };
    let pipeline_id = match &query.pipeline {
        None => None,
        Some(name) => Some(app.find_pipeline(name).await?.id),
    };
    let filter = RunFilter {
        pipeline_id,
        status,
        checks: query.checks.unwrap_or(false),
        after: query.after,
        limit,
    };
    let found = app.runs.store().runs(filter).await?;
    let next = (found.len() as i64 == limit)
        .then(|| found.last().map(|last| last.run.id.to_string()))
        .flatten();
    let items = found.iter().map(|found| view::run(found, vec![])).collect();
    Ok(Json(api::Page { items, next }))
}

#[utoipa::path(get, path = "/api/runs/{id}", tag = "runs", params(("id" = String, Path)), responses((status = 200, body = api::Run), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<api::Run>, ApiError> {
    show_run(&app, &id).await
}

async fn show_run(app: &App, id: &str) -> Result<Json<api::Run>, ApiError> {
    let view = app.find_run(id).await?;
    let waits = app.runs.waits(&view).await?;
    Ok(Json(view::run(&view, waits)))
}

#[utoipa::path(get, path = "/api/queue", tag = "runs", responses((status = 200, body = api::Queue, description = "jobs that wait, and why")))]
pub(super) async fn queue(State(app): State<App>) -> Result<Json<api::Queue>, ApiError> {
    Ok(Json(app.runs.queue().await?))
}

#[utoipa::path(post, path = "/api/runs/{id}/stop", tag = "runs", params(("id" = String, Path)), request_body = api::By, responses((status = 200, body = api::Run), (status = 404)))]
pub(super) async fn stop(
    State(app): State<App>,
    PathId(id): PathId,
    RawBody(body): RawBody,
) -> Result<Json<api::Run>, ApiError> {
    let by = by(&body)?;
    let view = app.find_run(&id).await?;
    app.runs.stop(view.run.id, by).await?;
    show_run(&app, &id).await
}

#[utoipa::path(get, path = "/api/runs/{id}/tasks", tag = "runs", params(("id" = String, Path)), responses((status = 200, body = Vec<api::Step>), (status = 404)))]
pub(super) async fn steps(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<Vec<api::Step>>, ApiError> {
    let view = app.find_run(&id).await?;
    let names = view::job_names(&view);
    let mut steps: Vec<api::Step> = Vec::new();
    let mut after = 0;
    while let Some(events) = app.runs.store().events(view.run.id, after, EVENTS).await? {
        let Some(last) = events.last() else { break };
        after = last.seq;
        for event in events {
            let EventBody::Fact(fact) = event.body else {
                continue;
            };
            let job = event
                .job_id
                .and_then(|id| names.get(&id).cloned())
                .unwrap_or_default();
            let attempt = event.attempt.unwrap_or(0);
            match fact {
                RunEventKind::StepStarted {
                    step,
                    name,
                    kind,
                    image,
                } => steps.push(api::Step {
                    job,
                    attempt,
                    step,
                    name,
                    kind,
                    image: Some(image).filter(|image| !image.is_empty()),
                    status: "running".into(),
                    exit_code: None,
                    started_at: event.at,
                    finished_at: None,
                }),
                RunEventKind::StepFinished {
                    step,
                    status,
                    exit_code,
                    ..
                } => {
                    let found = steps.iter_mut().find(|known| {
                        known.job == job && known.attempt == attempt && known.step == step
                    });
                    if let Some(known) = found {
                        known.exit_code = (status == "complete").then_some(exit_code);
                        known.status = status;
                        known.finished_at = Some(event.at);
                    }
                }
                _ => {}
            }
        }
    }
    Ok(Json(steps))
}
