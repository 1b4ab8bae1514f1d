//! Watching a run: its ordered events as SSE, its output as bytes. Any point resumes, on any server.

use super::error::ApiError;
use super::extract::{ApiQuery, PathId};
use super::listen::Stopping;
use super::{App, view};
use crate::model::run::EventBody;
use crate::model::{JobId, RunId};
use crate::runs::Follow;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
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

/// Where a client was when its stream broke.
const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Deserialize)]
pub(super) struct EventsQuery {
    after: Option<i64>,
    follow: Option<u8>,
}

#[utoipa::path(get, path = "/api/runs/{id}/events", tag = "runs", params(("id" = String, Path), ("after" = Option<i64>, Query, description = "only later ones; as the header Last-Event-ID"), ("follow" = Option<u8>, Query, description = "0: a JSON list of what is there now")), responses((status = 200, description = "SSE; ids are the events' seq, names their kind", body = api::RunEvent), (status = 400, description = "the run has not come to Last-Event-ID or after"), (status = 404)))]
pub(super) async fn events(
    State(app): State<App>,
    PathId(id): PathId,
    stopping: Stopping,
    headers: HeaderMap,
    ApiQuery(query): ApiQuery<EventsQuery>,
) -> Result<Response, ApiError> {
    let view = app.find_run(&id).await?;
    let after = resume_after(&headers, query.after, view.run.event_seq)?;
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
    Ok(sse(render(follow, stopping, move |event| {
        sse_event(&view::event(event, &names))
    })))
}

/// The event after which to go on; `newest` is the run's newest. A place that the run has not come to would never be
/// reached if the run ends before it.
fn resume_after(headers: &HeaderMap, asked: Option<i64>, newest: i64) -> Result<i64, ApiError> {
    let resumed = headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes);
    let (name, given) = match resumed.map(String::from_utf8_lossy) {
        Some(text) if !text.trim().is_empty() => (LAST_EVENT_ID, text.trim().to_owned()),
        _ => ("after", asked.unwrap_or(0).to_string()),
    };
    match given.parse() {
        Ok(after) if (0..=newest).contains(&after) => Ok(after),
        _ => Err(ApiError::Invalid(format!(
            "{name} {given:?} is not a place in this run: use 0 for the beginning, or an event's id, which go to {newest} so far"
        ))),
    }
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
        RunEventKind::Emitted { .. } => "emitted",
        RunEventKind::GateOpened { .. } => "gate_opened",
        RunEventKind::GateDecided { .. } => "gate_decided",
        RunEventKind::Log { .. } => "log",
        RunEventKind::CancelRequested { .. } => "cancel_requested",
        RunEventKind::JobFinished { .. } => "job_finished",
        RunEventKind::RunFinished { .. } => "run_finished",
    };
    format!("id: {}\nevent: {name}\ndata: {data}\n\n", event.seq)
}

type Chunk = Result<Bytes, Infallible>;

/// Renders every event until the run's last one; a store that fails or a server that stops ends the stream, and the
/// client resumes.
fn render(
    follow: Follow,
    stopping: Stopping,
    each: impl Fn(crate::model::run::Event) -> String + Send,
) -> impl Stream<Item = Chunk> + Send {
    let begin = (follow, stopping, each);
    stream::unfold(begin, |(mut follow, stopping, each)| async move {
        let next = tokio::select! {
            next = tokio::time::timeout(HEARTBEAT, follow.next()) => next,
            () = stopping.begun() => return None,
        };
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
        Some((Ok(Bytes::from(text)), (follow, stopping, each)))
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
    PathId(id): PathId,
    stopping: Stopping,
    ApiQuery(query): ApiQuery<LogsQuery>,
) -> Result<Response, ApiError> {
    let view = app.find_run(&id).await?;
    let follow = follow(&app, view.run.id, 0).await?;
    let wait = query.follow == Some(1);
    let body = stream::unfold(
        (follow, stopping),
        move |(mut follow, stopping)| async move {
            let next = tokio::select! {
                next = async { if wait { follow.next().await } else { follow.ready().await } } => next,
                () = stopping.begun() => {
                    // Broken off, so that nobody takes it for all of the output.
                    let cut = std::io::Error::other("the server stops");
                    return Some((Err(cut), (follow, stopping)));
                }
            };
            let events = match next {
                Ok(Some(events)) if !events.is_empty() => events,
                Ok(_) => return None,
                Err(error) => return Some((Err(std::io::Error::other(error)), (follow, stopping))),
            };
            let mut bytes = Vec::new();
            for event in events {
                if let EventBody::Log(piece) = event.body {
                    bytes.extend_from_slice(&piece.shown().0);
                }
            }
            Some((Ok(Bytes::from(bytes)), (follow, stopping)))
        },
    );
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

/// PocketCI's form of a followed run: output, then the exit code.
pub(super) async fn output(
    app: &App,
    run_id: RunId,
    stopping: Stopping,
) -> Result<Response, ApiError> {
    let follow = follow(app, run_id, 0).await?;
    let no_names: HashMap<JobId, String> = HashMap::new();
    Ok(sse(render(
        follow,
        stopping,
        move |event| match view::event(event, &no_names).kind {
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
        },
    )))
}
