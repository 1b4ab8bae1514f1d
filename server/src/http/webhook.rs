//! `ANY /api/webhooks/{id}`: the webhook, answered by the pipeline (seed 000).

use super::App;
use super::error::ApiError;
use super::listen::Peer;
use crate::intake::admit::Admitted;
use crate::intake::{IncomingRequest, Received};
use crate::model::PipelineId;
use crate::model::run::{Reply, header_value};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::time::{Duration, Instant};

/// How long a whole body may take.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// How long nothing of it may come.
const STALL_LIMIT: Duration = Duration::from_secs(10);

#[utoipa::path(
    post, path = "/api/webhooks/{id}", tag = "webhooks",
    description = "Any method. The pipeline's own answer, or 202 with the run's id.",
    params(("id" = String, Path, description = "the pipeline's id")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 202, description = "stored; the pipeline did not answer in time"), (status = 401), (status = 404), (status = 409), (status = 413), (status = 429), (status = 503))
)]
pub(super) async fn receive(
    State(app): State<App>,
    Path(id): Path<String>,
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
    let body = read(
        body,
        &parts.headers,
        app.settings.max_body_bytes,
        &mut place,
    )
    .await?;
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
    }
}

/// Reads with the limit, not past it.
async fn read(
    mut body: Body,
    headers: &axum::http::HeaderMap,
    limit: usize,
    place: &mut Admitted,
) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ApiError::BodyTooLarge { limit });
    }
    let deadline = tokio::time::Instant::now() + BODY_WITHIN;
    let mut first: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    loop {
        let stall = (tokio::time::Instant::now() + STALL_LIMIT).min(deadline);
        let frame = tokio::time::timeout_at(stall, body.frame())
            .await
            .map_err(|_| ApiError::BodyTooSlow)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else {
            continue;
        };
        let so_far = first.as_ref().map_or(joined.len(), Bytes::len);
        if so_far + data.len() > limit {
            return Err(ApiError::BodyTooLarge { limit });
        }
        if !place.grow(data.len()) {
            return Err(ApiError::Busy);
        }
        // Most bodies come in one piece, which needs no copy.
        match first.take() {
            None if joined.is_empty() => first = Some(data),
            None => joined.extend_from_slice(&data),
            Some(earlier) => {
                joined.extend_from_slice(&earlier);
                joined.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| joined.freeze()))
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
