//! A scripted agent against a real server: what it lies about in its logs, and what an older one leaves out.

use crate::logs::{all_events, trigger};
use pb::agent_link_client::AgentLinkClient;
use pb::agent_message::Kind as FromAgent;
use pb::log_chunk::{Encoding, Stream};
use pb::report::Kind as Report;
use pb::server_message::Kind as FromServer;
use pocketci_proto::agent as pb;
use pocketci_tests::{Server, ServerOptions};
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

/// An agent that says what a test wants.
struct Liar {
    link: AgentLinkClient<Channel>,
    session: mpsc::UnboundedSender<pb::AgentMessage>,
    said: tonic::Streaming<pb::ServerMessage>,
    session_id: String,
}

const TOKEN: &str = "test-agent-token";

fn request<T>(message: T, session_id: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    if let Some(id) = session_id {
        metadata.insert("session-id", id.parse().unwrap());
    }
    request
}

impl Liar {
    async fn connect(server: &Server, name: &str) -> Self {
        let mut link = AgentLinkClient::connect(server.grpc.clone()).await.unwrap();
        let (session, outbound) = mpsc::unbounded_channel();
        let hello = pb::Hello {
            name: name.into(),
            boot_id: uuid::Uuid::new_v4().as_bytes().to_vec().into(),
            protocol_min: 1,
            protocol_max: 1,
            slots: 8,
            drivers: vec!["native".into()],
            ..Default::default()
        };
        session
            .send(pb::AgentMessage {
                kind: Some(FromAgent::Hello(hello)),
            })
            .unwrap();
        let outbound = UnboundedReceiverStream::new(outbound);
        let mut said = link
            .session(request(outbound, None))
            .await
            .unwrap()
            .into_inner();
        let Some(FromServer::Welcome(welcome)) = said.message().await.unwrap().unwrap().kind else {
            panic!("no welcome");
        };
        assert!(welcome.packed_logs);
        let session_id = uuid::Uuid::from_slice(&welcome.session_id).unwrap();
        Self {
            link,
            session,
            said,
            session_id: session_id.to_string(),
        }
    }

    fn report(&self, reference: &pb::AttemptRef, seq: u32, kind: Report) {
        let report = pb::Report {
            r#ref: Some(reference.clone()),
            seq,
            kind: Some(kind),
        };
        let kind = Some(FromAgent::Report(report));
        self.session.send(pb::AgentMessage { kind }).unwrap();
    }

    async fn next(&mut self) -> FromServer {
        let message = tokio::time::timeout(Duration::from_secs(30), self.said.message());
        message
            .await
            .expect("an answer")
            .unwrap()
            .unwrap()
            .kind
            .unwrap()
    }

    /// The next job, accepted.
    async fn job(&mut self) -> pb::AttemptRef {
        loop {
            if let FromServer::Assign(assign) = self.next().await {
                let reference = assign.r#ref.unwrap();
                self.report(&reference, 1, Report::Accepted(pb::Accepted {}));
                return reference;
            }
        }
    }

