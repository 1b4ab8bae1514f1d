//! When a connection has done nothing for too long, told from its bytes and its requests.
//!
//! hyper has one limit for reading a head, which is its limit for idling too, and none before it knows the version of
//! HTTP. Here a head and idling have limits of their own, and the first head's begins with the connection. What a
//! request does while it is answered is not looked at: handlers have their own limits.

use axum::body::Body;
use axum::http::Version;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long the head of a request may take: the first one's from the beginning of the connection (after TLS), later
/// ones' from their first byte.
pub(super) const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may idle between requests; longer than the 60 s after which common proxies give up theirs.
pub(super) const IDLE_WITHIN: Duration = Duration::from_secs(75);
/// How long a connection without requests may take to close once it was asked to.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Larger writes are a part of an answer; smaller ones may be an HTTP/2 ping, which says nothing about the other end.
const SMALL_WRITE_BYTES: usize = 64;

/// What a connection without requests waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The rest of a head, or all of the first one.
    Head,
    /// A further request.
    Request,
    /// The end, which was asked for.
    Close,
}

impl Waiting {
    fn limit(self) -> Duration {
        match self {
            Self::Head => HEAD_WITHIN,
            Self::Request => IDLE_WITHIN,
            Self::Close => CLOSE_WITHIN,
        }
    }
}

/// What a connection is at; shared by its stream, its requests and its watcher.
pub(super) struct Activity(Mutex<State>);

struct State {
    /// Requests whose answer is not handed over completely.
    requests: usize,
    /// HTTP/2: bytes can be other things than a request's head.
    multiplexed: bool,
    waiting: Waiting,
    /// Counts while there are no requests.
    deadline: Instant,
}

impl State {
    fn wait(&mut self, waiting: Waiting) {
        self.waiting = waiting;
        self.deadline = Instant::now() + waiting.limit();
    }
}

impl Activity {
    /// Of a connection that begins now.
    pub(super) fn begin() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            requests: 0,
            multiplexed: false,
            waiting: Waiting::Head,
            deadline: Instant::now() + HEAD_WITHIN,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was read; it lasts until what is returned is dropped.
    pub(super) fn request(self: &Arc<Self>, version: Version) -> InFlight {
        let mut state = self.state();
        state.requests += 1;
        state.multiplexed = version == Version::HTTP_2;
        drop(state);
        InFlight(self.clone())
    }

    /// The connection was asked to close.
    pub(super) fn close(&self) {
        self.state().wait(Waiting::Close);
    }

    fn read(&self) {
        let mut state = self.state();
        if state.requests == 0 && state.waiting == Waiting::Request && !state.multiplexed {
            state.wait(Waiting::Head);
        }
    }

    fn wrote(&self, bytes: usize) {
        let mut state = self.state();
        // The end of an answer can lie in buffers after the answer was handed over.
        if state.waiting != Waiting::Head && bytes > SMALL_WRITE_BYTES {
            let waiting = state.waiting;
            state.wait(waiting);
        }
    }

    /// Returns when the connection has waited for too long, with what for.
    pub(super) async fn expired(&self) -> Waiting {
        loop {
            let now = Instant::now();
            let (requests, waiting, deadline) = {
                let state = self.state();
                (state.requests, state.waiting, state.deadline)
            };
            if requests == 0 && deadline <= now {
                return waiting;
            }
            // A deadline set later is at least so far away: looking that often is never late.
            let soonest = match waiting {
                Waiting::Close => CLOSE_WITHIN,
                Waiting::Head | Waiting::Request => HEAD_WITHIN,
            };
            let mut look = now + soonest;
            if requests == 0 {
                look = look.min(deadline);
            }
            tokio::time::sleep_until(look).await;
        }
    }
}

/// A request that is not answered completely.
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        let waiting = match state.waiting {
            Waiting::Head | Waiting::Request => Waiting::Request,
            Waiting::Close => Waiting::Close,
        };
        state.wait(waiting);
    }
}

/// An answer's body, which keeps its request in flight.
pub(super) struct AnswerBody {
    body: Body,
    _request: InFlight,
}

impl AnswerBody {
    pub(super) fn new(body: Body, request: InFlight) -> Self {
        Self {
            body,
            _request: request,
        }
    }
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection's stream, whose bytes count as activity.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.activity.wrote(*bytes);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
