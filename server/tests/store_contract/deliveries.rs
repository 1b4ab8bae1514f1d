//! Rules of events and deliveries: told in the transaction of what happened, taken once, tried until an end is recorded.

use crate::story::*;
use crate::subscriptions::{subscribe, terms, told};
use bytes::Bytes;
use pocketci_server::model::delivery::{
    Delivery, DeliveryFilter, DeliveryState, DueDelivery, Next, Origin, TryEnd, TryRequest,
    TryState,
};
use pocketci_server::model::gate::NewGate;
use pocketci_server::model::run::{
    CancelReason, Cancelled, CheckTrigger, Outcome, Trigger, TriggerKind,
};
use pocketci_server::model::subscription::{EventName, Subscription, SubscriptionTerms};
use pocketci_server::model::transition::Change;
use pocketci_server::model::{DeliveryId, GateId};
use pocketci_server::store::{
    ClaimedDeliveries, DeliveryClaim, NewTry, Queued, Recorded, SendTry, TryRecord,
};
use std::time::Duration;
use uuid::Uuid;

pub const RUNS: [EventName; 3] = [
    EventName::WorkflowCompleted,
    EventName::JobCompleted,
    EventName::RunStarted,
];
const ENDS: [EventName; 1] = [EventName::WorkflowCompleted];

pub async fn listed(store: &Shared) -> Vec<Delivery> {
    let filter = DeliveryFilter {
        limit: 200,
        ..DeliveryFilter::default()
    };
    store.deliveries(filter).await.unwrap()
}

/// Ends runs of a pipeline, each with one event for those who want ends.
pub async fn end_runs(store: &Shared, name: &str, count: usize) {
    let build = pipeline(store, name).await;
    for _ in 0..count {
        let run = enqueue(store, webhook(&build)).await;
        cancel(store, run).await;
    }
}

async fn cancel(store: &Shared, run: pocketci_server::model::RunId) {
    let wish = Cancelled {
        actor: "eve".into(),
        reason: CancelReason::User,
    };
    store.submit(run, Change::Cancel(wish)).await.unwrap();
}

/// A server that sends.
pub struct Server(pub Uuid);

impl Server {
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }

    pub fn claim(&self, max: i64, lease: Duration) -> DeliveryClaim {
        DeliveryClaim {
            sender: self.0,
            max,
            max_unproven: max,
            lease,
        }
    }

    pub async fn look(&self, store: &Shared, max: i64) -> ClaimedDeliveries {
        store.claim_deliveries(self.claim(max, LONG)).await.unwrap()
    }

    pub async fn take(&self, store: &Shared, max: i64) -> Vec<DueDelivery> {
        self.look(store, max).await.due
    }

    pub async fn begin(&self, store: &Shared, id: DeliveryId) -> Option<i32> {
        let (delivery, _) = store.delivery(id).await.unwrap().unwrap();
        let new = NewTry {
            delivery_id: id,
            sender: self.0,
            tries: delivery.tries,
            sender_name: "me".into(),
            request: request(),
            lease: LONG,
        };
        store.begin_try(new).await.unwrap()
    }

    pub async fn end(
        &self,
        store: &Shared,
        due: &DueDelivery,
        number: i32,
        next: Next,
    ) -> Recorded {
        let state = match next {
            Next::Done => TryState::Delivered,
            _ => TryState::Failed,
        };
        let record = TryRecord {
            delivery_id: due.delivery.id,
            subscription_id: due.subscription.id,
            version: due.subscription.version,
            sender: self.0,
            ended: Some((number, end(state))),
            next,
            pause: None,
        };
        store.record_try(record).await.unwrap()
    }

    /// Takes what it can and delivers it.
    pub async fn deliver_all(&self, store: &Shared) -> usize {
        let mut delivered = 0;
        loop {
            let due = self.take(store, 100).await;
            if due.is_empty() {
                return delivered;
            }
            for due in due {
                let number = self.begin(store, due.delivery.id).await.unwrap();
                self.end(store, &due, number, Next::Done).await;
                delivered += 1;
            }
        }
    }
}

pub fn request() -> TryRequest {
    TryRequest {
        url: "https://x.test/".into(),
        method: "POST".into(),
        headers: vec![("a".into(), "b".into())],
        body_bytes: 3,
        body_sha256: "00".into(),
    }
}

