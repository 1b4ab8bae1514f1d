//! The listener: HTTP/1.1 and HTTP/2, optionally over TLS, bounded in what a stranger can hold open.

use super::idle::{Activity, AnswerBody, Waiting, Watched};
use super::peers::Peers;
use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Who is at the other end, for receipts.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub SocketAddr);

/// Tells answers without an end that the server stops.
#[derive(Clone, Default)]
pub(super) struct Stopping(CancellationToken);

impl Stopping {
    /// Returns when the server begins to stop.
    pub(super) async fn begun(&self) {
        self.0.cancelled().await;
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Stopping {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Without a listener there is nothing that stops.
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// Connections at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 16 * 1024;
/// Connections that one address may hold, also if it is a proxy's; more are closed at once.
const MAX_CONNECTIONS_OF_ONE: usize = MAX_CONNECTIONS / 4;
/// Header lines of a request; more get 431.
const MAX_HEADERS: usize = 100;
/// Buffer for a request's head; a longer one gets 431 (see also `request_id`).
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Serves until `shutdown`; then connections finish what they are at.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: Router,
    shutdown: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let peers = Peers::new(MAX_CONNECTIONS_OF_ONE);
    let builder = Arc::new(builder());
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.cancelled() => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, most likely: others must close first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(counted) = peers.count(peer.ip()) else {
            tracing::debug!(%peer, "too many connections of one address; closed");
            continue;
        };
        // Only a hint to the system; without it the connection is slower.
        let _ = stream.set_nodelay(true);
        let (builder, app, acceptor, shutdown) = (
            builder.clone(),
            app.clone(),
            acceptor.clone(),
            shutdown.clone(),
        );
        connections.spawn(async move {
            let _held = (permit, counted);
            match acceptor {
                None => connection(&builder, stream, peer, app, shutdown).await,
                Some(acceptor) => {
                    let handshake =
                        tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await;
                    if let Ok(Ok(stream)) = handshake {
                        connection(&builder, stream, peer, app, shutdown).await;
                    }
                }
            }
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // See `idle`, which knows a head from idling.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    builder
}

async fn connection<S>(
    builder: &Builder<TokioExecutor>,
    stream: S,
    peer: SocketAddr,
    app: Router,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::begin();
    let stream = TokioIo::new(Watched::new(stream, activity.clone()));
    let (counted, stopping) = (activity.clone(), Stopping(shutdown.clone()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let in_flight = counted.request(request.version());
        let extensions = request.extensions_mut();
        extensions.insert(Peer(peer));
        extensions.insert(stopping.clone());
        let answer = app.clone().oneshot(request);
        async move {
            let answer = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| AnswerBody::new(body, in_flight)))
        }
    });
    let serving = builder.serve_connection_with_upgrades(stream, service);
    tokio::pin!(serving);
    let mut closing = false;
    let result = loop {
        tokio::select! {
            result = serving.as_mut() => break result,
            () = shutdown.cancelled(), if !closing => {}
            waited = activity.expired() => {
                if closing || waited != Waiting::Request {
                    tracing::debug!(%peer, ?waited, "connection cut: it waited too long");
                    return;
                }
            }
        }
        // Answers under way are finished; nothing new begins.
        closing = true;
        serving.as_mut().graceful_shutdown();
        activity.close();
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

#[cfg(test)]
mod tests;