    async fn lost(&mut self, reference: &pb::AttemptRef) {
        let renew = pb::Renew {
            held: vec![reference.clone()],
            nonce: 1,
        };
        let kind = Some(FromAgent::Renew(renew));
        self.session.send(pb::AgentMessage { kind }).unwrap();
        loop {
            if let FromServer::LeaseLost(lost) = self.next().await {
                assert_eq!(lost.r#ref.as_ref(), Some(reference));
                return;
            }
        }
    }
}

fn chunk(reference: &pb::AttemptRef, seq: u64, offset: u64, data: &[u8]) -> pb::LogChunk {
    pb::LogChunk {
        r#ref: Some(reference.clone()),
        seq,
        step: 0,
        stream: Stream::Stdout.into(),
        offset,
        data: data.to_vec().into(),
        ..Default::default()
    }
}

/// Ways to lie in a second chunk whose stream has come to byte 5.
fn lies(reference: &pb::AttemptRef, bomb: &[u8]) -> Vec<(&'static str, pb::LogChunk)> {
    let text = b"text ".repeat(1000);
    let frame = pocketci_proto::log::pack(&text).unwrap();
    let packed = |data: &[u8], size: u32| pb::LogChunk {
        encoding: Encoding::Zstd.into(),
        size,
        ..chunk(reference, 2, 5, data)
    };
    let gap = |bytes, reason: &str, data: &[u8]| pb::LogChunk {
        gap: Some(pb::LogGap {
            bytes,
            reason: reason.into(),
        }),
        ..chunk(reference, 2, 5, data)
    };
    vec![
        ("a size that is too small", packed(&frame, 4999)),
        ("a size that is too large", packed(&frame, 5001)),
        ("a bomb", packed(bomb, 64 * 1024)),
        ("a bomb that says its size", packed(bomb, 64 << 20)),
        ("a broken frame", packed(&frame[..frame.len() - 3], 5000)),
        ("no frame", packed(b"no frame at all", 15)),
        ("an offset before the end", chunk(reference, 2, 4, b"x")),
        ("an offset behind the end", chunk(reference, 2, 6, b"x")),
        (
            "an offset of the far end",
            chunk(reference, 2, u64::MAX, b"x"),
        ),
        ("nothing", chunk(reference, 2, 5, b"")),
        ("too much", chunk(reference, 2, 5, &[b'x'; 64 * 1024 + 1])),
        ("a gap of nothing", gap(0, "limit", b"")),
        ("a gap with output", gap(1, "limit", b"x")),
        ("a gap without end", gap(u64::MAX, "limit", b"")),
        ("a gap with a poem", gap(1, "Roses are red", b"")),
        (
            "an unknown stream",
            pb::LogChunk {
                stream: 9,
                ..chunk(reference, 2, 5, b"x")
            },
        ),
        (
            "an unknown encoding",
            pb::LogChunk {
                encoding: 9,
                ..chunk(reference, 2, 5, b"x")
            },
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_in_a_log_cost_their_attempt_and_nobody_else() {
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let id = client
        .set("p", "export default async () => {};", json!({}))
        .await;
    let mut liar = Liar::connect(&server, "liar").await;
    let (batches, outbound) = mpsc::unbounded_channel();
    let outbound = request(
        UnboundedReceiverStream::new(outbound),
        Some(&liar.session_id),
    );
    let mut acks = liar.link.logs(outbound).await.unwrap().into_inner();
    let send = |chunks: Vec<pb::LogChunk>| batches.send(pb::LogBatch { chunks }).unwrap();
    // 64 MiB of zeros in some KiB.
    let bomb = pocketci_proto::log::pack(&vec![0; 64 << 20]).unwrap();
    assert!(bomb.len() < 64 * 1024);
    // One that is honest all the time, on the same stream.
    let honest_run = trigger(&client, &id).await;
    let honest = liar.job().await;
    let count = lies(&honest, &bomb).len();
    let mut lied = Vec::new();
    for at in 0..count {
        let run = trigger(&client, &id).await;
        let reference = liar.job().await;
        let (what, lie) = lies(&reference, &bomb).swap_remove(at);
        let seq = at as u64 + 1;
        send(vec![
            chunk(&reference, 1, 0, b"true\n"),
            lie,
            chunk(&honest, seq, (seq - 1) * 7, b"honest\n"),
            chunk(&reference, 3, 6, b"later"),
        ]);
        let mut acked = Vec::new();
        while acked.len() < 2 {
            let ack = tokio::time::timeout(Duration::from_secs(30), acks.message());
            let ack = ack.await.expect(what).unwrap().unwrap();
            acked.push((ack.r#ref.unwrap(), ack.seq));
        }
        assert_eq!(
            acked,
            [(reference.clone(), 1), (honest.clone(), seq)],
            "{what}"
        );
        liar.lost(&reference).await;
        let log = server.process.log();
        let told: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("refused a log chunk"))
            .collect();
        assert_eq!(told.len(), at + 1, "{what}");
        assert!(told[at].contains("agent=liar"), "{what}");
        client
            .post(&format!("/api/runs/{run}/stop"), &json!({}))
            .await
            .unwrap();
        lied.push((what, run));
    }
    let end = pb::Finished {
        outcome: "succeeded".into(),
        final_log_seq: count as u64,
        ..Default::default()
    };
    liar.report(&honest, 2, Report::Finished(end));
    assert_eq!(client.finished(&honest_run).await["status"], "success");
    assert_eq!(client.logs(&honest_run).await, "honest\n".repeat(count));
    for (what, run) in lied {
        assert_eq!(client.finished(&run).await["status"], "aborted", "{what}");
        assert_eq!(client.logs(&run).await, "true\n", "{what}");
        let events = all_events(&client, &run).await;
        let requeued = events.iter().find(|event| event["event"] == "requeued");
        assert_eq!(requeued.unwrap()["reason"], "protocol_error", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_the_old_protocol_and_a_new_connection_are_understood() {
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let id = client
        .set("p", "export default async () => {};", json!({}))
        .await;
    let mut agent = Liar::connect(&server, "old").await;
    let run = trigger(&client, &id).await;
    let reference = agent.job().await;
    for connection in 0..2u64 {
        let (batches, outbound) = mpsc::unbounded_channel();
        let outbound = request(
            UnboundedReceiverStream::new(outbound),
            Some(&agent.session_id),
        );
        let mut acks = agent.link.logs(outbound).await.unwrap().into_inner();
        // The last chunk of the connection before comes again: it was not acknowledged.
        let first = (connection * 3).max(1);
        let chunks = (first..=connection * 3 + 3)
            .map(|seq| {
                chunk(
                    &reference,
                    seq,
                    (seq - 1) * 2,
                    format!("{seq}\n").as_bytes(),
                )
            })
            .collect();
        batches.send(pb::LogBatch { chunks }).unwrap();
        let ack = acks.message().await.unwrap().unwrap();
        assert_eq!(ack.seq, connection * 3 + 3);
    }
    let end = |last| {
        Report::Finished(pb::Finished {
            outcome: "succeeded".into(),
            final_log_seq: last,
            ..Default::default()
        })
    };
    agent.report(&reference, 2, end(6));
    assert_eq!(client.finished(&run).await["status"], "success");
    assert_eq!(client.logs(&run).await, "1\n2\n3\n4\n5\n6\n");
}
