//! The sender over a real store and real sockets: what is told arrives, signed, in spite of its receivers.
#![allow(clippy::unwrap_used)] // a failed expectation of a test is a panic

mod receiver;

use pocketci_outside::signature::{self, Signed};
use pocketci_server::deliveries::{Deliveries, DeliverySettings};
use pocketci_server::model::delivery::{
    Delivery, DeliveryFilter, DeliveryState, Origin, TryRequest, TryState,
};
use pocketci_server::model::pipeline::{ContentType, Labels, Pipeline, PutPipeline};
use pocketci_server::model::run::{CancelReason, Cancelled, QueueTerms, Trigger, TriggerKind};
use pocketci_server::model::subscription::{
    EventName, SealedHeader, SealedKey, Subscription, SubscriptionTerms, header_place, secret_place,
};
use pocketci_server::model::transition::Change;
use pocketci_server::model::vault::{SecretKey, Vault};
use pocketci_server::model::{JobId, RunId, SubscriptionId};
use pocketci_server::store::sqlite::SqliteStore;
use pocketci_server::store::{
    DeliveryClaim, Enqueued, NewJob, NewRun, NewTry, Queued, Store, SubscriptionPut,
};
use receiver::Receiver;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

struct World {
    store: Arc<dyn Store>,
    pipeline: Pipeline,
    shutdown: CancellationToken,
    sender: Option<JoinHandle<()>>,
    deliveries: Deliveries,
    _folder: TempDir,
}

fn vault() -> Vault {
    Vault::new(&SecretKey::new([1; 32]), &[])
}

impl World {
    async fn new(within: Duration) -> Self {
        let folder = TempDir::new().unwrap();
        let store: Arc<dyn Store> = SqliteStore::open(&folder.path().join("pocketci.db")).unwrap();
        let put = PutPipeline {
            name: "build".into(),
            content_type: ContentType::Ts,
            file_name: "pipeline.ts".into(),
            source: "x".into(),
            javascript: "x".into(),
            source_map: "{}".into(),
            modules: vec![],
            driver: None,
            labels: None,
            webhook_secrets: None,
            settings: None,
            listens: Vec::new(),
        };
        let pipeline = store.put_pipeline(put).await.unwrap().pipeline;
        let settings = DeliverySettings {
            allow: vec!["127.0.0.1".parse().unwrap()],
            schedule: vec![Duration::from_millis(30); 4],
            within,
            ..DeliverySettings::default()
        };
        let deliveries = Deliveries::new(store.clone(), settings, vault());
        Self {
            store,
            pipeline,
            shutdown: CancellationToken::new(),
            sender: None,
            deliveries,
            _folder: folder,
        }
    }

    fn start(&mut self) {
        let serving = self.deliveries.clone().serve(self.shutdown.clone());
        self.sender = Some(tokio::spawn(serving));
    }

    async fn subscribe(
        &self,
        name: &str,
        to: &Receiver,
        change: impl FnOnce(SubscriptionId, &mut SubscriptionTerms),
    ) -> Subscription {
        let id = SubscriptionId::new();
        let mut terms = SubscriptionTerms {
            name: name.into(),
            url: to.url.clone(),
            events: vec![EventName::WorkflowCompleted],
            pipeline_id: None,
            secrets: Vec::new(),
            verify_tls: true,
            ca_pem: None,
            headers: Vec::new(),
            filter: None,
            concurrency: 4,
            rate_per_second: None,
            schedule: None,
            ordered: false,
        };
        change(id, &mut terms);
        match self.store.create_subscription(id, terms).await.unwrap() {
            SubscriptionPut::Stored(stored) => *stored,
            _ => panic!("not stored"),
        }
    }

