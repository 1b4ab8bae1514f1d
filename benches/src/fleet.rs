//! Many agents in one process: each holds its own connection and session, answers pings, and is given nothing, because
//! it offers no driver that the measured pipelines ask for.

use crate::stack::TOKEN;
use anyhow::{Context, bail};
use pb::agent_link_client::AgentLinkClient;
use pb::agent_message::Kind as FromAgent;
use pb::server_message::Kind as ToAgent;
use pocketci_proto::agent as pb;
use pocketci_proto::{PROTOCOL_MAX, PROTOCOL_MIN};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Request, Streaming};
use uuid::Uuid;

/// Connections made at once.
const AT_ONCE: usize = 50;

/// The connected agents; they leave with this.
pub struct Fleet {
    sessions: JoinSet<anyhow::Result<()>>,
    size: usize,
}

impl Fleet {
    /// Connects so many to the server at `grpc`.
    pub async fn connect(grpc: &str, size: usize) -> anyhow::Result<Self> {
        let mut sessions = JoinSet::new();
        let numbers: Vec<usize> = (0..size).collect();
        for some in numbers.chunks(AT_ONCE) {
            let opened = some.iter().map(|number| open(grpc, *number));
            for (outbound, inbound) in futures_util::future::try_join_all(opened).await? {
                sessions.spawn(live(outbound, inbound));
            }
        }
        Ok(Self { sessions, size })
    }

    /// Fails if any of them was let go meanwhile.
    pub fn still_connected(mut self) -> anyhow::Result<()> {
        if let Some(ended) = self.sessions.try_join_next() {
            ended?.context("a simulated agent")?;
            bail!("one of {} simulated agents was let go", self.size);
        }
        Ok(())
    }
}

type Outbound = mpsc::Sender<pb::AgentMessage>;

fn message(kind: FromAgent) -> pb::AgentMessage {
    pb::AgentMessage { kind: Some(kind) }
}

async fn open(
    grpc: &str,
    number: usize,
) -> anyhow::Result<(Outbound, Streaming<pb::ServerMessage>)> {
    let channel = Endpoint::from_shared(grpc.to_owned())?.connect().await?;
    let (outbound, messages) = mpsc::channel(16);
    let hello = pb::Hello {
        name: format!("simulated-{number}"),
        boot_id: Uuid::new_v4().as_bytes().to_vec().into(),
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        version: "bench".into(),
        labels: [("rack".to_owned(), format!("r{}", number % 40))].into(),
        slots: 4,
        drivers: vec!["docker".into()],
        ..pb::Hello::default()
    };
    outbound.send(message(FromAgent::Hello(hello))).await?;
    let mut request = Request::new(ReceiverStream::new(messages));
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {TOKEN}").parse()?);
    let mut inbound = AgentLinkClient::new(channel)
        .session(request)
        .await?
        .into_inner();
    let welcome = inbound.message().await?.and_then(|message| message.kind);
    match welcome {
        Some(ToAgent::Welcome(_)) => Ok((outbound, inbound)),
        _ => bail!("no Welcome"),
    }
}

async fn live(outbound: Outbound, mut inbound: Streaming<pb::ServerMessage>) -> anyhow::Result<()> {
    while let Some(told) = inbound.message().await? {
        if let Some(ToAgent::Ping(ping)) = told.kind {
            let pong = pb::Pong { nonce: ping.nonce };
            outbound.send(message(FromAgent::Pong(pong))).await?;
        }
    }
    Ok(())
}
