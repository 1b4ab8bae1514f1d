//! The server's API, as the commands use it; every failure is one clear sentence.

use crate::args::Connection;
use anyhow::Context;
use futures_util::StreamExt;
use pocketci_proto::api::{By, ErrorBody, Page, Pipeline, RunEvent};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Upgraded, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use url::Url;

/// How long a connection may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a plain request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// A silent event stream is opened again after this; the server sends a heartbeat every 15 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// Tries to open an event stream again before giving up.
const MAX_RECONNECTS: u32 = 10;
/// Pause before the first try; each further one waits twice as long, up to 5 s.
const RECONNECT_AFTER: Duration = Duration::from_millis(200);
/// Longest line of an event stream: a 64 KiB chunk as base64 JSON, with room to spare.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Why the server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or it broke.
    #[error(
        "cannot reach the server at {url}: {reason}; is it running? --server or CI_SERVER_URL say where it is"
    )]
    Unreachable {
        /// Where.
        url: Url,
        /// Why.
        reason: String,
    },
    /// The token is missing or wrong.
    #[error(
        "the server at {url} refuses the token: {message}; give the server's token with --auth-token or CI_AUTH_TOKEN"
    )]
    Unauthorized {
        /// Where.
        url: Url,
        /// The server's words.
        message: String,
    },
    /// Any other refusal.
    #[error("{}", refusal(.message, .details))]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The server's words.
        message: String,
        /// Every fault, where there are several.
        details: Vec<String>,
    },
}

fn refusal(message: &str, details: &[String]) -> String {
    let mut text = message.to_owned();
    for detail in details {
        text.push('\n');
        text.push_str(detail);
    }
    text
}

impl ClientError {
    /// Whether trying again may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Unauthorized { .. } => false,
            Self::Refused { status, .. } => status.is_server_error() || status.as_u16() == 429,
        }
    }
}

/// A server's API.
pub struct Client {
    base: Url,
    token: Option<String>,
    http: reqwest::Client,
}

impl Client {
    /// Checks the address; connects only when asked something.
    pub fn new(connection: &Connection) -> anyhow::Result<Self> {
        let base: Url = connection.server_url.parse().with_context(|| {
            format!(
                "--server {:?} is not a URL such as http://localhost:8080",
                connection.server_url
            )
        })?;
        if !matches!(base.scheme(), "http" | "https") {
            anyhow::bail!("--server {base} must start with http:// or https://");
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .user_agent(concat!("pocketci/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot set up TLS")?;
        Ok(Self {
            base,
            token: connection
                .auth_token
                .clone()
                .filter(|token| !token.is_empty()),
            http,
        })
    }

    /// The server's address joined with an absolute path.
    pub fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// A GET.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.request(Method::GET, url);
        self.answer(request).await
    }

    /// A listing, all of its pages.
    pub async fn all<T: DeserializeOwned>(&self, path: &[&str]) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let query: Vec<_> = after.iter().map(|after| ("after", after.clone())).collect();
            let page: Page<T> = self.get(path, &query).await?;
            all.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// A request with a JSON body.
    pub async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &B,
    ) -> anyhow::Result<T> {
        let request = self.request(method, self.url(path)).json(body);
        self.answer(request).await
    }

