//! Watching a run: its ordered events as SSE, its output as bytes. Any point resumes, on any server.

use super::error::ApiError;
use super::{App, view};
use crate::model::run::EventBody;
use crate::model::{JobId, RunId};
use crate::runs::Follow;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use pocketci_proto::api::{self, RunEventKind, RunStatus};
use serde::Deserialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

/// A comment is sent when nothing else was for so long, for proxies that cut silent streams.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
pub(super) struct EventsQuery {
    after: Option<i64>,
    follow: Option<u8>,
}

#[utoipa::path(get, path = "/api/runs/{id}/events", tag = "runs", params(("id" = String, Path), ("after" = Option<i64>, Query, description = "only later ones; as the header Last-Event-ID"), ("follow" = Option<u8>, Query, description = "0: a JSON list of what is there now")), responses((status = 200, description = "SSE; ids are the events' seq, names their kind", body = api::RunEvent), (status = 404)))]
pub(super) async fn events(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query?;
    let resumed = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok());
    let after = resumed.or(query.after).unwrap_or(0);
    let view = app.find_run(&id).await?;
    let names = view::job_names(&view);
    let mut follow = follow(&app, view.run.id, after).await?;
    if query.follow == Some(0) {
        let ready = follow.ready().await?.unwrap_or_default();
        let list: Vec<api::RunEvent> = ready
            .into_iter()
            .map(|event| view::event(event, &names))
            .collect();
        return Ok(Json(list).into_response());
    }
    Ok(sse(render(follow, move |event| {
        sse_event(&view::event(event, &names))
    })))
}

async fn follow(app: &App, run_id: RunId, after: i64) -> Result<Follow, ApiError> {
    let found = app.runs.follow(run_id, after).await?;
    found.ok_or_else(|| ApiError::NotFound {
        what: "run",
        name: run_id.to_string(),
    })
}

fn sse_event(event: &api::RunEvent) -> String {
    let data = serde_json::to_string(event).unwrap_or_default();
    let name = match &event.kind {
        RunEventKind::Started { .. } => "started",
        RunEventKind::Requeued { .. } => "requeued",
        RunEventKind::Replied { .. } => "replied",
        RunEventKind::ReplyIgnored { .. } => "reply_ignored",
        RunEventKind::StepStarted { .. } => "step_started",
        RunEventKind::StepFinished { .. } => "step_finished",
        RunEventKind::Log { .. } => "log",
        RunEventKind::CancelRequested { .. } => "cancel_requested",
        RunEventKind::JobFinished { .. } => "job_finished",
        RunEventKind::RunFinished { .. } => "run_finished",
    };
    format!("id: {}\nevent: {name}\ndata: {data}\n\n", event.seq)
}

type Chunk = Result<Bytes, Infallible>;

/// Renders every event until the run's last one; a store that fails ends the stream, and the client resumes.
fn render(
    follow: Follow,
    each: impl Fn(crate::model::run::Event) -> String + Send,
) -> impl Stream<Item = Chunk> + Send {
    stream::unfold((follow, each), |(mut follow, each)| async move {
        let next = tokio::time::timeout(HEARTBEAT, follow.next()).await;
        let text = match next {
            Err(_) => ": still there\n\n".to_owned(),
            Ok(Ok(Some(events))) => events.into_iter().map(&each).collect(),
            Ok(Ok(None)) => return None,
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read a run's events"
                );
                return None;
            }
        };
        Some((Ok(Bytes::from(text)), (follow, each)))
    })
}

fn sse(body: impl Stream<Item = Chunk> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[derive(Deserialize)]
pub(super) struct LogsQuery {
    follow: Option<u8>,
}

#[utoipa::path(get, path = "/api/runs/{id}/logs", tag = "runs", params(("id" = String, Path), ("follow" = Option<u8>, Query, description = "1: until the run ends")), responses((status = 200, description = "the output's bytes", body = Vec<u8>), (status = 404)))]
pub(super) async fn logs(
    State(app): State<App>,
    Path(id): Path<String>,
    query: Result<Query<LogsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query?;
    let view = app.find_run(&id).await?;
    let follow = follow(&app, view.run.id, 0).await?;
    let wait = query.follow == Some(1);
    let body = stream::unfold(follow, move |mut follow| async move {
        let next = if wait {
            follow.next().await
        } else {
            follow.ready().await
        };
        let events = match next {
            Ok(Some(events)) if !events.is_empty() => events,
            Ok(_) => return None,
            Err(error) => return Some((Err(std::io::Error::other(error)), follow)),
        };
        let mut bytes = Vec::new();
        for event in events {
            if let EventBody::Log(piece) = event.body {
                bytes.extend_from_slice(&piece.bytes);
            }
        }
        Some((Ok(Bytes::from(bytes)), follow))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

/// PocketCI's form of a followed run: output, then the exit code.
pub(super) async fn output(app: &App, run_id: RunId) -> Result<Response, ApiError> {
    let follow = follow(app, run_id, 0).await?;
    let no_names: HashMap<JobId, String> = HashMap::new();
    Ok(sse(render(follow, move |event| {
        match view::event(event, &no_names).kind {
            RunEventKind::Log {
                stream,
                text,
                base64,
                ..
            } => {
                let data = serde_json::json!({ "stream": stream, "data": text, "base64": base64 });
                format!("data: {data}\n\n")
            }
            RunEventKind::RunFinished {
                status, message, ..
            } => {
                let code = i32::from(!matches!(status, RunStatus::Success | RunStatus::Skipped));
                let data = serde_json::json!({ "event": "exit", "code": code, "run_id": run_id, "message": message });
                format!("data: {data}\n\n")
            }
            _ => String::new(),
        }
    })))
}
