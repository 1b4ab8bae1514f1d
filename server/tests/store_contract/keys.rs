//! Rules of what is claimed beside something else: keys of requests, bodies that receipts name, targets of paused pipelines.

use crate::home::Home;
use crate::hooks::{keyed, message, target};
use crate::story::*;
use bytes::Bytes;
use futures_util::future::join_all;
use pocketci_server::model::body::BodyId;
use pocketci_server::model::fanout::{GIVE_UP_AFTER, TargetState};
use pocketci_server::model::receipt::BodyPlace;
use pocketci_server::model::{EndpointId, ReceiptId};
use pocketci_server::store::{Enqueued, MessageStored, NewRun, TargetOutcome};
use std::time::Duration;

/// Two servers of one database; SQLite has one only.
async fn two_servers(home: &Home) -> Vec<Shared> {
    match home {
        Home::Sqlite(_) => vec![home.open().await],
        Home::Postgres(_) => vec![home.open().await, home.open().await],
    }
}

pub async fn a_failed_delivery_is_taken_over_once_by_all_servers_together(home: Home) {
    const ROUNDS: usize = 30;
    const TOGETHER: usize = 8;
    let servers = two_servers(&home).await;
    let build = pipeline(&servers[0], "build").await;
    for round in 0..ROUNDS {
        let delivery = format!("delivery {round}");
        let first = enqueue(&servers[0], keyed(&build, &delivery, 1)).await;
        servers[0].submit(first, cancel_by("ann")).await.unwrap();
        let again = (0..TOGETHER).map(|n| {
            let new = keyed(&build, &delivery, 1);
            servers[n % servers.len()].enqueue(new)
        });
        let answers = join_all(again).await.into_iter().map(Result::unwrap);
        let stored = answers.filter(|answer| *answer == Enqueued::Stored).count();
        assert_eq!(stored, 1, "round {round}");
    }
    for server in servers {
        server.close().await;
    }
}

fn stale(mut new: NewRun) -> NewRun {
    new.pipeline_version += 1;
    new
}

pub async fn a_stale_run_leaves_its_key_as_it_was(store: Shared) {
    let build = pipeline(&store, "build").await;
    let other = pipeline(&store, "other").await;
    // Free before: a retry may have another body.
    let first = stale(keyed(&build, "one", 1));
    let beside = keyed(&other, "one", 1);
    let (answer, stored) = tokio::join!(store.enqueue(first), store.enqueue(beside));
    assert_eq!(answer.unwrap(), Enqueued::Stale);
    assert_eq!(stored.unwrap(), Enqueued::Stored);
    let first = keyed(&build, "one", 2);
    let receipt = first.receipt.clone().unwrap().id;
    let first = enqueue(&store, first).await;
    // Another's before: still that one's.
    store.submit(first, cancel_by("ann")).await.unwrap();
    let lost = stale(keyed(&build, "one", 2));
    assert_eq!(store.enqueue(lost).await.unwrap(), Enqueued::Stale);
    let again = keyed(&build, "one", 2);
    let again_receipt = again.receipt.clone().unwrap().id;
    enqueue(&store, again).await;
    assert_eq!(first_of(&store, again_receipt).await, Some(receipt));
}

async fn first_of(store: &Shared, receipt: ReceiptId) -> Option<ReceiptId> {
    let stored = store.receipt(receipt).await.unwrap().unwrap();
    stored.redelivery_of
}

async fn a_body(store: &Shared) -> BodyId {
    let body = BodyId::new();
    let page = Bytes::from_static(b"page");
    store.add_body_page(body, 1, page).await.unwrap();
    body
}

fn with_body(mut new: NewRun, body: BodyId) -> NewRun {
    if let Some(receipt) = &mut new.receipt {
        receipt.body = Bytes::new();
        receipt.body_place = BodyPlace::Pages(body);
    }
    new
}

