//! Rules of claiming: who gets which queued job, and never two agents the same.

use crate::story::*;
use pocketci_proto::api::Driver;
use pocketci_server::model::run::JobState;
use pocketci_server::store::PREFER_OTHER_AGENT;
use std::collections::HashSet;
use std::time::{Duration, Instant};

pub async fn claim_counts_the_attempt_and_sets_the_lease(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let new = webhook(&build);
    enqueue(&store, new.clone()).await;
    let claimed = ann.claim(&store, 5).await;
    assert_eq!(claimed.len(), 1);
    let claimed = &claimed[0];
    assert_eq!(claimed.run.id, new.id);
    assert_eq!(claimed.pipeline_name, "build");
    assert_eq!(
        claimed.receipt.as_ref().unwrap().id,
        new.receipt.unwrap().id
    );
    assert_eq!(
        (claimed.job.state, claimed.job.attempt),
        (JobState::Assigned, 1)
    );
    let lease = claimed.job.lease.clone().unwrap();
    assert_eq!((lease.agent_id, lease.session_id), (ann.id, ann.session));
    let stored = view(&store, new.id).await;
    assert_eq!(
        format!("{:?}", stored.jobs[0].0),
        format!("{:?}", claimed.job)
    );
    assert_eq!(format!("{:?}", stored.run), format!("{:?}", claimed.run));
    assert!(
        events(&store, new.id).await.is_empty(),
        "a claim is no event"
    );
    assert_eq!(ann.claim(&store, 5).await.len(), 0);
}

pub async fn claim_needs_all_labels_and_the_driver(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut new = webhook(&build);
    new.jobs[0].labels = labels(&[("gpu", "yes"), ("os", "linux")]);
    new.jobs[0].driver = Some(Driver::Docker);
    enqueue(&store, new).await;
    let mut request = ann.request(1);
    assert!(store.claim(request.clone()).await.unwrap().is_empty());
    request.labels = labels(&[("gpu", "no"), ("os", "linux")]);
    assert!(store.claim(request.clone()).await.unwrap().is_empty());
    request.labels = labels(&[("gpu", "yes"), ("os", "linux"), ("zone", "a")]);
    request.drivers = vec![Driver::Native];
    assert!(store.claim(request.clone()).await.unwrap().is_empty());
    request.drivers = vec![];
    assert!(store.claim(request.clone()).await.unwrap().is_empty());
    request.drivers = vec![Driver::Native, Driver::Docker];
    assert_eq!(store.claim(request).await.unwrap().len(), 1);
}

pub async fn foreign_jobs_do_not_hide_claimable_ones(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    for _ in 0..300 {
        let mut foreign = webhook(&build);
        foreign.receipt = None;
        foreign.jobs[0].labels = labels(&[("os", "plan9")]);
        enqueue(&store, foreign).await;
    }
    let wanted = enqueue(&store, webhook(&build)).await;
    let claimed = ann.claim(&store, 4).await;
    let ids: Vec<_> = claimed.iter().map(|claimed| claimed.run.id).collect();
    assert_eq!(ids, [wanted]);
}

pub async fn claim_takes_the_oldest_first(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut expected = vec![];
    for _ in 0..5 {
        expected.push(enqueue(&store, webhook(&build)).await);
    }
    let mut got = vec![];
    for max in [2, 1, 9] {
        got.extend(
            ann.claim(&store, max)
                .await
                .iter()
                .map(|claimed| claimed.run.id),
        );
    }
    assert_eq!(got, expected);
}

pub async fn two_claimers_never_get_one_job(store: Shared) {
    const JOBS: usize = 60;
    let build = pipeline(&store, "build").await;
    for _ in 0..JOBS {
        enqueue(&store, webhook(&build)).await;
    }
    let mut claimers = tokio::task::JoinSet::new();
    for number in 0..6 {
        let store = store.clone();
        let peer = peer(&store, &format!("agent-{number}")).await;
        claimers.spawn(async move {
            let mut jobs = vec![];
            loop {
                let claimed = peer.claim(&store, 3).await;
                // A claim may pass over jobs that others have locked, so "none" counts only if none is left.
                if claimed.is_empty() && store.queued_jobs().await.unwrap() == 0 {
                    return jobs;
                }
                jobs.extend(claimed.into_iter().map(|claimed| claimed.job.id));
            }
        });
    }
    let jobs: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();
    let distinct: HashSet<_> = jobs.iter().collect();
    assert_eq!((jobs.len(), distinct.len()), (JOBS, JOBS));
}

/// A job that `ann` has accepted and lost.
async fn lost_by_ann(store: &Shared, ann: &Peer) {
    let build = pipeline(store, "build").await;
    let mut attempt = assigned(store, &build, ann).await;
    attempt.accept(Duration::ZERO).await;
    attempt.expire().await;
}

pub async fn a_lost_job_prefers_another_agent(store: Shared) {
    let ann = peer(&store, "ann").await;
    let bob = peer(&store, "bob").await;
    lost_by_ann(&store, &ann).await;
    assert!(ann.claim(&store, 1).await.is_empty());
    assert_eq!(store.queued_jobs().await.unwrap(), 1);
    let claimed = bob.claim(&store, 1).await;
    assert_eq!((claimed[0].job.attempt, claimed[0].job.lost), (2, 1));
    assert_eq!(claimed[0].job.agent_id, Some(bob.id));
}

pub async fn a_lost_job_returns_to_its_agent_in_time(store: Shared) {
    let ann = peer(&store, "ann").await;
    lost_by_ann(&store, &ann).await;
    let start = Instant::now();
    let claimed = eventually("the same agent gets it again", || async {
        ann.claim(&store, 1).await.pop()
    })
    .await;
    assert_eq!(claimed.job.attempt, 2);
    assert!(start.elapsed() > PREFER_OTHER_AGENT / 2);
}
