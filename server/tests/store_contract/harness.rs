//! The two storages, each fresh for each rule, and the shortest way to a stored run.

use bytes::Bytes;
use pocketci_proto::api::Driver;
use pocketci_server::model::agent::Registration;
use pocketci_server::model::pipeline::{ContentType, Labels, Pipeline, PutPipeline};
use pocketci_server::model::receipt::{Receipt, Verdict};
use pocketci_server::model::run::{End, Outcome, Reply, ReplyBy, Trigger, TriggerKind};
use pocketci_server::model::transition::{Applied, Change, Holder, Report};
use pocketci_server::model::*;
use pocketci_server::store::postgres::{Options, PostgresStore};
use pocketci_server::store::sqlite::SqliteStore;
use pocketci_server::store::*;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

pub type Db = Arc<dyn Store>;
pub const LEASE: Duration = Duration::from_secs(30);

pub async fn sqlite<F: Future<Output = ()>>(rule: impl FnOnce(Db) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let store: Db = SqliteStore::open(&folder.path().join("test.db"))
        .await
        .unwrap();
    rule(store.clone()).await;
    store.close().await;
}

/// A fresh database for one rule, dropped at its end.
pub async fn postgres<F: Future<Output = ()>>(rule: impl FnOnce(Db) -> F) {
    let database = TestDatabase::create().await;
    let store: Db = PostgresStore::connect(&database.url, Options { pool_size: 8 })
        .await
        .unwrap();
    rule(store.clone()).await;
    store.close().await;
    drop(store);
    database.drop().await;
}

pub struct TestDatabase {
    pub url: String,
    name: String,
    admin: tokio_postgres::Client,
}

impl TestDatabase {
    pub async fn create() -> Self {
        let url = std::env::var("POCKETCI_TEST_POSTGRES").expect(
            "run `make test`, or set POCKETCI_TEST_POSTGRES to the URL of a PostgreSQL superuser",
        );
        let (admin, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let (base, _) = url.rsplit_once('/').unwrap();
        Self {
            url: format!("{base}/{name}"),
            name,
            admin,
        }
    }

    pub async fn drop(self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.admin.batch_execute(&sql).await.unwrap();
    }
}

pub fn put(name: &str, source: &str) -> PutPipeline {
    PutPipeline {
        name: name.into(),
        content_type: ContentType::Ts,
        file_name: format!("{name}.ts"),
        source: source.into(),
        javascript: source.into(),
        source_map: "{}".into(),
        driver: None,
        labels: None,
        webhook_secrets: None,
    }
}

pub async fn pipeline(db: &Db, name: &str) -> Pipeline {
    db.put_pipeline(put(name, "1")).await.unwrap().pipeline
}

pub fn receipt(pipeline: &Pipeline, run_id: Option<RunId>) -> Receipt {
    Receipt {
        id: ReceiptId::new(),
        pipeline_id: pipeline.id,
        method: "POST".into(),
        url: "/api/webhooks/x?a=1&a=2&b=%zz+c".into(),
        headers: vec![
            ("x-bytes".into(), vec![b'a', 0xff, 0x80]),
            ("x-bytes".into(), b"second".to_vec()),
        ],
        body: Bytes::from_static(b"\x00\xffbody"),
        body_bytes: 6,
        body_sha256: [7; 32],
        remote_addr: "127.0.0.1:1".into(),
        provider: "generic".into(),
        event_type: String::new(),
        verdict: if run_id.is_some() {
            Verdict::Accepted
        } else {
            Verdict::Unauthorized
        },
        reason: String::new(),
        received_at: OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(),
        run_id,
    }
}

pub fn new_run(pipeline: &Pipeline) -> NewRun {
    let id = RunId::new();
    NewRun {
        id,
        pipeline_id: pipeline.id,
        pipeline_version: pipeline.version,
        revision_id: pipeline.revision_id,
        trigger: Trigger {
            kind: TriggerKind::Webhook,
            args: vec!["a".into()],
            jobs: vec![],
        },
        receipt: Some(receipt(pipeline, Some(id))),
        wants_reply: true,
        jobs: vec![NewJob {
            id: JobId::new(),
            name: "pipeline".into(),
            labels: Labels::new(),
            driver: None,
            hand_to: None,
        }],
        max_queue: 10_000,
    }
}

/// A stored, queued run.
pub async fn queued(db: &Db) -> NewRun {
    let pipeline = pipeline(db, "p").await;
    let run = new_run(&pipeline);
    assert_eq!(db.enqueue(run.clone()).await.unwrap(), Enqueued::Stored);
    run
}

pub fn registration(name: &str) -> Registration {
    Registration {
        name: name.into(),
        boot_id: BootId::new(),
        session_id: SessionId::new(),
        token_id: TokenId::new(),
        slots: 4,
        labels: Labels::new(),
        drivers: vec![Driver::Docker, Driver::Native],
        version: "0".into(),
    }
}

pub fn claim_request(agent_id: AgentId) -> ClaimRequest {
    ClaimRequest {
        agent_id,
        session_id: SessionId::new(),
        labels: Labels::new(),
        drivers: vec![Driver::Docker, Driver::Native],
        max: 100,
        accept_within: LEASE,
    }
}

/// One job in the hands of one session.
#[derive(Clone, Copy)]
pub struct Held {
    pub run_id: RunId,
    pub job_id: JobId,
    pub agent_id: AgentId,
    pub holder: Holder,
}

/// Claims the one queued job.
pub async fn claim(db: &Db) -> Held {
    let request = claim_request(AgentId::new());
    let mut claimed = db.claim(request.clone()).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let job = claimed.remove(0).job;
    Held {
        run_id: job.run_id,
        job_id: job.id,
        agent_id: request.agent_id,
        holder: Holder {
            attempt: job.attempt,
            session_id: request.session_id,
        },
    }
}

/// A run whose job is accepted.
pub async fn running(db: &Db) -> Held {
    queued(db).await;
    let held = claim(db).await;
    assert_eq!(held.report(db, 1, accepted()).await, Applied::Done);
    held
}

impl Held {
    pub async fn report(&self, db: &Db, seq: i32, report: Report) -> Applied {
        let change = Change::Report {
            job_id: self.job_id,
            holder: self.holder,
            seq,
            report,
        };
        db.submit(self.run_id, change).await.unwrap()
    }

