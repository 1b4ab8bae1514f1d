//! Rules of wakes: whoever waits hears of it, and finds it when looking.

use crate::story::*;
use pocketci_server::model::run::Outcome;
use pocketci_server::model::transition::{Applied, Change, Report};
use pocketci_server::store::wake::{RunHint, RunWatch, Wake};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

/// Longer than any hint takes.
const PATIENCE: Duration = Duration::from_secs(20);

async fn heard(wakes: &mut Receiver<Wake>, wanted: Wake) {
    let wait = async {
        loop {
            match wakes.recv().await {
                Ok(wake) if wake == wanted => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => panic!("the wakes are gone"),
            }
        }
    };
    timeout(PATIENCE, wait).await.expect("a wake comes");
}

async fn hinted(watch: &mut RunWatch, wanted: impl Fn(&RunHint) -> bool) -> RunHint {
    let wait = async {
        loop {
            let hint = watch.changed().await;
            if wanted(&hint) {
                return hint;
            }
        }
    };
    timeout(PATIENCE, wait).await.expect("a hint comes")
}

pub async fn enqueue_wakes_those_who_look_for_work(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut wakes = store.wakes().subscribe();
    enqueue(&store, webhook(&build)).await;
    heard(&mut wakes, Wake::JobQueued).await;
    assert_eq!(ann.claim(&store, 1).await.len(), 1);
}

pub async fn requeue_wakes_those_who_look_for_work(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = assigned(&store, &build, &ann).await;
    let mut wakes = store.wakes().subscribe();
    let release = Change::Release {
        job_id: attempt.job,
        holder: attempt.holder,
    };
    assert_eq!(attempt.submit(release).await, Applied::Done);
    heard(&mut wakes, Wake::JobQueued).await;
}

pub async fn cancel_wakes_the_session(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let mut wakes = store.wakes().subscribe();
    let cancel = cancel_by("eve");
    attempt.submit(cancel).await;
    heard(&mut wakes, Wake::Cancel(ann.session)).await;
    assert_eq!(store.cancelled(ann.session).await.unwrap().len(), 1);
}

pub async fn a_reply_is_hinted_after_its_commit(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    let mut watch = store.wakes().watch_run(attempt.run);
    attempt.report(Report::Respond(reply(203))).await;
    let hint = hinted(&mut watch, |hint| hint.reply.is_some()).await;
    assert_eq!(hint.reply.unwrap().status, 203);
    assert!(!hint.finished);
    assert_eq!(store.replies(&[attempt.run]).await.unwrap().len(), 1);
}

pub async fn the_end_of_a_run_is_hinted_after_its_commit(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    let mut watch = store.wakes().watch_run(attempt.run);
    attempt.logs(vec![(1, piece(b"x"))]).await;
    hinted(&mut watch, |hint| hint.version > 0).await;
    attempt.finish(Outcome::Succeeded).await;
    hinted(&mut watch, |hint| hint.finished).await;
    assert!(view(&store, attempt.run).await.run.finished_at.is_some());
}
