//! The gRPC channel to the server and the credentials of each call.

use super::AgentError;
use crate::config::AgentConfig;
use pb::agent_link_client::AgentLinkClient;
use pocketci_proto::agent as pb;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

/// How long a connection may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Largest message from the server: an Assign with an inline body, with room to spare.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// A channel that connects when first used, and again after it broke.
pub(super) fn channel(config: &AgentConfig) -> Result<Channel, AgentError> {
    let bad = |error: tonic::transport::Error| {
        AgentError::Config(format!(
            "cannot use the server's address {:?}: {error}; expected http://HOST:PORT or https://HOST:PORT",
            config.server_url
        ))
    };
    let mut endpoint = Endpoint::from_shared(config.server_url.clone())
        .map_err(bad)?
        .connect_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024);
    if config.server_url.starts_with("https://") {
        let tls = match &config.tls_ca {
            Some(file) => {
                let pem = std::fs::read(file).map_err(|error| {
                    AgentError::Config(format!("cannot read {}: {error}", file.display()))
                })?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        endpoint = endpoint.tls_config(tls).map_err(bad)?;
    }
    Ok(endpoint.connect_lazy())
}

/// One connection's client with its credentials.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: AgentLinkClient<Channel>,
    bearer: MetadataValue<Ascii>,
    session: Option<MetadataValue<Ascii>>,
    /// Whether the server keeps tries of `webhook.send`.
    pub(super) notes_sends: bool,
}

impl Connection {
    pub(super) fn new(channel: Channel, config: &AgentConfig) -> Result<Self, AgentError> {
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", config.token.expose())
            .parse()
            .map_err(|_| AgentError::Config("the token has characters that no token has".into()))?;
        bearer.set_sensitive(true);
        Ok(Self {
            client: AgentLinkClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES),
            bearer,
            session: None,
            notes_sends: false,
        })
    }

    /// Further calls belong to this session.
    pub(super) fn bind(&mut self, session_id: &[u8]) -> Result<(), Status> {
        let id = uuid::Uuid::from_slice(session_id)
            .map_err(|_| Status::internal("the server sent a bad session id"))?;
        let value = id
            .to_string()
            .parse()
            .map_err(|_| Status::internal("bad session id"))?;
        self.session = Some(value);
        Ok(())
    }

    /// A request with the credentials.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.bearer.clone());
        if let Some(session) = &self.session {
            metadata.insert("session-id", session.clone());
        }
        request
    }
}
