//! A lying agent, spoken over the wire itself: what it does not hold it cannot change.

use super::{appears, effects, event, house, trigger, waiting_step};
use pb::agent_link_client::AgentLinkClient;
use pb::agent_message::Kind as Say;
use pb::report::Kind as Report;
use pb::server_message::Kind as Heard;
use pocketci_proto::agent as pb;
use pocketci_tests::chaos::{cluster, postgres};
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

/// How long the server may take to answer a message.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A scripted agent.
pub struct Peer {
    client: AgentLinkClient<Channel>,
    say: mpsc::UnboundedSender<pb::AgentMessage>,
    heard: Streaming<pb::ServerMessage>,
    session: String,
}

fn authorized<T>(message: T, session: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {}", cluster::token()).parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    if let Some(session) = session {
        request
            .metadata_mut()
            .insert("session-id", session.parse().unwrap());
    }
    request
}

impl Peer {
    /// Says Hello and is welcomed.
    pub async fn connect(grpc: &str, name: &str, slots: u32) -> Self {
        let mut client = AgentLinkClient::connect(format!("http://{grpc}"))
            .await
            .unwrap();
        let (say, outbound) = mpsc::unbounded_channel();
        let hello = pb::Hello {
            name: name.into(),
            boot_id: uuid::Uuid::new_v4().as_bytes().to_vec().into(),
            protocol_min: pocketci_proto::PROTOCOL_MIN,
            protocol_max: pocketci_proto::PROTOCOL_MAX,
            version: "scripted".into(),
            slots,
            drivers: vec!["native".into()],
            labels: [("scripted".to_owned(), name.to_owned())].into(),
            ..pb::Hello::default()
        };
        say.send(pb::AgentMessage {
            kind: Some(Say::Hello(hello)),
        })
        .unwrap();
        let request = authorized(UnboundedReceiverStream::new(outbound), None);
        let mut heard = client.session(request).await.unwrap().into_inner();
        let first = heard.message().await.unwrap().unwrap();
        let Some(Heard::Welcome(welcome)) = first.kind else {
            panic!("expected Welcome, got {first:?}");
        };
        let session = uuid::Uuid::from_slice(&welcome.session_id)
            .unwrap()
            .to_string();
        Self {
            client,
            say,
            heard,
            session,
        }
    }

    fn say(&self, kind: Say) {
        self.say
            .send(pb::AgentMessage { kind: Some(kind) })
            .unwrap();
    }

    async fn hear(&mut self) -> Heard {
        let next = tokio::time::timeout(ANSWER_WITHIN, self.heard.message());
        next.await.unwrap().unwrap().unwrap().kind.unwrap()
    }

    /// Waits for GoAway; its delay in milliseconds.
    pub async fn go_away(&mut self) -> u32 {
        loop {
            if let Heard::GoAway(told) = self.hear().await {
                return told.reconnect_after_ms;
            }
        }
    }

