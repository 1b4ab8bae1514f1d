//! Rules of leases: who loses a job when, and who may go on with it.

use crate::story::*;
use pocketci_server::model::run::{End, JobState, Outcome, RunState};
use pocketci_server::model::transition::{Applied, Change, Report};
use pocketci_server::model::{JobId, SessionId};
use std::time::Duration;

pub async fn an_unaccepted_job_expires_without_penalty(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = assigned_within(&store, &build, &ann, Duration::ZERO).await;
    attempt.expire().await;
    let job = view(&store, attempt.run).await.jobs.remove(0).0;
    assert_eq!((job.state, job.lost, job.attempt), (JobState::Queued, 0, 1));
    assert!(job.lease.is_none());
    assert_eq!(job.agent_id, Some(ann.id), "who had it last");
    assert_eq!(event_words(&store, attempt.run).await, ["requeued"]);
    assert_eq!(ann.claim(&store, 1).await[0].job.attempt, 2);
}

pub async fn a_live_lease_does_not_expire(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    assert_eq!(store.expired(10).await.unwrap(), []);
    let before = picture(&store, attempt.run).await;
    let expire = Change::Expire {
        job_id: attempt.job,
    };
    assert_eq!(attempt.submit(expire).await, Applied::Stale);
    assert_eq!(picture(&store, attempt.run).await, before);
}

pub async fn a_lost_attempt_is_counted_and_queued_again(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = assigned(&store, &build, &ann).await;
    attempt.logs(vec![(1, piece(b"a"))]).await;
    attempt.accept(Duration::ZERO).await;
    attempt.expire().await;
    let found = view(&store, attempt.run).await;
    let job = &found.jobs[0].0;
    assert_eq!((job.state, job.lost, job.attempt), (JobState::Queued, 1, 1));
    assert_eq!((job.report_seq, job.log_seq), (0, 0));
    assert_eq!(job.started_at, None);
    assert!(found.run.started_at.is_some());
    let expire = Change::Expire {
        job_id: attempt.job,
    };
    assert_eq!(attempt.submit(expire).await, Applied::Stale);
    assert_eq!(
        event_words(&store, attempt.run).await,
        ["log", "started", "requeued"]
    );
}

pub async fn the_third_loss_ends_the_job_as_agent_lost(store: Shared) {
    let build = pipeline(&store, "build").await;
    let peers = [peer(&store, "ann").await, peer(&store, "bob").await];
    let run = enqueue(&store, webhook(&build)).await;
    for loss in 0..3 {
        let peer = &peers[loss % 2];
        let claimed = peer.claim(&store, 1).await.remove(0);
        assert_eq!(claimed.job.lost as usize, loss);
        let mut attempt = Attempt::of(&store, peer, &claimed);
        attempt.accept(Duration::ZERO).await;
        attempt.expire().await;
    }
    let found = view(&store, run).await;
    let end = found.run.end.unwrap();
    assert_eq!(
        (end.outcome, end.reason.as_str()),
        (Outcome::Errored, "agent_lost")
    );
    assert_eq!(found.jobs[0].0.state, JobState::Finished);
    assert_eq!(found.reply.unwrap().status, 202);
    assert_eq!(store.queued_jobs().await.unwrap(), 0);
}

pub async fn a_stopped_agents_job_is_queued_again(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let bob = peer(&store, "bob").await;
    let mut attempt = running(&store, &build, &ann).await;
    let stopped = Report::Finished {
        end: End {
            outcome: Outcome::Errored,
            reason: "agent_stopped".into(),
            actor: String::new(),
            message: String::new(),
        },
        final_log_seq: 0,
    };
    assert_eq!(attempt.report(stopped).await, Applied::Done);
    assert_eq!(
        event_words(&store, attempt.run).await,
        ["started", "requeued"]
    );
    assert_eq!(bob.claim(&store, 1).await[0].job.lost, 1);
}

fn adopt(attempt: &Attempt, peer: &Peer, session_id: SessionId, lease: Duration) -> Change {
    Change::Adopt {
        job_id: attempt.job,
        attempt: attempt.holder.attempt,
        agent_id: peer.id,
        session_id,
        lease,
    }
}

