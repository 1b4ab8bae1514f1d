//! `ANY /api/webhooks/{id}`: the webhook, answered by the pipeline (seed 000).

use super::App;
use super::body;
use super::error::ApiError;
use super::extract::PathId;
use super::listen::Peer;
use crate::intake::{IncomingRequest, Received};
use crate::model::PipelineId;
use crate::model::run::{Reply, header_value};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::Response;
use pocketci_pipeline::multipart::Fault;
use std::time::Instant;

#[utoipa::path(
    post, path = "/api/webhooks/{id}", tag = "webhooks",
    description = "Any method. The pipeline's own answer, or 202 with the run's id.",
    params(("id" = String, Path, description = "the pipeline's id")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 202, description = "stored; the pipeline did not answer in time"), (status = 401), (status = 404), (status = 409), (status = 413), (status = 429), (status = 503))
)]
pub(super) async fn receive(
    State(app): State<App>,
    PathId(id): PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let answer = answer(&app, &id, request).await;
    let verdict = match &answer {
        Ok((verdict, _)) => verdict,
        Err(_) => "refused",
    };
    app.metrics.webhook(verdict, started.elapsed());
    answer.map(|(_, response)| response)
}

async fn answer(
    app: &App,
    id: &str,
    request: Request,
) -> Result<(&'static str, Response), ApiError> {
    let unknown = || ApiError::NotFound {
        what: "pipeline",
        name: id.to_owned(),
    };
    let pipeline_id: PipelineId = id.parse().map_err(|_| unknown())?;
    let mut place = app.admission.admit().ok_or(ApiError::Busy)?;
    let (parts, body) = request.into_parts();
    let limit = app.settings.max_body_bytes;
    let body = body::receive(body, &parts.headers, limit, &mut place, &app.disk).await?;
    let incoming = IncomingRequest {
        url: parts
            .uri
            .path_and_query()
            .map_or("/", |url| url.as_str())
            .to_owned(),
        remote_addr: parts
            .extensions
            .get::<Peer>()
            .map(|peer| peer.0.to_string())
            .unwrap_or_default(),
        method: parts.method,
        headers: parts.headers,
        body,
    };
    match app.intake.receive(pipeline_id, incoming).await? {
        Received::Accepted {
            wait: Some(wait), ..
        } => {
            let reply = wait.reply().await;
            let verdict = match reply.by {
                crate::model::run::ReplyBy::Pipeline => "answered",
                crate::model::run::ReplyBy::Server => "accepted",
            };
            Ok((verdict, respond(reply)))
        }
        Received::Accepted { run_id, wait: None } => Ok((
            "accepted",
            respond(crate::model::transition::accepted_reply(run_id)),
        )),
        Received::Unknown => Err(unknown()),
        Received::Unauthorized => Err(ApiError::BadSignature),
        Received::Paused => Err(ApiError::Paused {
            name: id.to_owned(),
        }),
        Received::QueueFull => Err(ApiError::QueueFull),
        Received::Malformed(Fault::TooManyParts) => Err(ApiError::TooManyParts),
        Received::Malformed(fault) => Err(ApiError::Invalid(fault.to_string())),
    }
}

/// Headers that the connection decides, not the pipeline.
const OWN_HEADERS: &[HeaderName] = &[
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
    header::TE,
];

fn respond(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let bodyless = matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RESET_CONTENT
    );
    let mut response = Response::new(if bodyless {
        Body::empty()
    } else {
        Body::from(reply.body)
    });
    *response.status_mut() = status;
    for (name, value) in reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        // Checked when the reply was taken; what HTTP forbids is not there any more.
        if let (Ok(name), Some(value)) = (name, header_value(&value))
            && !OWN_HEADERS.contains(&name)
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}