    /// [`Self::send`] with a query.
    pub async fn send_with<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: &B,
    ) -> anyhow::Result<T> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.answer(self.request(method, url).json(body)).await
    }

    /// A POST or DELETE without body, whose answer has no content of interest.
    pub async fn act(&self, method: Method, path: &[&str]) -> anyhow::Result<()> {
        let request = self.request(method, self.url(path)).timeout(ANSWER_WITHIN);
        self.checked(request).await?;
        Ok(())
    }

    /// [`Self::act`] with a POST that says who is responsible.
    pub async fn act_by(&self, path: &[&str], by: Option<String>) -> anyhow::Result<()> {
        let by = By {
            by: Some(by.unwrap_or_else(user)),
        };
        let request = self.request(Method::POST, self.url(path)).json(&by);
        self.checked(request.timeout(ANSWER_WITHIN)).await?;
        Ok(())
    }

    /// [`Self::act`] with a query.
    pub async fn act_with(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
    ) -> anyhow::Result<()> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.request(method, url).timeout(ANSWER_WITHIN);
        self.checked(request).await?;
        Ok(())
    }

    /// A PUT whose answer has no content of interest.
    pub async fn put<B: Serialize>(&self, path: &[&str], body: &B) -> anyhow::Result<()> {
        let request = self.request(Method::PUT, self.url(path)).json(body);
        self.checked(request.timeout(ANSWER_WITHIN)).await?;
        Ok(())
    }

    /// Opens a WebSocket: what follows the handshake.
    pub async fn upgrade(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> anyhow::Result<Upgraded> {
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(query);
        let key = generate_key();
        let request = self
            .request(Method::GET, url)
            .version(Version::HTTP_11)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &key);
        let response = tokio::time::timeout(ANSWER_WITHIN, self.checked(request))
            .await
            .context("the server did not answer in time")??;
        let accepted = response.headers().get("sec-websocket-accept");
        if accepted.is_none_or(|accepted| accepted != &derive_accept_key(key.as_bytes())) {
            anyhow::bail!(
                "{} answered no WebSocket; a proxy in between must pass `Upgrade: websocket` on",
                self.base
            );
        }
        response
            .upgrade()
            .await
            .map_err(|error| self.unreachable(&error).into())
    }

    /// A PUT of a body that is made while it is sent; it takes the time it takes.
    pub async fn upload(&self, path: &[&str], body: Body) -> Result<(), ClientError> {
        let request = self.request(Method::PUT, self.url(path)).body(body);
        self.checked(request).await?;
        Ok(())
    }

    /// A GET of something large, to be read piece by piece.
    pub async fn download(&self, path: &[&str]) -> Result<Response, ClientError> {
        self.checked(self.request(Method::GET, self.url(path)))
            .await
    }

    /// What to say of an answer that broke off.
    pub fn broken(&self, error: &reqwest::Error) -> ClientError {
        self.unreachable(error)
    }

    /// What to say of an answer that does not go on.
    pub fn silent(&self) -> ClientError {
        ClientError::Unreachable {
            url: self.base.clone(),
            reason: "the answer fell silent".into(),
        }
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let mut request = self
            .http
            .request(method, url)
            .header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let response = self.checked(request.timeout(ANSWER_WITHIN)).await?;
        let url = response.url().clone();
        let bytes = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).with_context(|| {
            format!("the answer of {url} is not what this version of pocketci understands")
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        // The innermost cause says it best ("connection refused").
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let reason = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            cause.to_string()
        };
        ClientError::Unreachable {
            url: self.base.clone(),
            reason,
        }
    }

    async fn checked(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let (message, details) = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => (body.error.message, body.error.details),
            Err(_) => (
                format!(
                    "the server answered {status}; is {} a PocketCI server?",
                    self.base
                ),
                Vec::new(),
            ),
        };
        if status == StatusCode::UNAUTHORIZED {
            return Err(ClientError::Unauthorized {
                url: self.base.clone(),
                message,
            });
        }
        Err(ClientError::Refused {
            status,
            message,
            details,
        })
    }

    /// A pipeline by name or id.
    pub async fn pipeline(&self, name_or_id: &str) -> anyhow::Result<Pipeline> {
        self.get(&["api", "pipelines", name_or_id], &[]).await
    }

    /// Gives every event of a run in order to `each` until the run ends, opening the stream again where it breaks.
    pub async fn follow(
        &self,
        run: &str,
        mut each: impl FnMut(RunEvent) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut after = 0;
        let mut failures = 0;
        loop {
            let request = self
                .request(Method::GET, self.url(&["api", "runs", run, "events"]))
                .header("last-event-id", after.to_string());
            let broken = match self.checked(request).await {
                Ok(response) => {
                    let before = after;
                    match self.read_events(response, &mut after, &mut each).await? {
                        Ended::Over => return Ok(()),
                        Ended::Broken(reason) => {
                            if after > before {
                                failures = 0;
                            }
                            reason
                        }
                    }
                }
                Err(error) if error.is_temporary() => error,
                Err(error) => return Err(error.into()),
            };
            failures += 1;
            if failures > MAX_RECONNECTS {
                return Err(broken.into());
            }
            let pause = RECONNECT_AFTER * 2u32.saturating_pow(failures - 1);
            tokio::time::sleep(pause.min(Duration::from_secs(5))).await;
        }
    }

    async fn read_events(
        &self,
        response: Response,
        after: &mut i64,
        each: &mut impl FnMut(RunEvent) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ended> {
        let mut stream = response.bytes_stream();
        let mut lines = Lines::default();
        loop {
            let bytes = match tokio::time::timeout(SILENCE_LIMIT, stream.next()).await {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(Some(Err(error))) => return Ok(Ended::Broken(self.unreachable(&error))),
                Ok(None) => {
                    return Ok(Ended::Broken(ClientError::Unreachable {
                        url: self.base.clone(),
                        reason: "the event stream ended before the run did".into(),
                    }));
                }
                Err(_) => {
                    return Ok(Ended::Broken(ClientError::Unreachable {
                        url: self.base.clone(),
                        reason: "the event stream fell silent".into(),
                    }));
                }
            };
            for line in lines.push(&bytes)? {
                let Some(data) = line.strip_prefix("data:") else {
                    continue;
                };
                let event: RunEvent = serde_json::from_str(data.trim_start())
                    .context("the server sent an event that this version does not know")?;
                if event.seq <= *after {
                    continue;
                }
                *after = event.seq;
                let last = matches!(
                    event.kind,
                    pocketci_proto::api::RunEventKind::RunFinished { .. }
                );
                each(event)?;
                if last {
                    return Ok(Ended::Over);
                }
            }
        }
    }
}

enum Ended {
    Over,
    Broken(ClientError),
}

/// Cuts a byte stream into lines.
#[derive(Default)]
struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<String>> {
        self.pending.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        if self.pending.len() > MAX_EVENT_BYTES {
            anyhow::bail!("the server sent an event larger than {MAX_EVENT_BYTES} bytes");
        }
        Ok(lines)
    }
}

/// Who sits at this machine.
pub fn user() -> String {
    let named = nix::unistd::User::from_uid(nix::unistd::Uid::current());
    match named {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => nix::unistd::Uid::current().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_stream_is_cut() {
        let text = "id: 1\ndata: {\"a\":\"é\"}\n\n";
        for cut in 0..text.len() {
            let mut lines = Lines::default();
            let mut all = lines.push(&text.as_bytes()[..cut]).unwrap();
            all.extend(lines.push(&text.as_bytes()[cut..]).unwrap());
            assert_eq!(all, ["id: 1", "data: {\"a\":\"é\"}", ""]);
        }
    }
}
