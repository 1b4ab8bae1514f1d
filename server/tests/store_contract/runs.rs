//! Rules of enqueueing: all or nothing, once, and only what the caller decided on.

use crate::story::*;
use pocketci_server::model::run::{Hold, JobState, RunState, TriggerKind};
use pocketci_server::store::Enqueued;
use pocketci_server::store::wake::Wake;
use std::time::Duration;

pub async fn enqueue_stores_receipt_run_and_jobs_at_once(store: Shared) {
    let build = pipeline(&store, "build").await;
    let new = webhook(&build);
    let receipt = new.receipt.clone().unwrap();
    let id = enqueue(&store, new.clone()).await;
    let found = view(&store, id).await;
    assert_eq!(found.pipeline_name, "build");
    assert_eq!(found.run.state, RunState::Queued);
    assert_eq!(found.run.trigger, new.trigger);
    assert_eq!(found.run.receipt_id, Some(receipt.id));
    assert_eq!(found.run.revision_id, build.revision_id);
    assert!(found.run.wants_reply && !found.run.replied);
    assert_eq!((found.run.event_seq, found.run.started_at), (0, None));
    assert!(found.reply.is_none());
    let (job, agent) = &found.jobs[0];
    assert_eq!((job.id, job.run_id), (new.jobs[0].id, id));
    assert_eq!((job.state, job.attempt), (JobState::Queued, 0));
    assert!(job.lease.is_none() && agent.is_none());
    let stored = store.receipt(receipt.id).await.unwrap().unwrap();
    assert_eq!(stored.run_id, Some(id));
    assert_eq!(store.queued_jobs().await.unwrap(), 1);

    let mut manual = webhook(&build);
    manual.receipt = None;
    manual.trigger.kind = TriggerKind::Manual;
    let id = enqueue(&store, manual).await;
    assert_eq!(view(&store, id).await.run.receipt_id, None);
}

pub async fn a_run_id_is_stored_once(store: Shared) {
    let build = pipeline(&store, "build").await;
    let new = webhook(&build);
    enqueue(&store, new.clone()).await;
    let before = picture(&store, new.id).await;
    enqueue(&store, new.clone()).await;
    assert_eq!(picture(&store, new.id).await, before);
    assert_eq!(store.queued_jobs().await.unwrap(), 1);

    let together = webhook(&build);
    let both = [together.clone(), together.clone()].map(|run| store.enqueue(run));
    for result in futures_util::future::join_all(both).await {
        assert_eq!(result.unwrap(), Enqueued::Stored);
    }
    assert_eq!(view(&store, together.id).await.jobs.len(), 1);
    assert_eq!(store.queued_jobs().await.unwrap(), 2);
}

pub async fn a_stale_version_stores_nothing(store: Shared) {
    let old = pipeline(&store, "build").await;
    let mut wanted = put("build");
    wanted.source.push_str("// two");
    store.put_pipeline(wanted).await.unwrap();
    let new = webhook(&old);
    let receipt = new.receipt.clone().unwrap().id;
    let id = new.id;
    assert_eq!(store.enqueue(new).await.unwrap(), Enqueued::Stale);
    assert!(store.run(id).await.unwrap().is_none());
    assert!(store.receipt(receipt).await.unwrap().is_none());
    assert_eq!(store.queued_jobs().await.unwrap(), 0);
}

pub async fn a_paused_or_deleted_pipeline_stores_nothing(store: Shared) {
    let build = pipeline(&store, "build").await;
    let paused = store
        .set_paused(build.id, Some("ann"))
        .await
        .unwrap()
        .unwrap();
    let new = webhook(&paused);
    let id = new.id;
    assert_eq!(store.enqueue(new.clone()).await.unwrap(), Enqueued::Stale);
    assert!(store.run(id).await.unwrap().is_none());
    store.delete_pipeline(build.id).await.unwrap();
    assert_eq!(store.enqueue(new).await.unwrap(), Enqueued::Stale);
    assert!(store.run(id).await.unwrap().is_none());
}

