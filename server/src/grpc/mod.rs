//! The agents' side of the server: two streams for each agent, and the pages they fetch.

mod adopt;
mod archives;
mod auth;
mod builds;
mod calls;
mod convert;
mod fetch;
mod intake;
mod journal;
mod logs;
mod sends;
mod session;
mod terminal;

use crate::runs::Runs;
use auth::Tokens;
use futures_util::Stream;
use pocketci_proto::agent as pb;
use pocketci_proto::agent::agent_link_server::{AgentLink, AgentLinkServer};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Messages waiting for a slow agent; more and its session is ended, to be opened again.
const OUTBOUND_MESSAGES: usize = 4096;
/// Both sides ping at least this often, as bytes of the application, for proxies that count nothing else.
pub const PING_EVERY: Duration = Duration::from_secs(15);
/// A peer that said nothing for so long is taken for dead.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(40);
/// Largest message accepted from an agent: an inline body and its headers with room to spare.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

type PageStream = Pin<Box<dyn Stream<Item = Result<pb::Page, Status>> + Send>>;

/// The gRPC service; clones are cheap.
#[derive(Clone)]
pub struct Link {
    inner: Arc<LinkInner>,
}

struct LinkInner {
    runs: Runs,
    tokens: Tokens,
    reply_within: Duration,
    shutdown: CancellationToken,
}

impl Link {
    /// A service over `runs`. `reply_within` is what agents are told about waiting callers; `shutdown` ends all
    /// sessions with GoAway.
    pub fn new(runs: Runs, reply_within: Duration, shutdown: CancellationToken) -> Self {
        let tokens = Tokens::new(runs.store().clone());
        Self {
            inner: Arc::new(LinkInner {
                runs,
                tokens,
                reply_within,
                shutdown,
            }),
        }
    }

    /// For a tonic server.
    pub fn into_service(self) -> AgentLinkServer<Self> {
        AgentLinkServer::new(self).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn runs(&self) -> &Runs {
        &self.inner.runs
    }
}

#[tonic::async_trait]
impl AgentLink for Link {
    type SessionStream = tokio_stream::wrappers::ReceiverStream<Result<pb::ServerMessage, Status>>;
    type LogsStream = Pin<Box<dyn Stream<Item = Result<pb::LogAck, Status>> + Send>>;
    type FetchRevisionStream = PageStream;
    type FetchBodyStream = PageStream;
    type FetchInputStream = PageStream;
    type TerminalStream = Pin<Box<dyn Stream<Item = Result<pb::TerminalDown, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let token_id = self.inner.tokens.check(request.metadata()).await?;
        session::open(self.clone(), token_id, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn logs(
        &self,
        request: Request<Streaming<pb::LogBatch>>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let entry = self.bound_session(request.metadata()).await?;
        let stream = logs::open(self.clone(), entry, request.into_inner());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn call(
        &self,
        request: Request<pb::CallRequest>,
    ) -> Result<Response<pb::CallReply>, Status> {
        let entry = self.bound_session(request.metadata()).await?;
        calls::answer(self, &entry, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn fetch_revision(
        &self,
        request: Request<pb::FetchRevisionRequest>,
    ) -> Result<Response<Self::FetchRevisionStream>, Status> {
        self.inner.tokens.check(request.metadata()).await?;
        fetch::revision(self, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn fetch_body(
        &self,
        request: Request<pb::FetchBodyRequest>,
    ) -> Result<Response<Self::FetchBodyStream>, Status> {
        let entry = self.bound_session(request.metadata()).await?;
        fetch::body(self, entry.agent_id, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn upload_reply(
        &self,
        request: Request<Streaming<pb::ReplyPage>>,
    ) -> Result<Response<pb::ReportAck>, Status> {
        let entry = self.bound_session(request.metadata()).await?;
        fetch::upload_reply(self, entry.session_id, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn terminal(
        &self,
        request: Request<Streaming<pb::TerminalUp>>,
    ) -> Result<Response<Self::TerminalStream>, Status> {
        let entry = self.bound_session(request.metadata()).await?;
        terminal::open(self, &entry, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn fetch_input(
        &self,
        request: Request<pb::FetchInputRequest>,
    ) -> Result<Response<Self::FetchInputStream>, Status> {
        let entry = self.bound_session(request.metadata()).await?;
        archives::input(self, entry.session_id, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn upload_output(
        &self,
        request: Request<Streaming<pb::OutputPage>>,
    ) -> Result<Response<pb::OutputAck>, Status> {
        let entry = self.bound_session(request.metadata()).await?;
        archives::output(self, entry.session_id, request.into_inner())
            .await
            .map(Response::new)
    }
}

impl Link {
    /// The session that a call says to belong to, which must have come with the same credential.
    async fn bound_session(
        &self,
        metadata: &tonic::metadata::MetadataMap,
    ) -> Result<Arc<crate::runs::dispatch::SessionEntry>, Status> {
        let token_id = self.inner.tokens.check(metadata).await?;
        let session_id = metadata
            .get("session-id")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Status::invalid_argument("metadata session-id is missing or no id"))?;
        self.runs()
            .dispatch()
            .get(session_id)
            .filter(|entry| entry.token_id == token_id)
            // A session that was welcomed a moment ago may not be entered yet: trying again helps.
            .ok_or_else(|| Status::unavailable("no such session; connect again"))
    }
}

/// The one place that turns store errors into gRPC ones; the details stay here.
fn store_status(error: &crate::store::StoreError) -> Status {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "store failed an agent's call"
    );
    match error {
        crate::store::StoreError::Unavailable(_) => {
            Status::unavailable("the server cannot reach its database; try again")
        }
        _ => Status::internal("internal error; see the server's log"),
    }
}