pub fn end(state: TryState) -> TryEnd {
    TryEnd {
        state,
        status: Some(200),
        headers: vec![("c".into(), "d".into())],
        body: Bytes::from_static(&[0, 255]),
        error: "oh".into(),
        duration: Duration::from_micros(1_234),
        first_byte: Some(Duration::from_micros(12)),
        peer: Some("127.0.0.1:1".into()),
    }
}

/// One whose receiver has answered before.
pub async fn proven(store: &Shared, terms: SubscriptionTerms) -> Subscription {
    let subscription = subscribe(store, terms).await;
    let pinged = store
        .ping_subscription(subscription.id, "me", None)
        .await
        .unwrap();
    assert!(matches!(pinged, Queued::As(_)));
    assert_eq!(Server::new().deliver_all(store).await, 1);
    store.subscription(subscription.id).await.unwrap().unwrap()
}

pub async fn a_run_tells_those_who_subscribed_and_nobody_else(store: Shared) {
    let (build, other) = (
        pipeline(&store, "build").await,
        pipeline(&store, "other").await,
    );
    let ann = peer(&store, "ann").await;
    let mut unheard = running(&store, &build, &ann).await;
    unheard.finish(Outcome::Succeeded).await;
    let all = subscribe(&store, terms("all", &RUNS)).await;
    let of = SubscriptionTerms {
        pipeline_id: Some(other.id),
        ..terms("other", &RUNS)
    };
    subscribe(&store, of).await;
    assert!(told(&store).await.is_empty(), "what is over is not told");
    let mut heard = store.wakes().subscribe();
    let mut attempt = running(&store, &build, &ann).await;
    attempt.finish(Outcome::Failed).await;
    let events = told(&store).await;
    let names: Vec<_> = events.iter().map(|event| event.name).collect();
    let order = [
        EventName::RunStarted,
        EventName::JobCompleted,
        EventName::WorkflowCompleted,
    ];
    assert_eq!(names, order);
    for event in &events {
        assert_eq!(event.run_id, Some(attempt.run));
        assert_eq!(event.pipeline_id, Some(build.id));
    }
    assert_eq!(events[1].job_id, Some(attempt.job));
    assert_eq!(
        (events[1].attempt, events[1].status.as_str()),
        (1, "failed")
    );
    assert_eq!(events[2].status, "failed");
    let deliveries = listed(&store).await;
    assert_eq!(deliveries.len(), 3);
    for delivery in &deliveries {
        assert_eq!(delivery.subscription_id, Some(all.id));
        assert_eq!(delivery.webhook_id, delivery.event_id.unwrap().to_string());
        assert_eq!(
            (delivery.state, delivery.origin),
            (DeliveryState::Pending, Origin::Event)
        );
    }
    let wakes: Vec<_> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
    let wake = pocketci_server::store::wake::Wake::Deliveries;
    assert!(wakes.contains(&wake), "{wakes:?}");
}

pub async fn runs_that_end_without_an_agent_are_told_and_checks_are_not(store: Shared) {
    subscribe(&store, terms("all", &RUNS)).await;
    let build = pipeline(&store, "build").await;
    let stopped = enqueue(&store, webhook(&build)).await;
    cancel(&store, stopped).await;
    let events = told(&store).await;
    let ends: Vec<_> = events
        .iter()
        .map(|event| (event.name, event.status.as_str()))
        .collect();
    let aborted = [
        (EventName::JobCompleted, "aborted"),
        (EventName::WorkflowCompleted, "aborted"),
    ];
    assert_eq!(ends, aborted);
    let mut check = webhook(&build);
    check.trigger = Trigger {
        check: Some(CheckTrigger {
            resource: "r".into(),
            scope: "00".into(),
            from: None,
        }),
        ..Trigger::new(TriggerKind::Check)
    };
    check.receipt = None;
    check.wants_reply = false;
    let check = enqueue(&store, check).await;
    cancel(&store, check).await;
    assert_eq!(told(&store).await.len(), 2);
}