pub async fn a_run_that_may_wait_begins_when_its_pipeline_goes_on(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut early = webhook(&build);
    early.while_paused = true;
    let stale = store.enqueue(early).await.unwrap();
    assert_eq!(stale, Enqueued::Stale, "it is not paused");
    let paused = store.set_paused(build.id, Some("ann")).await.unwrap();
    let paused = paused.unwrap();
    let mut wakes = store.wakes().subscribe();
    let mut new = webhook(&paused);
    new.while_paused = true;
    let (id, job) = (new.id, new.jobs[0].id);
    enqueue(&store, new.clone()).await;
    enqueue(&store, new).await;
    assert_eq!(view(&store, id).await.jobs[0].0.hold, Some(Hold::Paused));
    assert!(ann.claim(&store, 9).await.is_empty());
    let mut many = webhook(&paused);
    (many.while_paused, many.max_queue) = (true, 1);
    assert_eq!(store.enqueue(many).await.unwrap(), Enqueued::QueueFull);
    store.set_paused(build.id, None).await.unwrap();
    assert_eq!(next_wake(&mut wakes).await, Wake::JobQueued);
    assert_eq!(ann.claim(&store, 9).await[0].job.id, job);
}

/// Others have more room: each is measured by its own limit, also in one group.
pub async fn each_run_is_measured_by_its_own_limit(store: Shared) {
    let build = pipeline(&store, "build").await;
    enqueue(&store, webhook(&build)).await;
    let limits = [1, 10, 1, 10, i64::MAX];
    let storing = limits.map(|limit| {
        let mut new = webhook(&build);
        new.max_queue = limit;
        store.enqueue(new)
    });
    let stored = futures_util::future::join_all(storing).await;
    for (limit, stored) in limits.into_iter().zip(stored) {
        let wanted = match limit {
            1 => Enqueued::QueueFull,
            _ => Enqueued::Stored,
        };
        assert_eq!(stored.unwrap(), wanted, "of {limit}");
    }
}

pub async fn a_full_queue_stores_nothing(store: Shared) {
    let build = pipeline(&store, "build").await;
    for _ in 0..2 {
        enqueue(&store, webhook(&build)).await;
    }
    let mut third = webhook(&build);
    third.max_queue = 2;
    let (id, receipt) = (third.id, third.receipt.clone().unwrap().id);
    assert_eq!(
        store.enqueue(third.clone()).await.unwrap(),
        Enqueued::QueueFull
    );
    assert!(store.run(id).await.unwrap().is_none());
    assert!(store.receipt(receipt).await.unwrap().is_none());
    let ann = peer(&store, "ann").await;
    assert_eq!(ann.claim(&store, 1).await.len(), 1);
    enqueue(&store, third).await;
}

pub async fn a_handed_out_job_is_assigned_as_attempt_one(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = assigned(&store, &build, &ann).await;
    let found = view(&store, attempt.run).await;
    assert_eq!(found.run.state, RunState::Queued, "nobody accepted yet");
    let (job, agent) = &found.jobs[0];
    assert_eq!((job.state, job.attempt), (JobState::Assigned, 1));
    assert_eq!(agent.as_deref(), Some("ann"));
    assert_eq!(job.agent_id, Some(ann.id));
    let lease = job.lease.clone().unwrap();
    assert_eq!((lease.agent_id, lease.session_id), (ann.id, ann.session));
    let within = lease.until - found.run.created_at;
    assert!(within > Duration::from_secs(590) && within < Duration::from_secs(610));
    assert_eq!(ann.claim(&store, 9).await.len(), 0);
    assert_eq!(store.queued_jobs().await.unwrap(), 0);
}

pub async fn a_handed_out_job_needs_no_room_in_the_queue(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    enqueue(&store, webhook(&build)).await;
    let mut handed = webhook(&build);
    handed.max_queue = 1;
    handed.jobs[0].hand_to = Some(ann.hand_off(LONG));
    enqueue(&store, handed).await;
}

pub async fn jobs_keep_their_order(store: Shared) {
    let build = pipeline(&store, "build").await;
    let mut new = webhook(&build);
    new.jobs = ["test", "build", "audit"].map(job).to_vec();
    let expected: Vec<_> = new.jobs.iter().map(|job| job.id).collect();
    let id = enqueue(&store, new).await;
    let found: Vec<_> = view(&store, id)
        .await
        .jobs
        .iter()
        .map(|(job, _)| job.id)
        .collect();
    assert_eq!(found, expected);
}
