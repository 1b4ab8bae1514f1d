//! What most rules begin with: a pipeline, a webhook's run, an agent that plays its part message by message.

use bytes::Bytes;
use pocketci_proto::api::{Driver, RunEventKind};
use pocketci_server::model::agent::Registration;
use pocketci_server::model::pipeline::{ContentType, Labels, Pipeline, PutPipeline};
use pocketci_server::model::receipt::{BodyPlace, Receipt, ReceivedFile, Verdict};
use pocketci_server::model::run::{
    CancelReason, Cancelled, End, Event, EventBody, LogData, LogPiece, LogStream, Outcome,
    QueueTerms, Reply, ReplyBy, Trigger, TriggerKind,
};
use pocketci_server::model::transition::{Applied, Change, Holder, Report};
use pocketci_server::model::{
    AgentId, BootId, JobId, PipelineId, ReceiptId, RunId, SessionId, TokenId,
};
use pocketci_server::store::wake::Wake;
use pocketci_server::store::{
    ClaimRequest, Claimed, Enqueued, HandOff, NewJob, NewRun, Registered, RunView, Store,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

/// The store under test.
pub type Shared = Arc<dyn Store>;

/// Longer than any test lasts.
pub const LONG: Duration = Duration::from_secs(600);

/// When to give up waiting for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `look` sees something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

pub fn put(name: &str) -> PutPipeline {
    PutPipeline {
        name: name.into(),
        content_type: ContentType::Ts,
        file_name: "pipeline.ts".into(),
        source: "export const pipeline = async (): Promise<void> => {};".into(),
        javascript: "export const pipeline = async () => {};".into(),
        source_map: "{\"version\":3}".into(),
        modules: vec![],
        driver: None,
        labels: None,
        webhook_secrets: None,
        settings: None,
        listens: vec![],
    }
}

pub async fn pipeline(store: &Shared, name: &str) -> Pipeline {
    store.put_pipeline(put(name)).await.unwrap().pipeline
}

/// Now, as exact as storages keep it.
pub fn now() -> OffsetDateTime {
    let micros = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(micros * 1_000).unwrap()
}

pub fn receipt(pipeline: &Pipeline, verdict: Verdict, run_id: Option<RunId>) -> Receipt {
    Receipt {
        verdict,
        run_id,
        ..bare_receipt(pipeline.id)
    }
}

/// An accepted request without a run.
pub fn bare_receipt(pipeline: PipelineId) -> Receipt {
    Receipt {
        id: ReceiptId::new(),
        pipeline_id: Some(pipeline),
        endpoint_id: None,
        event_key: None,
        method: "POST".into(),
        url: "/api/webhooks/x?a=1&a=2".into(),
        headers: vec![
            ("x-twice".into(), b"first".to_vec()),
            ("content-type".into(), b"application/octet-stream".to_vec()),
            ("x-twice".into(), vec![0xE9, 0xFF]),
        ],
        body: Bytes::from_static(&[0, 159, 146, 150, b'\n', 0]),
        body_place: BodyPlace::Inline,
        body_bytes: 6,
        body_sha256: [7; 32],
        files: vec![ReceivedFile {
            index: 1,
            name: "upload".into(),
            filename: "../naïve.txt".into(),
            content_type: "text/plain".into(),
            size: 3,
            sha256: "00".into(),
        }],
        form: vec![("a".into(), "1".into()), ("a".into(), "ü".into())],
        remote_addr: "127.0.0.1:4711".into(),
        provider: "github".into(),
        event_type: "push".into(),
        verdict: Verdict::Accepted,
        reason: String::new(),
        received_at: now(),
        run_id: None,
        delivery_id: Some("one".into()),
        attempt: Some(2),
        verified: true,
        secret_id: Some("0123456789abcdef".into()),
        redelivery_of: None,
        replay_of: Some(ReceiptId::new()),
        answer: None,
    }
}

pub fn job(name: &str) -> NewJob {
    NewJob {
        id: JobId::new(),
        name: name.into(),
        labels: Labels::new(),
        driver: None,
        build: None,
        terms: QueueTerms::default(),
        hand_to: None,
    }
}

/// A run of a webhook whose caller waits.
pub fn webhook(pipeline: &Pipeline) -> NewRun {
    let id = RunId::new();
    NewRun {
        id,
        pipeline_id: pipeline.id,
        pipeline_version: pipeline.version,
        revision_id: pipeline.revision_id,
        trigger: Trigger {
            kind: TriggerKind::Webhook,
            args: vec!["--fast".into()],
            jobs: vec!["pipeline".into()],
            check: None,
            one_off: None,
            anonymous: false,
        },
        receipt: Some(receipt(pipeline, Verdict::Accepted, Some(id))),
        wants_reply: true,
        group: None,
        jobs: vec![job("pipeline")],
        max_queue: 10_000,
        dedup: None,
        while_paused: false,
        replied: false,
    }
}

/// Stores a run that must be taken; its id.
pub async fn enqueue(store: &Shared, run: NewRun) -> RunId {
    let id = run.id;
    assert_eq!(store.enqueue(run).await.unwrap(), Enqueued::Stored);
    id
}

/// An agent, as the store sees it.
#[derive(Clone)]
pub struct Peer {
    pub id: AgentId,
    pub boot: BootId,
    pub session: SessionId,
    pub token: TokenId,
}

pub fn registration(name: &str, token_id: TokenId) -> Registration {
    Registration {
        name: name.into(),
        boot_id: BootId::new(),
        succeeds: false,
        session_id: SessionId::new(),
        token_id,
        slots: 4,
        labels: labels(&[("os", "linux")]),
        drivers: vec![Driver::Docker, Driver::Native],
        version: "0.1.0".into(),
    }
}

/// A registered agent.
pub async fn peer(store: &Shared, name: &str) -> Peer {
    let token = store.create_token("all", [1; 32]).await.unwrap().id;
    let registration = registration(name, token);
    let (boot, session) = (registration.boot_id, registration.session_id);
    match store.register(registration, LONG).await.unwrap() {
        Registered::As(id) => Peer {
            id,
            boot,
            session,
            token,
        },
        Registered::NameTaken => panic!("{name} is taken"),
    }
}

impl Peer {
    pub fn request(&self, max: i64) -> ClaimRequest {
        ClaimRequest {
            agent_id: self.id,
            session_id: self.session,
            labels: labels(&[("os", "linux")]),
            drivers: vec![Driver::Docker, Driver::Native],
            max,
            accept_within: LONG,
            age_step: LONG,
            max_running: None,
        }
    }

    pub async fn claim(&self, store: &Shared, max: i64) -> Vec<Claimed> {
        store.claim(self.request(max)).await.unwrap()
    }

    pub fn hand_off(&self, accept_within: Duration) -> HandOff {
        HandOff {
            agent_id: self.id,
            session_id: self.session,
            accept_within,
        }
    }
}

/// One attempt, in its agent's hands.
#[derive(Clone)]
pub struct Attempt {
    pub store: Shared,
    pub run: RunId,
    pub job: JobId,
    pub holder: Holder,
    pub last_seq: i32,
}

impl Attempt {
    /// Of a job just claimed by `peer`.
    pub fn of(store: &Shared, peer: &Peer, claimed: &Claimed) -> Self {
        Self {
            store: store.clone(),
            run: claimed.run.id,
            job: claimed.job.id,
            holder: Holder {
                attempt: claimed.job.attempt,
                session_id: peer.session,
            },
            last_seq: 0,
        }
    }

    pub fn change(&self, seq: i32, report: Report) -> Change {
        Change::Report {
            job_id: self.job,
            holder: self.holder,
            seq,
            report,
        }
    }

    /// The next report in order.
    pub async fn report(&mut self, report: Report) -> Applied {
        self.last_seq += 1;
        let change = self.change(self.last_seq, report);
        self.submit(change).await
    }

    pub async fn submit(&self, change: Change) -> Applied {
        self.store.submit(self.run, change).await.unwrap()
    }

    pub async fn accept(&mut self, lease: Duration) {
        assert_eq!(self.report(accepted(lease)).await, Applied::Done);
    }

    pub async fn finish(&mut self, outcome: Outcome) {
        assert_eq!(self.report(finished(outcome, 0)).await, Applied::Done);
    }

    pub async fn logs(&self, pieces: Vec<(i64, LogPiece)>) -> Applied {
        let change = Change::Logs {
            job_id: self.job,
            holder: self.holder,
            pieces,
        };
        self.submit(change).await
    }

    /// Waits until the lease has run out, then has the job taken away.
    pub async fn expire(&self) {
        eventually("the lease runs out", || async {
            let expired = self.store.expired(1_000).await.unwrap();
            expired.contains(&(self.run, self.job)).then_some(())
        })
        .await;
        let change = Change::Expire { job_id: self.job };
        assert_eq!(self.submit(change).await, Applied::Done);
    }
}

pub fn accepted(lease: Duration) -> Report {
    Report::Accepted {
        agent_name: "ann".into(),
        lease,
    }
}

pub fn finished(outcome: Outcome, final_log_seq: i64) -> Report {
    Report::Finished {
        end: End {
            outcome,
            reason: String::new(),
            actor: String::new(),
            message: "the end".into(),
        },
        final_log_seq,
    }
}

pub fn reply(status: u16) -> Reply {
    Reply {
        by: ReplyBy::Pipeline,
        status,
        headers: vec![
            ("x-b".into(), "1".into()),
            ("x-a".into(), "2".into()),
            ("x-b".into(), "3".into()),
        ],
        body: Bytes::from_static(&[0, 255, b'x']),
    }
}

pub fn piece(bytes: &'static [u8]) -> LogPiece {
    LogPiece {
        step: 0,
        stream: LogStream::Stdout,
        offset: 0,
        data: LogData::Raw(Bytes::from_static(bytes)),
    }
}

/// A stored webhook run whose job `peer` holds, not accepted yet.
pub async fn assigned(store: &Shared, pipeline: &Pipeline, peer: &Peer) -> Attempt {
    assigned_within(store, pipeline, peer, LONG).await
}

pub async fn assigned_within(
    store: &Shared,
    pipeline: &Pipeline,
    peer: &Peer,
    accept_within: Duration,
) -> Attempt {
    let mut run = webhook(pipeline);
    run.jobs[0].hand_to = Some(peer.hand_off(accept_within));
    let job = run.jobs[0].id;
    let holder = Holder {
        attempt: 1,
        session_id: peer.session,
    };
    Attempt {
        store: store.clone(),
        run: enqueue(store, run).await,
        job,
        holder,
        last_seq: 0,
    }
}

/// A stored webhook run whose job `peer` has accepted.
pub async fn running(store: &Shared, pipeline: &Pipeline, peer: &Peer) -> Attempt {
    let mut attempt = assigned(store, pipeline, peer).await;
    attempt.accept(LONG).await;
    attempt
}

pub async fn view(store: &Shared, run: RunId) -> RunView {
    store.run(run).await.unwrap().expect("the run is stored")
}

/// All events, which must be numbered without holes up to the run's own count.
pub async fn events(store: &Shared, run: RunId) -> Vec<Event> {
    let events = store.events(run, 0, 100_000).await.unwrap().unwrap();
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    let expected: Vec<i64> = (1..=view(store, run).await.run.event_seq).collect();
    assert_eq!(numbers, expected, "events have no holes");
    events
}

/// The words of the facts, and `log` for output.
pub async fn event_words(store: &Shared, run: RunId) -> Vec<String> {
    let word = |event: &Event| match &event.body {
        EventBody::Log(_) => "log".to_string(),
        EventBody::Fact(kind) => fact_word(kind),
    };
    events(store, run).await.iter().map(word).collect()
}

fn fact_word(kind: &RunEventKind) -> String {
    let json = serde_json::to_value(kind).unwrap();
    json["event"].as_str().unwrap().to_string()
}

/// Everything that is stored of a run, to see that nothing changed.
pub async fn picture(store: &Shared, run: RunId) -> String {
    let view = view(store, run).await;
    let reply = view.reply.map(|reply| (reply.status, reply.body));
    let events = events(store, run).await;
    format!("{:?} {:?} {reply:?} {events:?}", view.run, view.jobs)
}

/// Somebody asks to stop a run.
pub fn cancel_by(actor: &str) -> Change {
    Change::Cancel(Cancelled {
        actor: actor.into(),
        reason: CancelReason::User,
    })
}

/// The next wake about something; that hints may have been lost is said whenever a listener connects, so at any time.
pub async fn next_wake(wakes: &mut Receiver<Wake>) -> Wake {
    let wait = async {
        loop {
            match wakes.recv().await.expect("the bus lives and is heard") {
                Wake::Lost => {}
                wake => return wake,
            }
        }
    };
    timeout(Duration::from_secs(20), wait)
        .await
        .expect("a wake comes")
}
