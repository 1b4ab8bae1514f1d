//! What handlers take out of a request; what does not fit is refused in the words of `ApiError`, never in axum's.

use super::body;
use super::error::ApiError;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use pocketci_proto::api::By;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::fmt::Display;

/// Largest body of the API (not of webhooks): a pipeline of the largest size, escaped.
const MAX_API_BODY_BYTES: usize = 8 * 1024 * 1024;

/// The `{id}` of a path.
pub(super) struct PathId(pub String);

/// The names in a path that has several.
pub(super) struct PathNames<T>(pub T);

/// The query as `T`.
pub(super) struct ApiQuery<T>(pub T);

/// The body as `T`.
pub(super) struct ApiJson<T>(pub T);

/// The body as it came.
pub(super) struct RawBody(pub Bytes);

/// Refuses a text with a NUL character, which PostgreSQL cannot store, so that both stores refuse the same.
pub(super) fn without_nul(what: &str, text: &str) -> Result<(), ApiError> {
    if text.contains('\0') {
        return Err(nul_in(what));
    }
    Ok(())
}

fn nul_in(what: &str) -> ApiError {
    ApiError::Invalid(format!("{what} must not contain a NUL character (U+0000)"))
}

/// A JSON object as `T`, whatever its Content-Type.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let unexpected = |why: &dyn Display| {
        ApiError::Invalid(format!("the body is not the JSON expected here: {why}"))
    };
    // serde would take an array's items for fields in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(unexpected(&"it is an array and should be an object"));
    }
    serde_json::from_slice(body).map_err(|error| unexpected(&error))
}

/// Longest name of somebody, in bytes.
const MAX_BY_BYTES: usize = 200;

/// Who is responsible for a request; `api` if the body is empty or says nothing.
pub(super) fn by(body: &[u8]) -> Result<String, ApiError> {
    let asked = match body {
        [] => By::default(),
        body => parse(body)?,
    };
    let by = asked.by.unwrap_or_else(|| "api".to_owned());
    without_nul("by", &by)?;
    if by.is_empty() || by.len() > MAX_BY_BYTES {
        return Err(ApiError::Invalid(format!(
            "by must have 1 to {MAX_BY_BYTES} bytes; leave it out instead"
        )));
    }
    Ok(by)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    else {
        return false;
    };
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else {
        return false;
    };
    subtype == "json" || subtype.ends_with("+json")
}

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| {
                ApiError::Invalid("the path's percent-encoded bytes must be UTF-8".into())
            })?;
        without_nul("the path", &id)?;
        Ok(Self(id))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathNames<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if parts.uri.path().contains("%00") {
            return Err(nul_in("the path"));
        }
        let Path(names) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|_| {
                ApiError::Invalid("the path's percent-encoded bytes must be UTF-8".into())
            })?;
        Ok(Self(names))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(nul_in("the query"));
        }
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(|rejection| {
            let why = rejection
                .source()
                .map_or_else(|| rejection.body_text(), ToString::to_string);
            ApiError::Invalid(format!("the query is not valid here: {why}"))
        })?;
        Ok(Self(query))
    }
}

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        // Whoever gets here has the token; how much all bodies together take is not counted.
        let read = body::read(body, &parts.headers, MAX_API_BODY_BYTES, |_| true);
        read.await.map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::NotJson);
        }
        let RawBody(body) = RawBody::from_request(request, state).await?;
        parse(&body).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn json_is_known_by_its_media_type() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            is_json(&headers)
        };
        for yes in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/problem+json",
        ] {
            assert!(with(yes), "{yes}");
        }
        for no in [
            "",
            "text/json",
            "application/jsonp",
            "text/plain; application/json",
        ] {
            assert!(!with(no), "{no}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
