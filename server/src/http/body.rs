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

/// Each so many bytes of a body give it a second more.
const BYTES_PER_SECOND: u64 = 128 * 1024;

/// How long a body may be slower than [`MIN_RATE`].
const SLOW_START: Duration = Duration::from_secs(5);
/// Bytes a second that a body must have come with on the whole, once it has begun.
const MIN_RATE: u64 = 1024;

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

/// How slowly a body may come.
struct Pace {
    begun: Instant,
}

impl Pace {
    fn begin() -> Self {
        Self {
            begun: Instant::now(),
        }
    }

    /// When more must have come, after `so_far` bytes.
    fn next(&self, so_far: u64) -> Instant {
        let stall = Instant::now() + STALL_LIMIT;
        let lagging = self.begun + SLOW_START + Duration::from_secs(so_far / MIN_RATE);
        let late = self.begun + BODY_WITHIN + Duration::from_secs(so_far / BYTES_PER_SECOND);
        stall.min(lagging).min(late)
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
    let pace = Pace::begin();
    let mut collector = Collector::new(disk.clone());
    loop {
        let frame = timeout_at(pace.next(collector.len()), body.frame())
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
    let pace = Pace::begin();
    let mut first: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    loop {
        let so_far = first.as_ref().map_or(joined.len(), Bytes::len);
        let frame = timeout_at(pace.next(so_far as u64), body.frame())
            .await
            .map_err(|_| ApiError::BodyTooSlow)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else {
            continue;
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    /// Reads a body whose pieces come after one another; how it ended and when.
    async fn taken(pieces: Vec<(u64, usize)>) -> (Result<usize, ApiError>, Duration) {
        let body = stream::unfold(pieces.into_iter(), |mut pieces| async move {
            let (after, bytes) = pieces.next()?;
            tokio::time::sleep(Duration::from_millis(after)).await;
            Some((Ok::<_, Infallible>(Bytes::from(vec![b'x'; bytes])), pieces))
        });
        let begun = Instant::now();
        let body = Body::from_stream(body);
        let read = read(body, &HeaderMap::new(), usize::MAX, |_| true).await;
        (read.map(|bytes| bytes.len()), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_must_come_and_go_on_coming() {
        // A byte a second for ever: nothing is owed for five seconds.
        let (drip, after) = taken(vec![(1000, 1); 100]).await;
        assert!(matches!(drip, Err(ApiError::BodyTooSlow)));
        assert_eq!(after.as_secs(), 5);
        // What came fast first has earned a while, but not for ever.
        let (lagging, after) = taken([vec![(0, 20 * 1024)], vec![(1000, 1); 100]].concat()).await;
        assert!(matches!(lagging, Err(ApiError::BodyTooSlow)));
        assert_eq!(after.as_secs(), 25);
        let (stalled, after) = taken(vec![(0, 1024 * 1024), (60_000, 1)]).await;
        assert!(matches!(stalled, Err(ApiError::BodyTooSlow)));
        assert_eq!(after, STALL_LIMIT);
        // In time by a little.
        let (slow, after) = taken(vec![(1000, 1100); 50]).await;
        assert_eq!((slow.ok(), after.as_secs()), (Some(55_000), 50));
        let (endless, after) = taken(vec![(1000, 1100); 90]).await;
        assert!(matches!(endless, Err(ApiError::BodyTooSlow)));
        assert_eq!(after, BODY_WITHIN);
    }
}
