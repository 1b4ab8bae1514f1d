//! Every answer carries the id under which the log speaks of its request.

use super::error::ApiError;
use crate::intake::redact;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from the caller.
const MAX_ID_CHARS: usize = 64;

/// A caller's own id, if it cannot do harm in a log.
fn acceptable(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let sane = (1..=MAX_ID_CHARS).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    sane.then(|| text.to_owned())
}

/// Largest address and headers together, in bytes. The connection has a limit of its own, but it is one of buffers.
const MAX_HEAD_BYTES: usize = 32 * 1024;

fn head_bytes(request: &Request) -> usize {
    let headers = request.headers().iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    headers
        + request
            .uri()
            .path_and_query()
            .map_or(0, |url| url.as_str().len())
}

/// Gives the request an id, renders errors with it, logs what went wrong.
pub(super) async fn finish(request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).and_then(acceptable);
    let id = given.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
    let (method, path) = (request.method().clone(), redact::path(request.uri().path()));
    let mut response = if head_bytes(&request) > MAX_HEAD_BYTES {
        ApiError::HeadTooLarge {
            limit: MAX_HEAD_BYTES,
        }
        .into_response()
    } else {
        next.run(request).await
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        tracing::info!(request_id = %id, %method, %path, status = response.status().as_u16(), code = error.code(), "request refused");
        response = error.render(&id);
    } else {
        tracing::debug!(request_id = %id, %method, %path, status = response.status().as_u16(), "request answered");
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers
        .entry("x-content-type-options")
        .or_insert(HeaderValue::from_static("nosniff"));
    response
}
