//! Rules of receiving points: endpoints, listeners, requests that come twice, messages and their listeners.

use crate::story::*;
use futures_util::future::join_all;
use pocketci_proto::api::Listen;
use pocketci_server::model::dedup::{DedupKey, KeyOrigin};
use pocketci_server::model::endpoint::{
    Endpoint, EndpointSecret, EndpointUuid, Target, fingerprint, uuid_hash,
};
use pocketci_server::model::fanout::{MessageTarget, TargetState, run_of};
use pocketci_server::model::pipeline::{Pipeline, WebhookSecret};
use pocketci_server::model::receipt::{Answer, Receipt, Verdict};
use pocketci_server::model::run::Outcome;
use pocketci_server::model::run::{CancelReason, Cancelled};
use pocketci_server::model::transition::Change;
use pocketci_server::model::{EndpointId, JobId, RunId};
use pocketci_server::store::{EndpointPut, Enqueued, MessageStored, NewRun, TargetOutcome};
use std::time::Duration;
use uuid::Uuid;

fn endpoint(name: &str, target: Target) -> Endpoint {
    let id = EndpointId::new();
    Endpoint {
        id,
        name: name.into(),
        version: 1,
        target,
        enabled: true,
        settings: serde_json::from_value(serde_json::json!({"provider": "slack"})).unwrap(),
        secrets: vec![EndpointSecret {
            secret: WebhookSecret::new("sealed").unwrap(),
            id: fingerprint(id.0, b"open"),
            not_after: Some(now() + Duration::from_secs(60)),
        }],
        uuids: vec![EndpointUuid::of(Uuid::new_v4())],
        created_at: now(),
        updated_at: now(),
    }
}

pub async fn an_endpoint_is_found_by_name_id_and_secret_id(store: Shared) {
    let build = pipeline(&store, "build").await;
    let uuid = Uuid::new_v4();
    let mut one = endpoint("one", Target::Pipeline(build.id));
    one.uuids = vec![EndpointUuid::of(uuid)];
    assert_eq!(
        store.put_endpoint(one.clone()).await.unwrap(),
        EndpointPut::Done
    );
    let two = endpoint("two", Target::Event("webhook.orders".into()));
    assert_eq!(
        store.put_endpoint(two.clone()).await.unwrap(),
        EndpointPut::Done
    );
    assert_eq!(store.endpoint(one.id).await.unwrap(), Some(one.clone()));
    assert_eq!(
        store.endpoint_by_name("two").await.unwrap(),
        Some(two.clone())
    );
    let found = store.endpoint_by_uuid(uuid_hash(uuid)).await.unwrap();
    assert_eq!(found, Some(one.clone()));
    assert_eq!(store.endpoint_by_uuid([0; 32]).await.unwrap(), None);
    let listed = store.endpoints(None, 10).await.unwrap();
    assert_eq!(listed, [one.clone(), two.clone()]);
    assert_eq!(store.endpoints(Some("one"), 10).await.unwrap(), [two]);
    assert!(store.delete_endpoint(one.id).await.unwrap());
    assert!(!store.delete_endpoint(one.id).await.unwrap());
    assert_eq!(store.endpoint_by_uuid(uuid_hash(uuid)).await.unwrap(), None);
}

pub async fn an_endpoint_is_changed_by_one_at_a_time(store: Shared) {
    let one = endpoint("one", Target::Event("a".into()));
    store.put_endpoint(one.clone()).await.unwrap();
    let namesake = endpoint("one", Target::Event("b".into()));
    assert_eq!(
        store.put_endpoint(namesake).await.unwrap(),
        EndpointPut::Stale
    );
    let next = Endpoint {
        version: 2,
        enabled: false,
        ..one.clone()
    };
    assert_eq!(
        store.put_endpoint(next.clone()).await.unwrap(),
        EndpointPut::Done
    );
    assert_eq!(store.put_endpoint(next).await.unwrap(), EndpointPut::Stale);
    let build = pipeline(&store, "build").await;
    store.delete_pipeline(build.id).await.unwrap();
    let orphan = endpoint("orphan", Target::Pipeline(build.id));
    assert_eq!(
        store.put_endpoint(orphan).await.unwrap(),
        EndpointPut::NoPipeline
    );
}

