//! Rolling upgrades: today's server works with agents of the previous protocol, today's agents with such a server, and
//! what is too old or too new is told so. The previous one is a frozen copy, spoken by scripts.

use futures_util::Stream;
use pb::agent_link_client::AgentLinkClient;
use pb::agent_link_server::{AgentLink, AgentLinkServer};
use pb::agent_message::Kind as FromAgent;
use pb::report::Kind as Told;
use pb::server_message::Kind as FromServer;
use pocketci_tests::previous as pb;
use pocketci_tests::process::Agent;
use pocketci_tests::{Server, ServerOptions, until};
use serde_json::json;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

const TOKEN: &str = "test-agent-token";

fn from_agent(kind: FromAgent) -> pb::AgentMessage {
    pb::AgentMessage { kind: Some(kind) }
}

fn hello(name: &str, min: u32, max: u32) -> pb::Hello {
    pb::Hello {
        name: name.into(),
        boot_id: Uuid::new_v4().as_bytes().to_vec().into(),
        protocol_min: min,
        protocol_max: max,
        version: "0.0.1".into(),
        slots: 1,
        drivers: vec!["native".into()],
        ..pb::Hello::default()
    }
}

fn authorized<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = format!("Bearer {TOKEN}").parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    request
}

async fn session(
    grpc: &str,
    hello: pb::Hello,
) -> Result<
    (
        AgentLinkClient<Channel>,
        mpsc::Sender<pb::AgentMessage>,
        Streaming<pb::ServerMessage>,
    ),
    Status,
> {
    let channel = Endpoint::from_shared(grpc.to_owned()).unwrap();
    let mut client = AgentLinkClient::new(channel.connect().await.unwrap());
    let (outbound, messages) = mpsc::channel(16);
    outbound
        .send(from_agent(FromAgent::Hello(hello)))
        .await
        .unwrap();
    let inbound = client
        .session(authorized(ReceiverStream::new(messages)))
        .await?;
    Ok((client, outbound, inbound.into_inner()))
}