pub async fn a_waiting_gate_is_told_once(store: Shared) {
    subscribe(&store, terms("all", &[EventName::GateWaiting])).await;
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let gate = NewGate {
        id: GateId::new(),
        run_id: attempt.run,
        job_id: attempt.job,
        call: 0,
        name: "ship".into(),
        message: "really?".into(),
        timeout: LONG,
    };
    for _ in 0..2 {
        store.open_gate(gate.clone()).await.unwrap();
    }
    let events = told(&store).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].data["name"], "ship");
    assert_eq!(events[0].data["gate_id"], gate.id.to_string());
    assert_eq!(events[0].job_id, Some(attempt.job));
}

pub async fn a_delivery_is_taken_once_and_its_tries_are_kept(store: Shared) {
    let subscription = proven(&store, terms("one", &ENDS)).await;
    end_runs(&store, "build", 1).await;
    let (ann, bob) = (Server::new(), Server::new());
    let due = ann.take(&store, 10).await.remove(0);
    assert!(bob.take(&store, 10).await.is_empty());
    assert_eq!(due.subscription.id, subscription.id);
    assert_eq!(due.delivery.state, DeliveryState::Sending);
    let kept = store.keep_payload(due.event.id, "{\"a\":1}".into()).await;
    assert_eq!(kept.unwrap().as_deref(), Some("{\"a\":1}"));
    let kept = store.keep_payload(due.event.id, "other".into()).await;
    assert_eq!(
        kept.unwrap().as_deref(),
        Some("{\"a\":1}"),
        "the first counts"
    );
    let id = due.delivery.id;
    assert_eq!(bob.begin(&store, id).await, None);
    assert_eq!(ann.begin(&store, id).await, Some(1));
    let (_, tries) = store.delivery(id).await.unwrap().unwrap();
    assert_eq!((tries.len(), tries[0].state()), (1, TryState::Unknown));
    assert_eq!(
        (&tries[0].request, tries[0].sender.as_str()),
        (&request(), "me")
    );
    let again = Next::Again(Duration::ZERO);
    assert_eq!(
        ann.end(&store, &due, 1, again.clone()).await,
        Recorded::Done
    );
    assert_eq!(
        ann.end(&store, &due, 1, again).await,
        Recorded::Stale,
        "twice"
    );
    let due = bob.take(&store, 10).await.remove(0);
    assert_eq!((due.delivery.id, due.delivery.tries), (id, 1));
    assert_eq!(due.event.payload.as_deref(), Some("{\"a\":1}"));
    assert_eq!(due.subscription.health.failures, 1);
    assert_eq!(bob.begin(&store, id).await, Some(2));
    assert_eq!(bob.end(&store, &due, 2, Next::Done).await, Recorded::Done);
    let (delivery, tries) = store.delivery(id).await.unwrap().unwrap();
    assert_eq!(
        (delivery.state, delivery.tries),
        (DeliveryState::Delivered, 2)
    );
    assert!(delivery.finished_at.is_some() && delivery.next_at.is_none());
    assert_eq!(tries[0].end, Some(end(TryState::Failed)));
    assert_eq!(tries[1].end, Some(end(TryState::Delivered)));
    let health = store
        .subscription(subscription.id)
        .await
        .unwrap()
        .unwrap()
        .health;
    assert_eq!((health.failures, health.failing_since), (0, None));
}