    /// A run that is over at once.
    async fn end_run(&self) -> RunId {
        let id = RunId::new();
        let run = NewRun {
            id,
            pipeline_id: self.pipeline.id,
            pipeline_version: self.pipeline.version,
            revision_id: self.pipeline.revision_id,
            trigger: Trigger::new(TriggerKind::Manual),
            receipt: None,
            wants_reply: false,
            group: None,
            jobs: vec![NewJob {
                id: JobId::new(),
                name: "pipeline".into(),
                labels: Labels::new(),
                driver: None,
                build: None,
                terms: QueueTerms::default(),
                hand_to: None,
            }],
            max_queue: 10_000,
            dedup: None,
            while_paused: false,
            replied: false,
        };
        assert_eq!(self.store.enqueue(run).await.unwrap(), Enqueued::Stored);
        let wish = Cancelled {
            actor: "eve".into(),
            reason: CancelReason::User,
        };
        self.store.submit(id, Change::Cancel(wish)).await.unwrap();
        id
    }

    async fn listed(&self) -> Vec<Delivery> {
        let filter = DeliveryFilter {
            limit: 200,
            ..DeliveryFilter::default()
        };
        self.store.deliveries(filter).await.unwrap()
    }

    /// Waits until all are as they should be.
    async fn all(&self, what: &str, are: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
        let started = Instant::now();
        loop {
            let listed = self.listed().await;
            if listed.iter().all(&are) {
                return listed;
            }
            assert!(started.elapsed() < SOON, "{what}: {listed:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(sender) = self.sender.take() {
            sender.await.unwrap();
        }
        self.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_told_signed_and_nothing_that_is_kept_tells_a_secret() {
    let mut world = World::new(SOON).await;
    world.start();
    let receiver = Receiver::start(&["200 OK\r\nx-echo: my-secret my-token"]).await;
    let subscription = world
        .subscribe("one", &receiver, |id, terms| {
            let seal = |secret: &str, not_after| SealedKey {
                id: "0".into(),
                sealed: vault().seal(&secret_place(id), secret.as_bytes()),
                not_after,
            };
            let past = time::OffsetDateTime::UNIX_EPOCH;
            let future = time::OffsetDateTime::now_utc() + SOON;
            terms.secrets = vec![
                seal("my-secret", None),
                seal("old-secret", Some(future)),
                seal("ended", Some(past)),
            ];
            terms.headers = vec![SealedHeader {
                name: "X-Token".into(),
                sealed: vault().seal(&header_place(id, "X-Token"), b"my-token"),
            }];
        })
        .await;
    let run = world.end_run().await;
    let seen = receiver.got(1).await.remove(0);
    let told = |name: &str| seen.headers[name].clone();
    let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    assert!(seen.body.starts_with(&format!(
        "{{\"id\":\"{}\",\"type\":\"workflow-completed\"",
        seen.id()
    )));
    assert_eq!(body["webhook"]["id"], subscription.id.to_string());
    assert!(told("user-agent").starts_with("CircleCI-Webhook/1.0 (PocketCI/"));
    assert_eq!(told("circleci-event-type"), "workflow-completed");
    assert_eq!(told("x-token"), "my-token");
    assert_eq!(told("webhook-attempt"), "1");
    let signed = Signed {
        id: &seen.id(),
        timestamp: told("webhook-timestamp").parse().unwrap(),
        body: seen.body.as_bytes(),
    };
    for (name, value) in signature::headers(signed, &["my-secret", "old-secret"]) {
        assert_eq!(told(name), value, "{name}");
    }
    let plain = seen.headers.get(signature::PLAIN_SIGNATURE);
    assert_eq!(
        plain, None,
        "our own intake takes two families for two senders"
    );
    let delivery = world
        .all("delivered", |d| d.state == DeliveryState::Delivered)
        .await
        .remove(0);
    assert_eq!(delivery.run_id, Some(run));
    let (delivery, tries) = world.store.delivery(delivery.id).await.unwrap().unwrap();
    let kept = format!("{delivery:?} {tries:?}");
    for secret in ["my-secret", "old-secret", "my-token", "in-the-url"] {
        assert!(!kept.contains(secret), "{kept}");
    }
    let end = tries[0].end.clone().unwrap();
    assert_eq!((end.status, end.state), (Some(200), TryState::Delivered));
    assert!(end.peer.is_some() && end.first_byte.is_some());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_sent_again_with_the_same_bytes_and_each_try_is_kept_in_order() {
    let mut world = World::new(SOON).await;
    world.start();
    let answers = [
        "503 No",
        "302 Found\r\nlocation: http://127.0.0.1:1/",
        "500 No",
        "200 OK",
    ];
    let receiver = Receiver::start(&answers).await;
    world.subscribe("one", &receiver, |_, _| {}).await;
    world.end_run().await;
    let seen = receiver.got(4).await;
    let delivery = world
        .all("delivered", |d| d.state == DeliveryState::Delivered)
        .await
        .remove(0);
    assert!(
        seen.iter()
            .all(|one| one.body == seen[0].body && one.id() == seen[0].id())
    );
    let numbers: Vec<_> = seen
        .iter()
        .map(|one| one.headers["webhook-attempt"].as_str())
        .collect();
    assert_eq!(numbers, ["1", "2", "3", "4"]);
    let waited = seen[1].at - seen[0].at;
    assert!(
        waited >= Duration::from_millis(24),
        "the schedule less its jitter: {waited:?}"
    );
    let (_, tries) = world.store.delivery(delivery.id).await.unwrap().unwrap();
    let statuses: Vec<_> = tries
        .iter()
        .map(|one| one.end.clone().unwrap().status.unwrap())
        .collect();
    assert_eq!(statuses, [503, 302, 500, 200]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_try_is_the_last_and_hopeless_ones_end_sooner() {
    let mut world = World::new(SOON).await;
    world.start();
    let (broken, wrong) = (
        Receiver::start(&["500 No"]).await,
        Receiver::start(&["404 No"]).await,
    );
    let calm = |_: SubscriptionId, terms: &mut SubscriptionTerms| {
        terms.schedule = Some(vec![Duration::from_millis(1); 3]);
    };
    world.subscribe("broken", &broken, calm).await;
    world.subscribe("wrong", &wrong, calm).await;
    world.end_run().await;
    world
        .all("given up", |d| d.state == DeliveryState::Failed)
        .await;
    assert_eq!((broken.seen().len(), wrong.seen().len()), (4, 3));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_gone_or_asks_for_it_is_told_nothing_more() {
    let mut world = World::new(SOON).await;
    world.start();
    let gone = Receiver::start(&["410 Gone"]).await;
    let tired = Receiver::start(&["200 OK\r\nwebhook-delivery: disable"]).await;
    let picky = Receiver::start(&["500 No\r\nwebhook-delivery: abort-message", "200 OK"]).await;
    let watcher = Receiver::start(&["200 OK"]).await;
    let one = world.subscribe("gone", &gone, |_, _| {}).await;
    let two = world.subscribe("tired", &tired, |_, _| {}).await;
    world.subscribe("picky", &picky, |_, _| {}).await;
    let watches = |_: SubscriptionId, terms: &mut SubscriptionTerms| {
        terms.events = vec![EventName::SubscriptionDisabled];
    };
    world.subscribe("watcher", &watcher, watches).await;
    world.end_run().await;
    let notices = watcher.got(2).await;
    assert!(
        notices
            .iter()
            .all(|notice| notice.body.contains("subscription-disabled"))
    );
    world.end_run().await;
    picky.got(2).await;
    world.all("over", |d| d.state.is_final()).await;
    assert_eq!((gone.seen().len(), tired.seen().len()), (1, 1));
    for (id, reason) in [(one.id, "gone"), (two.id, "asked")] {
        let disabled = world
            .store
            .subscription(id)
            .await
            .unwrap()
            .unwrap()
            .disabled;
        assert_eq!(disabled.unwrap().reason.as_str(), reason);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_receivers_slow_nobody() {
    let mut world = World::new(Duration::from_secs(2)).await;
    world.start();
    let mut dead = Vec::new();
    for number in 0..30 {
        let receiver = Receiver::start(&["hang"]).await;
        world
            .subscribe(&format!("dead-{number}"), &receiver, |_, _| {})
            .await;
        dead.push(receiver);
    }
    let alive = Receiver::start(&["200 OK"]).await;
    world.subscribe("alive", &alive, |_, _| {}).await;
    world.end_run().await;
    alive.got(1).await;
    let mut slowest = Duration::ZERO;
    for count in 2..=40 {
        let started = Instant::now();
        world.end_run().await;
        alive.got(count).await;
        slowest = slowest.max(started.elapsed());
    }
    // A dead one takes 2 s; whoever had to wait for one would show it.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let most = dead.iter().map(|one| one.seen().len()).max().unwrap();
    assert!(most <= 5, "a dead one is asked one at a time: {most}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_server_that_died_between_send_and_record_one_extra_send_comes_with_the_same_id() {
    let mut world = World::new(SOON).await;
    let receiver = Receiver::start(&["200 OK"]).await;
    world.subscribe("one", &receiver, |_, _| {}).await;
    world.end_run().await;
    let dead = Uuid::new_v4();
    let claim = DeliveryClaim {
        sender: dead,
        max: 10,
        max_unproven: 10,
        lease: Duration::ZERO,
    };
    let due = world
        .store
        .claim_deliveries(claim)
        .await
        .unwrap()
        .due
        .remove(0);
    // It sends, and is no more: the receiver has it, the store does not know.
    let begun = NewTry {
        delivery_id: due.delivery.id,
        sender: dead,
        tries: 0,
        sender_name: "dead".into(),
        request: TryRequest {
            url: String::new(),
            method: "POST".into(),
            headers: Vec::new(),
            body_bytes: 0,
            body_sha256: String::new(),
        },
        lease: Duration::from_millis(1),
    };
    assert_eq!(world.store.begin_try(begun).await.unwrap(), Some(1));
    tokio::time::sleep(Duration::from_millis(5)).await;
    world.start();
    world.deliveries.expire().await.unwrap();
    let seen = receiver.got(1).await;
    world
        .all("delivered", |d| d.state == DeliveryState::Delivered)
        .await;
    assert_eq!(seen[0].id(), due.event.id.to_string());
    let (_, tries) = world
        .store
        .delivery(due.delivery.id)
        .await
        .unwrap()
        .unwrap();
    let states: Vec<_> = tries.iter().map(|one| one.state()).collect();
    assert_eq!(states, [TryState::Unknown, TryState::Delivered]);
    world.deliveries.expire().await.unwrap();
    assert_eq!(receiver.seen().len(), 1, "one extra send at most");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_keeps_back_what_is_not_asked_for_by_hand() {
    let mut world = World::new(SOON).await;
    world.start();
    let receiver = Receiver::start(&["200 OK"]).await;
    let never = |_: SubscriptionId, terms: &mut SubscriptionTerms| {
        terms.filter = Some("payload.type == 'job-completed'".into());
    };
    let one = world.subscribe("one", &receiver, never).await;
    let broken = |_: SubscriptionId, terms: &mut SubscriptionTerms| {
        terms.filter = Some("payload.type".into());
    };
    world.subscribe("broken", &receiver, broken).await;
    world.end_run().await;
    let over = world.all("over", |d| d.state.is_final()).await;
    let mut states: Vec<_> = over.iter().map(|one| one.state.as_str()).collect();
    states.sort_unstable();
    assert_eq!(states, ["dropped", "filtered"]);
    assert!(receiver.seen().is_empty());
    let pinged = world
        .store
        .ping_subscription(one.id, "me", None)
        .await
        .unwrap();
    assert!(matches!(pinged, Queued::As(_)));
    receiver.got(1).await;
    let filtered = over
        .iter()
        .find(|d| d.state == DeliveryState::Filtered)
        .unwrap();
    let again = world.store.resend(filtered.id).await.unwrap();
    assert!(matches!(again, Queued::As(_)));
    let seen = receiver.got(2).await;
    assert_eq!(seen[1].id(), filtered.webhook_id);
    let resent = world.all("over", |d| d.state.is_final()).await;
    assert!(resent.iter().any(|d| d.origin == Origin::Resend));
    world.stop().await;
}