    /// Says a report and expects to be told that the attempt is not its own.
    async fn report_is_refused(&mut self, attempt: &pb::AttemptRef, seq: u32, kind: Report) {
        self.say(Say::Report(pb::Report {
            r#ref: Some(attempt.clone()),
            seq,
            kind: Some(kind.clone()),
        }));
        match self.hear().await {
            Heard::LeaseLost(lost) => assert_eq!(lost.r#ref.as_ref(), Some(attempt)),
            other => panic!("{kind:?} of {attempt:?} was answered with {other:?}"),
        }
    }
}

fn finished() -> Report {
    Report::Finished(pb::Finished {
        outcome: "succeeded".into(),
        ..pb::Finished::default()
    })
}

fn respond() -> Report {
    Report::Respond(pb::Respond {
        status: 299,
        body: "a lie".into(),
        ..pb::Respond::default()
    })
}

/// The chunk of a log that nobody wrote.
fn chunk(attempt: &pb::AttemptRef) -> pb::LogBatch {
    pb::LogBatch {
        chunks: vec![pb::LogChunk {
            r#ref: Some(attempt.clone()),
            seq: 1,
            stream: pb::log_chunk::Stream::Stdout.into(),
            data: "a lie".into(),
            ..pb::LogChunk::default()
        }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_agent_changes_nothing_and_is_told_that_the_lease_is_lost() {
    let house = house(2, 1, &["--lease", "20s"]).await;
    let client = house.cluster.client(0);
    let folder = tempfile::tempdir().unwrap();
    let content = format!(
        "export default async () => {{ {} }};",
        waiting_step(folder.path())
    );
    let id = client.set("p", &content, json!({})).await;
    let (run, other_run) = (trigger(&client, &id).await, trigger(&client, &id).await);
    appears(&folder.path().join("effects")).await;
    for run in [&run, &other_run] {
        event(&client, run, "step_started").await;
    }
    let database = postgres::connect(&house.store.url).await;
    let sql = "SELECT id FROM jobs WHERE run_id = $1";
    let run_id: uuid::Uuid = run.parse().unwrap();
    let job_id: uuid::Uuid = database.query_one(sql, &[&run_id]).await.unwrap().get(0);
    let other_id: uuid::Uuid = other_run.parse().unwrap();
    let bytes = |id: &uuid::Uuid| bytes::Bytes::from(id.as_bytes().to_vec());
    let reference = |run: &uuid::Uuid, job: &uuid::Uuid, attempt| pb::AttemptRef {
        run_id: bytes(run),
        job_id: bytes(job),
        attempt,
    };
    let current = reference(&run_id, &job_id, 1);
    let lies = [
        current.clone(),
        // An attempt that is not yet, one that never was, the job in another run, and nothing at all.
        reference(&run_id, &job_id, 2),
        reference(&run_id, &job_id, 0),
        reference(&other_id, &job_id, 1),
        reference(&uuid::Uuid::now_v7(), &uuid::Uuid::now_v7(), 1),
    ];
    let before = (client.events(&run).await, client.events(&other_run).await);
    // At the agent's own server and at another one.
    for (at, server) in house.cluster.servers.iter().enumerate() {
        let mut liar = Peer::connect(&server.grpc.to_string(), &format!("liar-{at}"), 1).await;
        for lie in &lies {
            for seq in [1, 2, 3, 100] {
                liar.report_is_refused(lie, seq, finished()).await;
                liar.report_is_refused(lie, seq, respond()).await;
                liar.report_is_refused(lie, seq, Report::Accepted(pb::Accepted {}))
                    .await;
                let reason = "a lie".to_owned();
                liar.report_is_refused(lie, seq, Report::Rejected(pb::Rejected { reason }))
                    .await;
            }
            let held = vec![lie.clone()];
            liar.say(Say::Renew(pb::Renew { held, nonce: 7 }));
            let lost = liar.hear().await;
            assert!(
                matches!(&lost, Heard::LeaseLost(lost) if lost.r#ref.as_ref() == Some(lie)),
                "{lost:?}"
            );
            let ack = liar.hear().await;
            assert!(
                matches!(&ack, Heard::RenewAck(ack) if ack.held.is_empty()),
                "{ack:?}"
            );
            let asked = pb::CallRequest {
                r#ref: Some(lie.clone()),
                kind: Some(pb::call_request::Kind::Storage(pb::StorageCall {
                    verb: "put".into(),
                    key: "k".into(),
                    value_json: "1".into(),
                })),
            };
            let refused = liar
                .client
                .call(authorized(asked, Some(&liar.session)))
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
            let batches = tokio_stream::iter([chunk(lie)]);
            let mut acks = liar
                .client
                .logs(authorized(batches, Some(&liar.session)))
                .await
                .unwrap()
                .into_inner();
            let ack = acks.message().await;
            assert!(matches!(ack, Ok(None)), "nothing is acknowledged: {ack:?}");
        }
    }
    let after = (client.events(&run).await, client.events(&other_run).await);
    assert_eq!(before, after);
    let values = database
        .query("SELECT key FROM stored_values", &[])
        .await
        .unwrap();
    assert!(values.is_empty());
    std::fs::write(folder.path().join("go"), "").unwrap();
    for run in [&run, &other_run] {
        let ended = client.finished(run).await;
        assert_eq!(
            (&ended["status"], &ended["jobs"][0]["attempt"]),
            (&json!("success"), &json!(1)),
            "{ended}"
        );
    }
    assert_eq!(effects(folder.path()), "attempt 1\n".repeat(2));
}