pub async fn a_request_whose_body_is_forgotten_is_not_stored(store: Shared) {
    let build = pipeline(&store, "build").await;
    let body = a_body(&store).await;
    assert!(store.drop_body(body).await.unwrap());
    assert!(!store.drop_body(body).await.unwrap());
    let new = with_body(keyed(&build, "one", 1), body);
    let id = new.id;
    assert_eq!(store.enqueue(new).await.unwrap(), Enqueued::BodyGone);
    assert!(store.run(id).await.unwrap().is_none());
    let mut lost = message(EndpointId::new());
    lost.body_place = BodyPlace::Pages(body);
    let (id, targets) = (lost.id, vec![target(&lost, &build)]);
    let stored = store.store_message(lost, targets, None, LONG).await;
    assert_eq!(stored.unwrap(), MessageStored::BodyGone);
    assert!(store.receipt(id).await.unwrap().is_none());
    // Nor has it claimed its key.
    enqueue(&store, keyed(&build, "one", 2)).await;
}

pub async fn a_body_that_a_receipt_names_is_not_dropped(store: Shared) {
    let build = pipeline(&store, "build").await;
    let body = a_body(&store).await;
    enqueue(&store, with_body(webhook(&build), body)).await;
    assert!(!store.drop_body(body).await.unwrap());
    assert!(store.body_page(body, 1).await.unwrap().is_some());
}

pub async fn a_body_is_forgotten_or_named_but_never_both(home: Home) {
    const ROUNDS: usize = 40;
    let servers = two_servers(&home).await;
    let (one, two) = (&servers[0], servers.last().unwrap());
    let build = pipeline(one, "build").await;
    for round in 0..ROUNDS {
        let body = a_body(one).await;
        let new = with_body(webhook(&build), body);
        let (stored, forgotten) =
            tokio::join!(one.enqueue(new), two.forget_bodies(Duration::ZERO, 10));
        forgotten.unwrap();
        let is_there = one.body_page(body, 1).await.unwrap().is_some();
        match stored.unwrap() {
            Enqueued::Stored => assert!(is_there, "round {round}"),
            Enqueued::BodyGone => assert!(!is_there, "round {round}"),
            other => panic!("{other:?}"),
        }
    }
    for server in servers {
        server.close().await;
    }
}

pub async fn what_a_paused_pipeline_misses_is_due_when_it_is_resumed(store: Shared) {
    let (one, two) = (pipeline(&store, "one").await, pipeline(&store, "two").await);
    let missed = message(EndpointId::new());
    let targets = vec![target(&missed, &one), target(&missed, &two)];
    let storing = store.store_message(missed.clone(), targets, None, Duration::ZERO);
    storing.await.unwrap();
    store.set_paused(one.id, Some("ann")).await.unwrap();
    let due = eventually("the other is due", || async {
        let due = store.due_targets(10, LONG).await.unwrap();
        (!due.is_empty()).then_some(due)
    });
    let due = due.await;
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].pipeline_id, two.id);
    // However long it was to wait.
    let paused = TargetOutcome {
        receipt_id: missed.id,
        pipeline_id: one.id,
        state: TargetState::Pending,
        reason: "paused".into(),
        wait: LONG,
    };
    store.settle_target(paused).await.unwrap();
    store.set_paused(one.id, None).await.unwrap();
    let due = eventually("it is due", || async {
        store.due_targets(10, LONG).await.unwrap().pop()
    });
    assert_eq!(due.await.pipeline_id, one.id);
}

pub async fn what_a_paused_pipeline_misses_for_too_long_is_due_to_be_given_up(store: Shared) {
    let one = pipeline(&store, "one").await;
    store.set_paused(one.id, Some("ann")).await.unwrap();
    let mut missed = message(EndpointId::new());
    missed.received_at = now() - GIVE_UP_AFTER - Duration::from_secs(60);
    let targets = vec![target(&missed, &one)];
    let storing = store.store_message(missed.clone(), targets, None, Duration::ZERO);
    storing.await.unwrap();
    let due = eventually("it is due", || async {
        store.due_targets(10, LONG).await.unwrap().pop()
    });
    assert_eq!(due.await.receipt_id, missed.id);
}