pub async fn a_secret_id_that_is_over_finds_nothing(store: Shared) {
    let (old, new) = (Uuid::new_v4(), Uuid::new_v4());
    let mut one = endpoint("one", Target::Event("a".into()));
    let over = EndpointUuid {
        not_after: Some(now() - Duration::from_secs(1)),
        ..EndpointUuid::of(old)
    };
    one.uuids = vec![EndpointUuid::of(new), over];
    store.put_endpoint(one).await.unwrap();
    assert!(
        store
            .endpoint_by_uuid(uuid_hash(new))
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        store
            .endpoint_by_uuid(uuid_hash(old))
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn listeners_follow_what_is_put(store: Shared) {
    let listen = |event: &str, filter: Option<&str>| Listen {
        event: event.into(),
        filter: filter.map(Into::into),
    };
    let mut wanted = put("build");
    wanted.listens = vec![
        listen("a", None),
        listen("b", Some("x")),
        listen("b", Some("y")),
    ];
    let build = store.put_pipeline(wanted.clone()).await.unwrap().pipeline;
    let found = store.listeners("b", 10).await.unwrap();
    assert_eq!(found.len(), 1, "one run for each pipeline");
    assert_eq!(found[0].pipeline_id, build.id);
    assert_eq!(
        found[0].filters,
        [Some("x".to_owned()), Some("y".to_owned())]
    );
    assert_eq!(store.listeners("a", 10).await.unwrap()[0].filters, [None]);
    wanted.listens = vec![];
    store.put_pipeline(wanted.clone()).await.unwrap();
    assert!(store.listeners("a", 10).await.unwrap().is_empty());
    wanted.listens = vec![listen("a", None)];
    store.put_pipeline(wanted).await.unwrap();
    store.delete_pipeline(build.id).await.unwrap();
    assert!(store.listeners("a", 10).await.unwrap().is_empty());
}

pub fn keyed(pipeline: &Pipeline, delivery: &str, body: u8) -> NewRun {
    let mut new = webhook(pipeline);
    let key = DedupKey::new(pipeline.id.0, KeyOrigin::Delivery, "github", delivery);
    new.dedup = Some(key.of_body([body; 32]));
    new
}

pub async fn a_hundred_of_the_same_delivery_are_one_run(store: Shared) {
    let build = pipeline(&store, "build").await;
    let runs: Vec<NewRun> = (0..100).map(|_| keyed(&build, "one", 1)).collect();
    let calls = runs.iter().map(|new| store.enqueue(new.clone()));
    let answers: Vec<Enqueued> = join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let stored: Vec<RunId> = runs
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| **answer == Enqueued::Stored)
        .map(|(new, _)| new.id)
        .collect();
    assert_eq!(stored.len(), 1);
    let others = answers.iter().filter(|answer| **answer != Enqueued::Stored);
    for answer in others {
        let Enqueued::Duplicate(first) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(first.run_id, Some(stored[0]));
    }
    // The same call once more is no other delivery.
    let again = runs.into_iter().find(|new| new.id == stored[0]).unwrap();
    assert_eq!(store.enqueue(again).await.unwrap(), Enqueued::Stored);
    // Another hook has its own.
    let other = pipeline(&store, "other").await;
    enqueue(&store, keyed(&other, "one", 1)).await;
}

pub async fn a_delivery_whose_run_failed_is_done_again_and_linked(store: Shared) {
    let build = pipeline(&store, "build").await;
    let first = keyed(&build, "one", 1);
    let first_receipt = first.receipt.clone().unwrap().id;
    let first = enqueue(&store, first).await;
    let stop = Change::Cancel(Cancelled {
        actor: "ann".into(),
        reason: CancelReason::User,
    });
    store.submit(first, stop).await.unwrap();
    assert_eq!(store.outcome(first).await.unwrap(), Some(Outcome::Aborted));
    let again = keyed(&build, "one", 1);
    let receipt = again.receipt.clone().unwrap().id;
    let again = enqueue(&store, again).await;
    let stored = store.receipt(receipt).await.unwrap().unwrap();
    assert_eq!(stored.redelivery_of, Some(first_receipt));
    // Now that one stands.
    match store.enqueue(keyed(&build, "one", 1)).await.unwrap() {
        Enqueued::Duplicate(known) => assert_eq!(known.run_id, Some(again)),
        other => panic!("{other:?}"),
    }
}

pub async fn a_delivery_with_another_body_is_a_conflict(store: Shared) {
    let build = pipeline(&store, "build").await;
    let first = enqueue(&store, keyed(&build, "one", 1)).await;
    let other = keyed(&build, "one", 2);
    match store.enqueue(other.clone()).await.unwrap() {
        Enqueued::Conflict(known) => assert_eq!(known.run_id, Some(first)),
        other => panic!("{other:?}"),
    }
    assert!(store.run(other.id).await.unwrap().is_none());
    assert!(
        store
            .receipt(other.receipt.unwrap().id)
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn a_run_that_was_not_stored_claims_nothing(store: Shared) {
    let build = pipeline(&store, "build").await;
    let mut stale = keyed(&build, "one", 1);
    stale.pipeline_version += 1;
    assert_eq!(store.enqueue(stale).await.unwrap(), Enqueued::Stale);
    let mut full = keyed(&build, "one", 1);
    full.max_queue = 0;
    assert_eq!(store.enqueue(full).await.unwrap(), Enqueued::QueueFull);
    enqueue(&store, keyed(&build, "one", 1)).await;
}

pub async fn keys_are_forgotten_by_age(store: Shared) {
    let build = pipeline(&store, "build").await;
    enqueue(&store, keyed(&build, "one", 1)).await;
    let week = Duration::from_secs(7 * 86_400);
    assert_eq!(store.forget_keys(week, 10).await.unwrap(), 0);
    eventually("it is older than nothing", || async {
        (store.forget_keys(Duration::ZERO, 10).await.unwrap() == 1).then_some(())
    })
    .await;
    enqueue(&store, keyed(&build, "one", 1)).await;
}

pub fn message(endpoint: EndpointId) -> Receipt {
    Receipt {
        pipeline_id: None,
        endpoint_id: Some(endpoint),
        event_key: Some("webhook.orders".into()),
        replay_of: None,
        ..receipt_of_nobody()
    }
}

pub fn target(message: &Receipt, pipeline: &Pipeline) -> MessageTarget {
    MessageTarget {
        receipt_id: message.id,
        pipeline_id: pipeline.id,
        run_id: run_of(message.received_at, message.id, pipeline.id),
        state: TargetState::Pending,
        reason: String::new(),
        tries: 0,
    }
}

/// The run of a listener, as every server would start it.
fn listener_run(message: &Receipt, pipeline: &Pipeline) -> NewRun {
    NewRun {
        id: run_of(message.received_at, message.id, pipeline.id),
        receipt: Some(message.clone()),
        ..webhook(pipeline)
    }
}

pub async fn a_message_is_one_receipt_and_a_run_for_each_listener(store: Shared) {
    let (one, two) = (pipeline(&store, "one").await, pipeline(&store, "two").await);
    let message = message(EndpointId::new());
    let targets = vec![target(&message, &one), target(&message, &two)];
    let stored = store
        .store_message(message.clone(), targets.clone(), None, LONG)
        .await;
    let MessageStored::Done(kept) = stored.unwrap() else {
        panic!("not stored");
    };
    assert_eq!(kept, targets);
    // Started by several servers, and again: the same runs, and the one receipt.
    for _ in 0..3 {
        for listener in [&one, &two] {
            enqueue(&store, listener_run(&message, listener)).await;
        }
    }
    let ann = peer(&store, "ann").await;
    let claimed = ann.claim(&store, 10).await;
    assert_eq!(claimed.len(), 2);
    for job in claimed {
        let held = job.receipt.expect("each run has the message");
        assert_eq!((held.id, held.run_id), (message.id, None));
    }
}

pub async fn what_a_dead_server_left_is_due_to_others(store: Shared) {
    let (one, two) = (pipeline(&store, "one").await, pipeline(&store, "two").await);
    let message = message(EndpointId::new());
    let targets = vec![target(&message, &one), target(&message, &two)];
    store
        .store_message(message.clone(), targets, None, Duration::ZERO)
        .await
        .unwrap();
    let due = eventually("both are due", || async {
        let due = store.due_targets(10, LONG).await.unwrap();
        (!due.is_empty()).then_some(due)
    })
    .await;
    assert_eq!(due.len(), 2);
    assert!(
        store.due_targets(10, LONG).await.unwrap().is_empty(),
        "somebody is at it"
    );
    let settle = |pipeline: &Pipeline, state, reason: &str, wait| TargetOutcome {
        receipt_id: message.id,
        pipeline_id: pipeline.id,
        state,
        reason: reason.into(),
        wait,
    };
    store
        .settle_target(settle(&one, TargetState::Started, "", LONG))
        .await
        .unwrap();
    store
        .settle_target(settle(&two, TargetState::Pending, "paused", Duration::ZERO))
        .await
        .unwrap();
    let due = eventually("the paused one is tried again", || async {
        store.due_targets(10, LONG).await.unwrap().pop()
    })
    .await;
    assert_eq!(
        (due.pipeline_id, due.reason.as_str(), due.tries),
        (two.id, "paused", 1)
    );
    // What is settled stays so.
    store
        .settle_target(settle(&one, TargetState::Dropped, "late", LONG))
        .await
        .unwrap();
    let kept = store.message_targets(message.id).await.unwrap();
    assert_eq!(
        kept.iter()
            .find(|kept| kept.pipeline_id == one.id)
            .unwrap()
            .state,
        TargetState::Started
    );
}

pub async fn a_message_that_comes_again_is_for_those_that_failed(store: Shared) {
    let (one, two) = (pipeline(&store, "one").await, pipeline(&store, "two").await);
    let endpoint = EndpointId::new();
    let key = Some(DedupKey::new(endpoint.0, KeyOrigin::Delivery, "slack", "1").of_body([7; 32]));
    let send = |message: Receipt| {
        let targets = vec![target(&message, &one), target(&message, &two)];
        store.store_message(message, targets, key, LONG)
    };
    let first = message(endpoint);
    assert!(matches!(
        send(first.clone()).await.unwrap(),
        MessageStored::Done(_)
    ));
    match send(message(endpoint)).await.unwrap() {
        MessageStored::Duplicate(known) => assert_eq!(known.receipt_id, first.id),
        other => panic!("{other:?}"),
    }
    for listener in [&one, &two] {
        enqueue(&store, listener_run(&first, listener)).await;
        let outcome = TargetOutcome {
            receipt_id: first.id,
            pipeline_id: listener.id,
            state: TargetState::Started,
            reason: String::new(),
            wait: LONG,
        };
        store.settle_target(outcome).await.unwrap();
    }
    let stop = Change::Cancel(Cancelled {
        actor: "ann".into(),
        reason: CancelReason::User,
    });
    let failed = run_of(first.received_at, first.id, two.id);
    store.submit(failed, stop).await.unwrap();
    let again = message(endpoint);
    let MessageStored::Done(targets) = send(again.clone()).await.unwrap() else {
        panic!("not done again");
    };
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].pipeline_id, two.id);
    let stored = store.receipt(again.id).await.unwrap().unwrap();
    assert_eq!(stored.redelivery_of, Some(first.id));
    let contradiction = key.map(|key| key.of_body([8; 32]));
    let other = message(endpoint);
    let targets = vec![target(&other, &one)];
    let stored = store
        .store_message(other, targets, contradiction, LONG)
        .await;
    assert!(matches!(stored.unwrap(), MessageStored::Conflict(_)));
}

pub async fn an_answer_is_written_beside_its_request(store: Shared) {
    let build = pipeline(&store, "build").await;
    let new = webhook(&build);
    let id = new.receipt.as_ref().unwrap().id;
    enqueue(&store, new).await;
    let answer = Answer::new(202, b"{\"run_id\":1}", Duration::from_micros(1_234));
    store.answered(id, answer.clone());
    let written = eventually("the answer is written", || async {
        store.receipt(id).await.unwrap().unwrap().answer
    })
    .await;
    assert_eq!(written, answer);
}

pub async fn a_run_remembers_that_it_is_anonymous(store: Shared) {
    let build = pipeline(&store, "build").await;
    let mut new = webhook(&build);
    new.trigger.anonymous = true;
    let id = enqueue(&store, new.clone()).await;
    assert_eq!(store.trigger(id).await.unwrap(), Some(new.trigger));
    assert_eq!(store.trigger(RunId::new()).await.unwrap(), None);
}

pub async fn one_anonymous_source_is_known_among_many(store: Shared) {
    let build = pipeline(&store, "build").await;
    let mut jobs = Vec::new();
    for anonymous in [false, true, false] {
        let mut new = webhook(&build);
        new.trigger.anonymous = anonymous;
        jobs.push(new.jobs[0].id);
        enqueue(&store, new).await;
    }
    assert!(store.any_anonymous(&jobs).await.unwrap());
    assert!(!store.any_anonymous(&[jobs[0], jobs[2]]).await.unwrap());
    assert!(!store.any_anonymous(&[]).await.unwrap());
    let unknown = JobId::new();
    assert!(store.any_anonymous(&[unknown, jobs[1]]).await.unwrap());
    assert!(!store.any_anonymous(&[unknown]).await.unwrap());
}

fn receipt_of_nobody() -> Receipt {
    use pocketci_server::model::PipelineId;
    let mut receipt = bare_receipt(PipelineId::new());
    receipt.verdict = Verdict::Accepted;
    receipt
}
