//! Reading a request's body: bounded in bytes and in time, not past the limit.

use super::error::ApiError;
use crate::intake::admit::{Admitted, DiskBudget};
use crate::intake::{self, Collector, SpillError};
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

/// Each so many bytes of a webhook's body give it a second more.
const BYTES_PER_SECOND: u64 = 128 * 1024;

/// How long a large body may take, which is stored as it comes.
const LARGE_WITHIN: Duration = Duration::from_secs(3600);
/// How long nothing of a large body may come: its sender may have to find the next file first.
const LARGE_STALL_LIMIT: Duration = Duration::from_secs(30);

/// Refuses a body that says to be larger than `limit`.
fn announced(headers: &HeaderMap, limit: usize) -> Result<(), ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    match announced.is_some_and(|length| length > limit) {
        true => Err(ApiError::BodyTooLarge { limit }),
        false => Ok(()),
    }
}

/// A large body, piece by piece.
pub(super) struct Pieces {
    body: Body,
    limit: usize,
    so_far: usize,
    deadline: Instant,
}

impl Pieces {
    /// Of a body of at most `limit` bytes.
    pub(super) fn new(body: Body, headers: &HeaderMap, limit: usize) -> Result<Self, ApiError> {
        announced(headers, limit)?;
        Ok(Self {
            body,
            limit,
            so_far: 0,
            deadline: Instant::now() + LARGE_WITHIN,
        })
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let stall = (Instant::now() + LARGE_STALL_LIMIT).min(self.deadline);
            let frame = timeout_at(stall, self.body.frame())
                .await
                .map_err(|_| ApiError::BodyTooSlow)?;
            let Some(frame) = frame else { return Ok(None) };
            let Ok(data) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else {
                continue;
            };
            self.so_far = self.so_far.saturating_add(data.len());
            if self.so_far > self.limit {
                return Err(ApiError::BodyTooLarge { limit: self.limit });
            }
            return Ok(Some(data));
        }
    }
}

/// A webhook's body of at most `limit` bytes, in memory while it is small and the place has room, else on disk.
pub(super) async fn receive(
    mut body: Body,
    headers: &HeaderMap,
    limit: usize,
    place: &mut Admitted,
    disk: &DiskBudget,
) -> Result<intake::Body, ApiError> {
    announced(headers, limit)?;
    let begun = Instant::now();
    let mut collector = Collector::new(disk.clone());
    loop {
        let earned = Duration::from_secs(collector.len() / BYTES_PER_SECOND);
        let stall = (Instant::now() + STALL_LIMIT).min(begun + BODY_WITHIN + earned);
        let frame = timeout_at(stall, body.frame())
            .await
            .map_err(|_| ApiError::BodyTooSlow)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else {
            continue;
        };
        if collector.len() + data.len() as u64 > limit as u64 {
            return Err(ApiError::BodyTooLarge { limit });
        }
        if collector.fits_memory(data.len()) && !place.grow(data.len()) {
            return Err(ApiError::Busy);
        }
        collector.push(data).await.map_err(spill_error)?;
    }
    collector.finish().await.map_err(spill_error)
}

fn spill_error(error: SpillError) -> ApiError {
    match error {
        SpillError::Full => ApiError::Busy,
        SpillError::Disk(_) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "webhook not taken"
            );
            ApiError::Busy
        }
    }
}

/// All bytes of a body of at most `limit`. `grow` is asked before more bytes are kept; if it says no, the server is
/// busy.
pub(super) async fn read(
    mut body: Body,
    headers: &HeaderMap,
    limit: usize,
    mut grow: impl FnMut(usize) -> bool,
) -> Result<Bytes, ApiError> {
    announced(headers, limit)?;
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