    pub async fn change(&self, db: &Db, change: Change) -> Applied {
        db.submit(self.run_id, change).await.unwrap()
    }

    pub async fn expire(&self, db: &Db) -> Applied {
        self.change(
            db,
            Change::Expire {
                job_id: self.job_id,
            },
        )
        .await
    }
}

pub fn accepted() -> Report {
    accepted_for(LEASE)
}

pub fn accepted_for(lease: Duration) -> Report {
    Report::Accepted {
        agent_name: "agent".into(),
        lease,
    }
}

pub fn respond(status: u16) -> Report {
    Report::Respond(Reply {
        by: ReplyBy::Pipeline,
        status,
        headers: vec![("x-a".into(), "é".into()), ("x-a".into(), "2".into())],
        body: Bytes::from_static(b"\x00\xffok"),
    })
}

pub fn finished(outcome: Outcome, reason: &str, final_log_seq: i64) -> Report {
    Report::Finished {
        end: End {
            outcome,
            reason: reason.into(),
            message: "m".into(),
        },
        final_log_seq,
    }
}

/// Event names of a run, in order; fails if their numbers have a hole.
pub async fn events(db: &Db, run_id: RunId) -> Vec<String> {
    let all = db.events(run_id, 0, 10_000).await.unwrap().unwrap();
    for (at, event) in all.iter().enumerate() {
        assert_eq!(event.seq, at as i64 + 1, "a hole in {all:?}");
    }
    all.iter()
        .map(|event| match &event.body {
            run::EventBody::Fact(kind) => {
                let json = serde_json::to_value(kind).unwrap();
                json["event"].as_str().unwrap().to_owned()
            }
            run::EventBody::Log(_) => "log".into(),
        })
        .collect()
}

/// Waits for a lease to run out in the store's clock.
pub async fn until_expired(db: &Db) {
    for _ in 0..500 {
        if !db.expired(10).await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no lease ran out");
}