pub async fn the_same_agent_adopts_with_a_new_session(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    attempt.logs(vec![(1, piece(b"a")), (2, piece(b"b"))]).await;
    let session = SessionId::new();
    assert_eq!(
        attempt.submit(adopt(&attempt, &ann, session, LONG)).await,
        Applied::Adopted {
            report_seq: 1,
            log_seq: 2,
            cancel: false
        }
    );
    let old_session = attempt.logs(vec![(3, piece(b"c"))]).await;
    assert_eq!(old_session, Applied::Stale);
    attempt.holder.session_id = session;
    assert_eq!(attempt.logs(vec![(3, piece(b"c"))]).await, Applied::Done);
    attempt.finish(Outcome::Succeeded).await;
}

pub async fn adoption_by_another_agent_or_attempt_is_refused(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let bob = peer(&store, "bob").await;
    let attempt = running(&store, &build, &ann).await;
    let before = picture(&store, attempt.run).await;
    let by_bob = adopt(&attempt, &bob, bob.session, LONG);
    assert_eq!(attempt.submit(by_bob).await, Applied::Stale);
    for number in [0, 2] {
        let mut other = attempt.clone();
        other.holder.attempt = number;
        let change = adopt(&other, &ann, ann.session, LONG);
        assert_eq!(attempt.submit(change).await, Applied::Stale);
    }
    assert_eq!(picture(&store, attempt.run).await, before);
}

pub async fn adoption_tells_of_a_cancel(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let cancel = cancel_by("eve");
    attempt.submit(cancel).await;
    let session = SessionId::new();
    assert_eq!(
        attempt.submit(adopt(&attempt, &ann, session, LONG)).await,
        Applied::Adopted {
            report_seq: 1,
            log_seq: 0,
            cancel: true
        }
    );
    assert_eq!(store.cancelled(ann.session).await.unwrap(), []);
    let listed = store.cancelled(session).await.unwrap();
    assert_eq!(listed, [(attempt.run, attempt.job, 1)]);
}

pub async fn an_unaccepted_assignment_can_be_released(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = assigned(&store, &build, &ann).await;
    let release = |attempt: &Attempt| Change::Release {
        job_id: attempt.job,
        holder: attempt.holder,
    };
    assert_eq!(attempt.submit(release(&attempt)).await, Applied::Done);
    assert_eq!(attempt.submit(release(&attempt)).await, Applied::Stale);
    let claimed = ann.claim(&store, 1).await.remove(0);
    assert_eq!((claimed.job.attempt, claimed.job.lost), (2, 0));
    let running = running(&store, &build, &ann).await;
    assert_eq!(running.submit(release(&running)).await, Applied::Stale);
}

pub async fn renew_prolongs_only_what_is_held(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let bob = peer(&store, "bob").await;
    let mut lapsed = assigned(&store, &build, &ann).await;
    lapsed.accept(Duration::ZERO).await;
    let foreign = running(&store, &build, &bob).await;
    let mut over = running(&store, &build, &ann).await;
    over.finish(Outcome::Succeeded).await;
    let unaccepted = assigned(&store, &build, &ann).await;
    eventually("the lease runs out", || async {
        (!store.expired(10).await.unwrap().is_empty()).then_some(())
    })
    .await;
    let claims = vec![
        (lapsed.job, 1),
        (lapsed.job, 2),
        (foreign.job, 1),
        (over.job, 1),
        (unaccepted.job, 1),
        (JobId::new(), 1),
    ];
    let mut held = store.renew(ann.session, claims, LONG).await.unwrap();
    held.sort();
    let mut expected = vec![(lapsed.job, 1), (unaccepted.job, 1)];
    expected.sort();
    assert_eq!(held, expected);
    assert_eq!(store.expired(10).await.unwrap(), []);
    assert_eq!(store.renew(ann.session, vec![], LONG).await.unwrap(), []);
    let state = view(&store, lapsed.run).await.run.state;
    assert_eq!(state, RunState::Running);
}

pub async fn expired_lists_the_oldest_first_up_to_the_limit(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut expected = vec![];
    for _ in 0..3 {
        let attempt = assigned_within(&store, &build, &ann, Duration::ZERO).await;
        expected.push((attempt.run, attempt.job));
    }
    running(&store, &build, &ann).await;
    let listed = eventually("all three run out", || async {
        let listed = store.expired(10).await.unwrap();
        (listed.len() >= 3).then_some(listed)
    })
    .await;
    assert_eq!(listed, expected);
    assert_eq!(store.expired(2).await.unwrap(), expected[..2]);
}
