//! One request and its answer, bounded in time and size: no redirects, no second try.

use crate::client::{Clients, Refused, Trust, told};
use crate::guard::ResolveError;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use reqwest::{Client, Url};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// How long an exchange may take in all, the body of the answer included.
pub const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer's body that are read; the connection is closed over more.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What to send.
#[derive(Clone)]
pub struct Request {
    /// Where to.
    pub url: Url,
    /// Usually POST.
    pub method: Method,
    /// In order.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How the receiver's certificate is judged.
    pub trust: Trust,
    /// In all; [`WITHIN`] unless there is a reason.
    pub within: Duration,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// As they came; one line's bytes beyond ASCII are replaced.
    pub headers: Vec<(String, String)>,
    /// Up to [`MAX_BODY_BYTES`].
    pub body: Bytes,
    /// Whether there was more.
    pub is_cut: bool,
}

impl Answer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }
}

/// Why there is no (whole) answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The address may not be reached; nothing was sent.
    #[error("{0}")]
    Blocked(String),
    /// The time was up.
    #[error("no complete answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// Name, connection, TLS or protocol.
    #[error("{0}")]
    Failed(String),
}

/// How it went.
#[derive(Debug, Clone)]
pub struct Exchanged {
    /// What came back: with an error beside it if the body did not end in time.
    pub answer: Option<Answer>,
    /// Set: the exchange is no success, whatever the status.
    pub error: Option<ExchangeError>,
    /// The whole.
    pub duration: Duration,
    /// Until the headers of the answer were here.
    pub first_byte: Option<Duration>,
    /// Who answered.
    pub peer: Option<SocketAddr>,
}

impl Exchanged {
    /// Whether it was answered as a whole, with a status of 2xx.
    pub fn is_success(&self) -> bool {
        let is_fine = |answer: &Answer| (200..300).contains(&answer.status);
        self.error.is_none() && self.answer.as_ref().is_some_and(is_fine)
    }
}

/// Sends a webhook once.
pub async fn exchange(clients: &Clients, request: &Request) -> Exchanged {
    let started = Instant::now();
    let mut going = Exchanged {
        answer: None,
        error: None,
        duration: Duration::ZERO,
        first_byte: None,
        peer: None,
    };
    let client = match clients.webhook_client(&request.url, &request.trust) {
        Ok(client) => client,
        Err(refused) => {
            going.error = Some(ExchangeError::Blocked(refused));
            return going;
        }
    };
    // Not the answer's own: what has come is kept if the time is up.
    let mut body = BytesMut::new();
    let whole = carry_out(&client, request, started, &mut going, &mut body);
    let ended = tokio::time::timeout(request.within, whole).await;
    if let Some(answer) = &mut going.answer {
        answer.body = body.freeze();
    }
    going.error = match ended {
        Ok(ended) => ended.err(),
        Err(_) => Some(ExchangeError::Late(request.within)),
    };
    going.duration = started.elapsed();
    going
}

/// Fills in what is known as it comes: the time may be up at any await.
async fn carry_out(
    client: &Client,
    request: &Request,
    started: Instant,
    going: &mut Exchanged,
    body: &mut BytesMut,
) -> Result<(), ExchangeError> {
    let sending = client
        .request(request.method.clone(), request.url.clone())
        .headers(request.headers.clone())
        .body(request.body.clone())
        .send();
    let mut response = sending.await.map_err(failure)?;
    going.first_byte = Some(started.elapsed());
    going.peer = response.remote_addr();
    let headers = response.headers().iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    let answer = going.answer.insert(Answer {
        status: response.status().as_u16(),
        headers: headers.collect(),
        body: Bytes::new(),
        is_cut: false,
    });
    while let Some(piece) = response.chunk().await.map_err(failure)? {
        let room = MAX_BODY_BYTES - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            answer.is_cut = true;
            break;
        }
    }
    Ok(())
}

fn failure(error: reqwest::Error) -> ExchangeError {
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(source) = cause {
        if let Some(refused) = source.downcast_ref::<Refused>() {
            return match &refused.0 {
                ResolveError::NotAllowed(told) => ExchangeError::Blocked(told.clone()),
                // A name server that fails is no more the address's fault than a connection that does.
                ResolveError::Unresolved(told) => ExchangeError::Failed(told.clone()),
            };
        }
        cause = source.source();
    }
    ExchangeError::Failed(told(error))
}