/// The next message that is not about the connection itself.
async fn heard(inbound: &mut Streaming<pb::ServerMessage>) -> FromServer {
    loop {
        match inbound.message().await.unwrap().unwrap().kind.unwrap() {
            FromServer::Ping(_) => {}
            other => return other,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_the_previous_protocol_carries_out_a_job() {
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let source = "export default () => { http.respond({ status: 200, body: 'not run here' }); };";
    let id = client.set("old", source, json!({})).await;
    let (mut link, outbound, mut inbound) =
        session(&server.grpc, hello("old", 1, 1)).await.unwrap();
    let FromServer::Welcome(welcome) = heard(&mut inbound).await else {
        panic!("no Welcome");
    };
    assert_eq!(welcome.protocol, 1);
    let caller = tokio::spawn(client.webhook(&id).body("hi").send());
    let FromServer::Assign(assign) = heard(&mut inbound).await else {
        panic!("no Assign");
    };
    let attempt = assign.r#ref.clone();
    let revision = pb::FetchRevisionRequest {
        revision_id: assign.revision_id.clone(),
    };
    let mut pages = link
        .fetch_revision(authorized(revision))
        .await
        .unwrap()
        .into_inner();
    assert!(
        pages.message().await.unwrap().is_some(),
        "the program can be fetched"
    );
    let tell = async |seq: u32, kind: Told| {
        let report = pb::Report {
            r#ref: attempt.clone(),
            seq,
            kind: Some(kind),
        };
        outbound
            .send(from_agent(FromAgent::Report(report)))
            .await
            .unwrap();
    };
    tell(1, Told::Accepted(pb::Accepted {})).await;
    tell(
        2,
        Told::Respond(pb::Respond {
            status: 207,
            headers: vec![],
            body: "from yesterday".into(),
        }),
    )
    .await;
    let answer = caller.await.unwrap().unwrap();
    assert_eq!(answer.status(), 207);
    assert_eq!(answer.text().await.unwrap(), "from yesterday");
    // Output as it was then: raw chunks.
    let chunk = pb::LogChunk {
        r#ref: attempt.clone(),
        seq: 1,
        stream: pb::log_chunk::Stream::Stdout.into(),
        data: "an old line\n".into(),
        ..pb::LogChunk::default()
    };
    let mut batches = authorized(tokio_stream::iter([pb::LogBatch {
        chunks: vec![chunk],
    }]));
    let session_id = Uuid::from_slice(&welcome.session_id).unwrap().to_string();
    batches
        .metadata_mut()
        .insert("session-id", session_id.parse().unwrap());
    let mut acks = link.logs(batches).await.unwrap().into_inner();
    assert_eq!(acks.message().await.unwrap().unwrap().seq, 1);
    tell(
        3,
        Told::Finished(pb::Finished {
            outcome: "succeeded".into(),
            final_log_seq: 1,
            ..pb::Finished::default()
        }),
    )
    .await;
    let run = client.newest_run().await;
    assert_eq!(client.finished(&run).await["status"], "success");
    assert_eq!(client.logs(&run).await, "an old line\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_speaks_nothing_we_know_is_told_which_side_to_upgrade() {
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let refused = session(&server.grpc, hello("future", 900, 901))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(
        refused.message().contains("900..=901")
            && refused.message().contains("upgrade the older side"),
        "{}",
        refused.message()
    );
}

/// A server of the previous protocol with one job to give; remembers what it is told.
#[derive(Clone, Default)]
struct Yesterday {
    told: Arc<Mutex<Vec<Told>>>,
    output: Arc<Mutex<Vec<u8>>>,
    hello: Arc<Mutex<Option<pb::Hello>>>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

const OLD_PROGRAM: &str = "export default async () => {
  console.log('line one');
  const done = await runtime.run({ command: { path: 'echo', args: ['of a step'] } });
  await new Promise((r) => setTimeout(r, 10));
  http.respond({ status: 201, body: `${done.code} ${typeof Math.random()}` });
  console.log('x'.repeat(100000));
};";

fn job() -> pb::AttemptRef {
    let id = |byte: u8| vec![byte; 16].into();
    pb::AttemptRef {
        run_id: id(1),
        job_id: id(2),
        attempt: 1,
    }
}

fn assignment() -> pb::Assign {
    pb::Assign {
        r#ref: Some(job()),
        accept_within_ms: 5_000,
        lease_ms: 30_000,
        reply_within_ms: 5_000,
        revision_id: vec![3; 16].into(),
        pipeline_id: Uuid::from_bytes([4; 16]).to_string(),
        pipeline_name: "old".into(),
        job_name: "pipeline".into(),
        driver: "native".into(),
        trigger: Some(pb::Trigger {
            kind: "webhook".into(),
            webhook: Some(pb::WebhookRequest {
                method: "POST".into(),
                ..pb::WebhookRequest::default()
            }),
            ..pb::Trigger::default()
        }),
        ..pb::Assign::default()
    }
}

impl Yesterday {
    async fn serve(
        &self,
        mut inbound: Streaming<pb::AgentMessage>,
        out: mpsc::Sender<Result<pb::ServerMessage, Status>>,
    ) {
        let say = async |kind: FromServer| {
            let _ = out.send(Ok(pb::ServerMessage { kind: Some(kind) })).await;
        };
        while let Ok(Some(message)) = inbound.message().await {
            match message.kind {
                Some(FromAgent::Hello(hello)) => {
                    *self.hello.lock().unwrap() = Some(hello);
                    say(FromServer::Welcome(pb::Welcome {
                        session_id: vec![9; 16].into(),
                        protocol: 1,
                        server_version: "0.0.1".into(),
                        lease_ms: 30_000,
                        ping_every_ms: 15_000,
                        held: vec![],
                    }))
                    .await;
                    say(FromServer::Assign(assignment())).await;
                }
                Some(FromAgent::Report(report)) => {
                    let seq = report.seq;
                    self.told.lock().unwrap().extend(report.kind);
                    let ack = pb::ReportAck {
                        r#ref: report.r#ref,
                        seq,
                    };
                    say(FromServer::ReportAck(ack)).await;
                }
                Some(FromAgent::Renew(renew)) => {
                    say(FromServer::RenewAck(pb::RenewAck {
                        held: renew.held,
                        nonce: renew.nonce,
                        lease_ms: 30_000,
                    }))
                    .await;
                }
                _ => {}
            }
        }
    }
}

#[tonic::async_trait]
impl AgentLink for Yesterday {
    type SessionStream = Answers<pb::ServerMessage>;
    type LogsStream = Answers<pb::LogAck>;
    type FetchRevisionStream = Answers<pb::Page>;
    type FetchBodyStream = Answers<pb::Page>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (out, answers) = mpsc::channel(16);
        let this = self.clone();
        tokio::spawn(async move { this.serve(request.into_inner(), out).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn logs(
        &self,
        request: Request<Streaming<pb::LogBatch>>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let mut batches = request.into_inner();
        let (out, acks) = mpsc::channel(16);
        let output = self.output.clone();
        tokio::spawn(async move {
            while let Ok(Some(batch)) = batches.message().await {
                for chunk in batch.chunks {
                    output.lock().unwrap().extend_from_slice(&chunk.data);
                    let ack = pb::LogAck {
                        r#ref: chunk.r#ref,
                        seq: chunk.seq,
                    };
                    let _ = out.send(Ok(ack)).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(acks))))
    }

    async fn fetch_revision(
        &self,
        _: Request<pb::FetchRevisionRequest>,
    ) -> Result<Response<Self::FetchRevisionStream>, Status> {
        let revision = pb::Revision {
            content_type: "ts".into(),
            file_name: "old.ts".into(),
            source: OLD_PROGRAM.into(),
            javascript: OLD_PROGRAM.into(),
            ..pb::Revision::default()
        };
        let page = pb::Page {
            data: prost::Message::encode_to_vec(&revision).into(),
        };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(page)]))))
    }

    async fn fetch_body(
        &self,
        _: Request<pb::FetchBodyRequest>,
    ) -> Result<Response<Self::FetchBodyStream>, Status> {
        Err(Status::not_found("no body"))
    }

    async fn call(
        &self,
        request: Request<pb::CallRequest>,
    ) -> Result<Response<pb::CallReply>, Status> {
        // What that protocol did not know arrives as nothing.
        match request.into_inner().kind {
            Some(_) => Err(Status::unimplemented("not in this test")),
            None => Err(Status::invalid_argument("protocol error: empty call")),
        }
    }

    async fn upload_reply(
        &self,
        _: Request<Streaming<pb::ReplyPage>>,
    ) -> Result<Response<pb::ReportAck>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_today_works_for_a_server_of_the_previous_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = Yesterday::default();
    let serving = tonic::transport::Server::builder()
        .add_service(AgentLinkServer::new(server.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let serving = tokio::spawn(serving);
    let _agent = Agent::start(&address, "new", &[]);
    let end = until("the job ends", || async {
        let told = server.told.lock().unwrap();
        told.iter().find_map(|told| match told {
            Told::Finished(finished) => Some(finished.clone()),
            _ => None,
        })
    })
    .await;
    serving.abort();
    assert_eq!(end.outcome, "succeeded", "{}", end.message);
    let told = server.told.lock().unwrap();
    let respond = told.iter().find_map(|told| match told {
        Told::Respond(respond) => Some(respond.clone()),
        _ => None,
    });
    let respond = respond.expect("a reply");
    assert_eq!((respond.status, &respond.body[..]), (201, &b"0 number"[..]));
    let hello = server.hello.lock().unwrap().clone().unwrap();
    assert_eq!(hello.protocol_min, 1);
    let output = String::from_utf8(server.output.lock().unwrap().clone()).unwrap();
    let expected = format!("line one\nof a step\n{}\n", "x".repeat(100_000));
    assert_eq!(output, expected, "raw, as that server stores it");
}