pub async fn whoever_loses_its_lease_decides_nothing_but_what_arrived_has_arrived(store: Shared) {
    proven(&store, terms("one", &ENDS)).await;
    end_runs(&store, "build", 2).await;
    let (ann, bob) = (Server::new(), Server::new());
    let claim = DeliveryClaim {
        lease: Duration::ZERO,
        ..ann.claim(2, LONG)
    };
    let mut due = store.claim_deliveries(claim).await.unwrap().due;
    due.sort_by_key(|due| due.delivery.seq);
    let short = NewTry {
        delivery_id: due[0].delivery.id,
        sender: ann.0,
        tries: 0,
        sender_name: "ann".into(),
        request: request(),
        lease: Duration::ZERO,
    };
    assert_eq!(store.begin_try(short.clone()).await.unwrap(), Some(1));
    let twice = store.begin_try(short.clone()).await.unwrap();
    assert_eq!(twice, None, "one claim, one try");
    let second = NewTry {
        delivery_id: due[1].delivery.id,
        ..short
    };
    assert_eq!(store.begin_try(second).await.unwrap(), Some(1));
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(store.expire_deliveries(10).await.unwrap(), 2);
    assert_eq!(store.expire_deliveries(10).await.unwrap(), 0);
    let taken = bob.take(&store, 10).await;
    assert_eq!(taken.len(), 2);
    assert_eq!(
        taken[0].event.id, due[0].event.id,
        "the same event, the same id"
    );
    for due in &taken {
        assert_eq!(bob.begin(&store, due.delivery.id).await, Some(2));
    }
    let late = ann.end(&store, &due[0], 1, Next::Fail("no".into())).await;
    assert_eq!(late, Recorded::Late);
    let (delivery, tries) = store.delivery(due[0].delivery.id).await.unwrap().unwrap();
    assert_eq!(delivery.state, DeliveryState::Sending, "bob has it");
    assert_eq!(
        (tries[0].state(), tries[1].state()),
        (TryState::Failed, TryState::Unknown)
    );
    assert_eq!(
        ann.end(&store, &due[1], 1, Next::Done).await,
        Recorded::Done
    );
    let late = bob.end(&store, &taken[1], 2, Next::Again(LONG)).await;
    assert_eq!(late, Recorded::Late);
    let (delivery, _) = store.delivery(due[1].delivery.id).await.unwrap().unwrap();
    assert_eq!(delivery.state, DeliveryState::Delivered);
}

pub async fn ends_without_a_try_are_kept_with_their_reason(store: Shared) {
    proven(&store, terms("one", &ENDS)).await;
    end_runs(&store, "build", 2).await;
    let ann = Server::new();
    for (due, next) in ann
        .take(&store, 10)
        .await
        .into_iter()
        .zip([Next::Filter, Next::Drop("gone".into())])
    {
        let record = TryRecord {
            delivery_id: due.delivery.id,
            subscription_id: due.subscription.id,
            version: due.subscription.version,
            sender: ann.0,
            ended: None,
            next,
            pause: None,
        };
        assert_eq!(store.record_try(record).await.unwrap(), Recorded::Done);
    }
    let mut ends: Vec<_> = listed(&store)
        .await
        .into_iter()
        .filter(|delivery| delivery.origin == Origin::Event)
        .map(|delivery| (delivery.state, delivery.reason, delivery.tries))
        .collect();
    ends.reverse();
    let expected = [
        (DeliveryState::Filtered, String::new(), 0),
        (DeliveryState::Dropped, "gone".to_owned(), 0),
    ];
    assert_eq!(ends, expected);
}

pub async fn a_try_of_webhook_send_is_noted_once(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let noted = |number, state, last| SendTry {
        webhook_id: "msg_1".into(),
        run_id: attempt.run,
        pipeline_id: build.id,
        job_id: attempt.job,
        number,
        sender: "ann".into(),
        began_at: now(),
        request: request(),
        end: end(state),
        last,
    };
    let first = noted(1, TryState::Failed, false);
    assert!(store.record_send(first.clone()).await.unwrap());
    assert!(!store.record_send(first.clone()).await.unwrap());
    assert_eq!(listed(&store).await[0].state, DeliveryState::Sending);
    assert!(
        store
            .record_send(noted(2, TryState::Delivered, true))
            .await
            .unwrap()
    );
    assert!(!store.record_send(first).await.unwrap(), "late and again");
    let delivery = listed(&store).await.remove(0);
    assert_eq!(
        (delivery.state, delivery.tries),
        (DeliveryState::Delivered, 2)
    );
    assert_eq!(
        (delivery.origin, delivery.run_id),
        (Origin::Send, Some(attempt.run))
    );
    let (_, tries) = store.delivery(delivery.id).await.unwrap().unwrap();
    assert_eq!(tries[0].end, Some(end(TryState::Failed)));
    assert!(
        Server::new().take(&store, 10).await.is_empty(),
        "nobody sends it"
    );
    assert_eq!(store.resend(delivery.id).await.unwrap(), Queued::Unknown);
    let unknown = SendTry {
        run_id: pocketci_server::model::RunId::new(),
        ..noted(1, TryState::Failed, true)
    };
    assert!(!store.record_send(unknown).await.unwrap());
    store.delete_pipeline(build.id).await.unwrap();
    assert_eq!(store.forget_deliveries(LONG, 10).await.unwrap(), 1);
    assert!(listed(&store).await.is_empty());
}
