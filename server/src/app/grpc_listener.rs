//! The listener for agents: HTTP/2, optionally over TLS, bounded in what a stranger can hold open.

use crate::grpc::Link;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// What one stream may have on its way; far below the connection's, so that logs which wait for the store leave room for
/// the control stream beside them.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// What all streams of an agent may have on their way.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Handshakes at once; more connections wait in the system's queue.
const HANDSHAKES: usize = 256;

/// Serves agents until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    link: Link,
    shutdown: CancellationToken,
) {
    let server = Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(crate::grpc::PING_EVERY))
        .http2_keepalive_timeout(Some(crate::grpc::SILENCE_LIMIT))
        .add_service(link.into_service());
    let stopped = shutdown.clone();
    let result = match tls {
        None => {
            let incoming =
                tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
            server
                .serve_with_incoming_shutdown(incoming, stopped.cancelled())
                .await
        }
        Some(config) => {
            let (ready, incoming) = mpsc::channel(HANDSHAKES);
            let accepting = accept(listener, TlsAcceptor::from(config), ready);
            tokio::select! {
                result = server.serve_with_incoming_shutdown(
                    ReceiverStream::new(incoming),
                    stopped.cancelled(),
                ) => result,
                () = accepting => Ok(()),
            }
        }
    };
    if let Err(error) = result {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the listener for agents failed"
        );
    }
}

/// Accepts connections and hands on those whose handshake succeeds; a slow one holds up nobody else.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<std::io::Result<TlsStream<TcpStream>>>,
) {
    let mut handshakes = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if handshakes.len() < HANDSHAKES => {
                let Ok((stream, _)) = accepted else {
                    // Out of file descriptors, most likely: others must close first.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                // Only a hint to the system; without it the connection is slower.
                let _ = stream.set_nodelay(true);
                let (acceptor, ready) = (acceptor.clone(), ready.clone());
                handshakes.spawn(async move {
                    match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
                        // A closed channel means that the server is stopping.
                        Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake with an agent failed"),
                        Err(_) => tracing::debug!("TLS handshake with an agent took too long"),
                    }
                });
            }
            Some(_) = handshakes.join_next() => {}
        }
    }
}
