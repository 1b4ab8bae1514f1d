//! PIPEFORCE's way to call an endpoint (seed 004): `webhook.receive`, and its result to be polled.

use super::App;
use super::answer::{Told, respond};
use super::error::ApiError;
use super::extract::ApiQuery;
use super::webhook::{answer, before_body, complete, count, discreet, head, not_taken, unknown};
use crate::intake::Address;
use crate::model::ReceiptId;
use crate::model::body::MAX_INLINE_BYTES;
use crate::model::run::{Reply, ReplyBy};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// What a secret id is called, in query, header or form.
const NAMES: [&str; 2] = ["uuid", "token"];
/// Where a poll finds its result.
const RESULT_HEADER: &str = "pipeforce-result-correlationid";

#[utoipa::path(
    post, path = "/api/v3/command/webhook.receive", tag = "webhooks",
    description = "GET or POST. The endpoint's secret id is `uuid` (or `token`) in the query, a header, or the form of the body.",
    responses((status = 200, description = "{statusCode, status, value, pollingRedirectEnabled, correlationId}"), (status = 401), (status = 404))
)]
pub(super) async fn receive(State(app): State<App>, request: Request) -> Response {
    let begun = Instant::now();
    let told = take(&app, request, begun).await;
    count(&app, &told, begun);
    discreet(match told {
        Ok(told) => {
            let id = told.receipt_id;
            in_its_form(told.reply, Some(id))
        }
        Err(error) => {
            // In the form that its callers read; what the headers say stays (Retry-After, Allow, Connection).
            let body = json!({
                "statusCode": error.status().as_u16(), "status": "error", "value": null,
                "pollingRedirectEnabled": false, "correlationId": null,
            });
            let mut response = error.render("");
            response.headers_mut().remove(header::CONTENT_LENGTH);
            *response.body_mut() = body.to_string().into();
            response
        }
    })
}

async fn take(app: &App, request: Request, begun: Instant) -> Result<Told, ApiError> {
    let named = from_query(request.uri().query().unwrap_or_default())
        .or_else(|| from_headers(request.headers()));
    if let Some(id) = named {
        endpoint(&id)?;
        return answer(app, &id, request, begun).await;
    }
    if !is_form(request.headers()) {
        return Err(unknown(""));
    }
    // Only the body says whose it is: a stranger's, of which no more is taken than fits the memory.
    let mut place = app.admission.admit().ok_or(ApiError::Busy)?;
    let (parts, body) = request.into_parts();
    let mut request = head(app, parts);
    let limit = app.settings.max_body_bytes.min(MAX_INLINE_BYTES);
    request.body =
        super::body::receive(body, &request.headers, limit, &mut place, &app.disk).await?;
    let form = request.body.in_memory().ok_or_else(|| unknown(""))?;
    let id = from_query(&String::from_utf8_lossy(form)).ok_or_else(|| unknown(""))?;
    let address = endpoint(&id)?;
    let hook = app
        .intake
        .find(address)
        .await?
        .ok_or_else(|| unknown(&id))?;
    let hook = Arc::new(hook);
    if request.body.len() > hook.max_body_bytes(limit) as u64 {
        let told = ApiError::BodyTooLarge {
            limit: hook.max_body_bytes(limit),
        };
        return Err(not_taken(app, &hook, &request, told, begun).await);
    }
    if let Some(told) = before_body(app, &id, &hook, &request, begun).await? {
        return Ok(told);
    }
    complete(app, &id, address, hook, request, begun).await
}

/// Pipelines' own URLs have no secret id.
fn endpoint(id: &str) -> Result<Address, ApiError> {
    match Address::parse(id) {
        Some(address @ Address::Endpoint(_)) => Ok(address),
        Some(Address::Pipeline(_)) | None => Err(unknown(id)),
    }
}

fn from_query(query: &str) -> Option<String> {
    let mut fields = url::form_urlencoded::parse(query.as_bytes());
    let found = fields.find(|(name, _)| NAMES.contains(&&**name));
    found.map(|(_, value)| value.into_owned())
}

fn from_headers(headers: &HeaderMap) -> Option<String> {
    let found = NAMES.iter().find_map(|name| headers.get(*name));
    found.and_then(|value| value.to_str().ok().map(str::to_owned))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// A reply as its callers expect it: the pipeline's is the value, everything else is still being processed.
fn in_its_form(reply: Reply, id: Option<ReceiptId>) -> Response {
    let replied = reply.by == ReplyBy::Pipeline;
    // The call itself was taken: 202 is a word of ours.
    let status = match reply.status {
        202 if !replied => 200,
        status => status,
    };
    let body = json!({
        "statusCode": status,
        "status": if replied { "ok" } else { "processing" },
        "value": if replied { value(&reply.body) } else { Value::Null },
        "pollingRedirectEnabled": false,
        "correlationId": id,
    });
    respond(Reply {
        by: ReplyBy::Server,
        status,
        headers: vec![("content-type".into(), "application/json".into())],
        body: Bytes::from(body.to_string()),
    })
}

fn value(body: &[u8]) -> Value {
    match body.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(body)
            .unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into()),
    }
}

#[derive(Deserialize)]
pub(super) struct ResultQuery {
    #[serde(rename = "correlationId")]
    correlation_id: Option<String>,
}

#[utoipa::path(
    get, path = "/api/v3/result", tag = "webhooks",
    description = "The result of a `webhook.receive`: 302 to itself until it is there.",
    params(("correlationId" = Option<String>, Query, description = "as it was answered; or the header `pipeforce-result-correlationid`")),
    responses((status = 200), (status = 302), (status = 404))
)]
pub(super) async fn result(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ResultQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let header = headers.get(RESULT_HEADER);
    let header = header.and_then(|id| id.to_str().ok().map(str::to_owned));
    let id = query.correlation_id.or(header).unwrap_or_default();
    let none = || ApiError::NotFound {
        what: "result",
        name: id.clone(),
    };
    let receipt_id: ReceiptId = id.parse().map_err(|_| none())?;
    let store = app.runs.store();
    let receipt = store.receipt(receipt_id).await?;
    // Pipelines' own URLs promise nothing of this kind.
    let receipt = receipt
        .filter(|receipt| receipt.endpoint_id.is_some())
        .ok_or_else(none)?;
    let mut runs: Vec<_> = receipt.run_id.into_iter().collect();
    let targets = store.message_targets(receipt_id).await?;
    runs.extend(targets.iter().map(|target| target.run_id));
    let replies = store.replies(&runs).await?;
    let by_pipeline = replies
        .into_iter()
        .map(|(_, reply)| reply)
        .find(|reply| reply.by == ReplyBy::Pipeline);
    if let Some(reply) = by_pipeline {
        return Ok(in_its_form(reply, Some(receipt_id)));
    }
    for run in runs {
        if store.outcome(run).await?.is_none() {
            let itself = format!("/api/v3/result?correlationId={receipt_id}");
            let headers = [
                (header::LOCATION, itself),
                (header::RETRY_AFTER, "1".to_owned()),
            ];
            return Ok((StatusCode::FOUND, headers).into_response());
        }
    }
    let body = json!({
        "statusCode": 200, "status": "ok", "value": null,
        "pollingRedirectEnabled": false, "correlationId": receipt_id,
    });
    Ok(axum::Json(body).into_response())
}
