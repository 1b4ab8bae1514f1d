//! The API's token.

use super::App;
use super::error::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Where CircleCI's tools put the token.
const CIRCLE_TOKEN: &str = "circle-token";

/// Lets a request pass if no token is configured, or it presents it.
pub(super) async fn require_token(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(expected) = &app.settings.auth_token
        && !given(request.headers()).is_some_and(|given| same(given, expected))
    {
        return ApiError::Unauthorized.into_response();
    }
    next.run(request).await
}

/// The token of a request, as a bearer's or, by tools of CircleCI, in a header of its own.
fn given(headers: &HeaderMap) -> Option<&str> {
    match headers.get(header::AUTHORIZATION) {
        Some(value) => value.to_str().ok()?.strip_prefix("Bearer "),
        None => headers.get(CIRCLE_TOKEN)?.to_str().ok(),
    }
}

/// Digests are compared, so that neither content nor length shows in the time taken.
fn same(given: &str, expected: &str) -> bool {
    Sha256::digest(given.as_bytes())
        .ct_eq(&Sha256::digest(expected.as_bytes()))
        .into()
}
