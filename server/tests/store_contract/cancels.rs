//! Rules of cancelling: at once where nobody works on it, through the agent where somebody does.

use crate::story::*;
use pocketci_server::model::run::{End, JobState, Outcome, RunState};
use pocketci_server::model::transition::{Applied, Change, Report};
use std::time::Duration;

fn cancel() -> Change {
    cancel_by("eve")
}

pub async fn cancelling_a_queued_run_aborts_it_at_once(store: Shared) {
    let build = pipeline(&store, "build").await;
    let run = enqueue(&store, webhook(&build)).await;
    assert_eq!(store.submit(run, cancel()).await.unwrap(), Applied::Done);
    let found = view(&store, run).await;
    assert_eq!(found.run.state, RunState::Finished);
    assert_eq!(
        found.run.cancel.map(|wish| wish.actor).as_deref(),
        Some("eve")
    );
    let end = found.run.end.unwrap();
    assert_eq!(
        (end.outcome, end.reason.as_str()),
        (Outcome::Aborted, "user")
    );
    assert_eq!(found.reply.unwrap().status, 202);
    assert_eq!(
        event_words(&store, run).await,
        ["cancel_requested", "job_finished", "run_finished"]
    );
    assert_eq!(store.queued_jobs().await.unwrap(), 0);
}

pub async fn cancelling_a_running_run_lists_it_for_its_session(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let bob = peer(&store, "bob").await;
    let mut attempt = running(&store, &build, &ann).await;
    running(&store, &build, &ann).await;
    assert_eq!(store.cancelled(ann.session).await.unwrap(), []);
    assert_eq!(attempt.submit(cancel()).await, Applied::Done);
    let listed = store.cancelled(ann.session).await.unwrap();
    assert_eq!(listed, [(attempt.run, attempt.job, 1)]);
    assert_eq!(store.cancelled(bob.session).await.unwrap(), []);
    assert_eq!(view(&store, attempt.run).await.run.state, RunState::Running);
    let aborted = Report::Finished {
        end: End {
            outcome: Outcome::Aborted,
            reason: "user".into(),
            actor: String::new(),
            message: String::new(),
        },
        final_log_seq: 0,
    };
    assert_eq!(attempt.report(aborted).await, Applied::Done);
    let end = view(&store, attempt.run).await.run.end.unwrap();
    assert_eq!(end.outcome, Outcome::Aborted);
    assert_eq!(store.cancelled(ann.session).await.unwrap(), []);
}

pub async fn cancelling_twice_changes_nothing(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    attempt.submit(cancel()).await;
    let before = picture(&store, attempt.run).await;
    let other = cancel_by("mallory");
    assert_eq!(attempt.submit(other).await, Applied::Duplicate);
    assert_eq!(picture(&store, attempt.run).await, before);
}

pub async fn a_cancelled_run_is_not_queued_again(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = assigned(&store, &build, &ann).await;
    attempt.accept(Duration::ZERO).await;
    attempt.submit(cancel()).await;
    attempt.expire().await;
    let found = view(&store, attempt.run).await;
    assert_eq!(found.jobs[0].0.state, JobState::Finished);
    assert_eq!(found.run.end.unwrap().outcome, Outcome::Aborted);
}

pub async fn a_cancelled_job_is_never_claimed(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let run = enqueue(&store, webhook(&build)).await;
    store.submit(run, cancel()).await.unwrap();
    assert!(ann.claim(&store, 1).await.is_empty());
}
