//! Reading a request's body: bounded in bytes and in time, not past the limit.

use super::error::ApiError;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a whole body may take.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// How long nothing of it may come.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// All bytes of a body of at most `limit`. `grow` is asked before more bytes are kept; if it says no, the server is
/// busy.
pub(super) async fn read(
    mut body: Body,
    headers: &HeaderMap,
    limit: usize,
    mut grow: impl FnMut(usize) -> bool,
) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ApiError::BodyTooLarge { limit });
    }
    let deadline = Instant::now() + BODY_WITHIN;
    let mut first: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    loop {
        let stall = (Instant::now() + STALL_LIMIT).min(deadline);
        let frame = timeout_at(stall, body.frame())
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
        if !grow(data.len()) {
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
