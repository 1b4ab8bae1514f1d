//! Rules of receipts: what came is kept as it came, and shown to the holder only.

use crate::story::*;
use bytes::Bytes;
use pocketci_server::model::receipt::{Answer, BodyPlace, Receipt, Verdict};
use pocketci_server::model::run::Outcome;
use pocketci_server::model::{EndpointId, JobId, ReceiptId};
use std::time::Duration;

fn assert_same(left: &Receipt, right: &Receipt) {
    assert_eq!((left.id, left.pipeline_id), (right.id, right.pipeline_id));
    assert_eq!((&left.method, &left.url), (&right.method, &right.url));
    assert_eq!(left.headers, right.headers);
    assert_eq!(left.body, right.body);
    assert_eq!(left.body_bytes, right.body_bytes);
    assert_eq!(left.body_sha256, right.body_sha256);
    assert_eq!(left.form, right.form);
    assert_eq!(left.remote_addr, right.remote_addr);
    assert_eq!(left.provider, right.provider);
    assert_eq!(left.event_type, right.event_type);
    assert_eq!((left.verdict, &left.reason), (right.verdict, &right.reason));
    assert_eq!(left.received_at, right.received_at);
    assert_eq!(left.run_id, right.run_id);
    assert_eq!(left.endpoint_id, right.endpoint_id);
    assert_eq!(left.event_key, right.event_key);
    assert_eq!(
        (left.body_place, &left.files),
        (right.body_place, &right.files)
    );
    assert_eq!(left.delivery_id, right.delivery_id);
    assert_eq!(left.attempt, right.attempt);
    assert_eq!(left.verified, right.verified);
    assert_eq!(left.secret_id, right.secret_id);
    assert_eq!(left.redelivery_of, right.redelivery_of);
    assert_eq!(left.replay_of, right.replay_of);
    assert_eq!(left.answer, right.answer);
}

pub async fn a_refusal_is_kept_without_a_run(store: Shared) {
    let build = pipeline(&store, "build").await;
    for verdict in Verdict::ALL {
        let mut refused = receipt(&build, verdict, None);
        refused.body = Bytes::new();
        refused.body_place = BodyPlace::None;
        refused.reason = "signature missing".into();
        refused.answer = Some(Answer::new(401, b"no", Duration::from_micros(1_500)));
        refused.redelivery_of = Some(ReceiptId::new());
        store.record_refusal(refused.clone()).await.unwrap();
        let stored = store.receipt(refused.id).await.unwrap().unwrap();
        assert_same(&stored, &refused);
    }
    assert!(store.receipt(ReceiptId::new()).await.unwrap().is_none());
}

pub async fn held_receipts_are_fenced(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let bob = peer(&store, "bob").await;
    let mut attempt = running(&store, &build, &ann).await;
    let found = |job: JobId, number: i32, agent: &Peer| {
        let (store, agent) = (store.clone(), agent.id);
        async move { store.held_receipt(job, number, agent).await.unwrap() }
    };
    let held = found(attempt.job, 1, &ann).await.unwrap();
    assert_eq!(held.run_id, Some(attempt.run));
    assert!(found(attempt.job, 2, &ann).await.is_none());
    assert!(found(attempt.job, 0, &ann).await.is_none());
    assert!(found(attempt.job, 1, &bob).await.is_none());
    assert!(found(JobId::new(), 1, &ann).await.is_none());
    attempt.finish(Outcome::Succeeded).await;
    assert!(found(attempt.job, 1, &ann).await.is_none());
}

pub async fn held_runs_are_fenced(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let bob = peer(&store, "bob").await;
    let mut attempt = running(&store, &build, &ann).await;
    let held = |number: i32, session| store.held_run(attempt.job, number, session);
    assert_eq!(
        held(1, ann.session).await.unwrap(),
        Some((attempt.run, build.id))
    );
    assert_eq!(held(2, ann.session).await.unwrap(), None);
    assert_eq!(held(1, bob.session).await.unwrap(), None);
    let (job, session) = (attempt.job, ann.session);
    attempt.finish(Outcome::Succeeded).await;
    assert_eq!(store.held_run(job, 1, session).await.unwrap(), None);
}

pub async fn receipts_keep_bytes_and_order(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let new = webhook(&build);
    let sent = new.receipt.clone().unwrap();
    enqueue(&store, new).await;
    let stored = store.receipt(sent.id).await.unwrap().unwrap();
    assert_same(&stored, &sent);
    let claimed = ann.claim(&store, 1).await.remove(0);
    assert_same(&claimed.receipt.unwrap(), &sent);
}

pub async fn a_repeated_refusal_is_stored_once(store: Shared) {
    let build = pipeline(&store, "build").await;
    let refused = receipt(&build, Verdict::Unauthorized, None);
    store.record_refusal(refused.clone()).await.unwrap();
    store.record_refusal(refused.clone()).await.unwrap();
    assert!(store.receipt(refused.id).await.unwrap().is_some());
}

pub async fn a_refusal_for_a_deleted_pipeline_is_no_error(store: Shared) {
    let build = pipeline(&store, "build").await;
    store.delete_pipeline(build.id).await.unwrap();
    let refused = receipt(&build, Verdict::Paused, None);
    // Whether anything is kept of it is the storage's to decide; the caller must get its own answer, not a 500.
    store.record_refusal(refused).await.unwrap();
}

pub async fn a_request_to_an_event_belongs_to_no_pipeline(store: Shared) {
    let build = pipeline(&store, "build").await;
    let mut message = receipt(&build, Verdict::Unrouted, None);
    message.pipeline_id = None;
    message.endpoint_id = Some(EndpointId::new());
    message.event_key = Some("webhook.orders".into());
    store.record_refusal(message.clone()).await.unwrap();
    let stored = store.receipt(message.id).await.unwrap().unwrap();
    assert_same(&stored, &message);
}
