//! Rules of upgrading: what the previous schema held is there, and goes on.

use crate::home::Home;
use crate::story::*;
use pocketci_server::model::run::{CancelReason, EventBody, Outcome, RunState};
use pocketci_server::model::transition::{Applied, Change};
use pocketci_server::model::{JobId, PipelineId, RunId};
use uuid::Uuid;

const SQLITE: [&str; 3] = [
    include_str!("../../../migrations/sqlite/0001_begin.sql"),
    include_str!("../../../migrations/sqlite/0002_pipeline_api.sql"),
    include_str!("upgrade/sqlite.sql"),
];
const POSTGRES: [&str; 3] = [
    include_str!("../../../migrations/postgres/0001_initial.sql"),
    include_str!("../../../migrations/postgres/0002_pipeline_api.sql"),
    include_str!("upgrade/postgres.sql"),
];

fn id(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

pub async fn what_version_two_stored_goes_on(home: Home) {
    home.prepare(&SQLITE, &POSTGRES).await;
    let store = home.open().await;
    let old = store.pipeline(PipelineId(id(1))).await.unwrap().unwrap();
    assert!(
        old.paused && !old.paused_by.is_empty(),
        "somebody paused it"
    );
    let done = view(&store, RunId(id(12))).await;
    assert_eq!(done.run.end.unwrap().reason, "agent_lost");
    let output = events(&store, RunId(id(12))).await.remove(0);
    let EventBody::Log(piece) = output.body else {
        panic!("no output");
    };
    assert_eq!(&piece.shown().0[..], b"old\n");
    // What was to be stopped is still to be stopped, by whom it was.
    let stopping = view(&store, RunId(id(11))).await;
    let wish = stopping.run.cancel.unwrap();
    assert_eq!(
        (wish.actor.as_str(), wish.reason),
        ("eve", CancelReason::User)
    );
    let expire = Change::Expire {
        job_id: JobId(id(0x1b)),
    };
    eventually("the old lease runs out", || async {
        let applied = store.submit(RunId(id(11)), expire.clone()).await.unwrap();
        (applied == Applied::Done).then_some(())
    })
    .await;
    assert_eq!(
        view(&store, RunId(id(11))).await.run.end.unwrap().actor,
        "eve"
    );
    // What was queued is held by the pause from now on, or is taken: either way it can be finished.
    store.set_paused(old.id, None).await.unwrap();
    let bob = peer(&store, "bob").await;
    let claimed = bob.claim(&store, 5).await.remove(0);
    assert_eq!(claimed.run.id, RunId(id(10)));
    let mut attempt = Attempt::of(&store, &bob, &claimed);
    attempt.accept(LONG).await;
    attempt.finish(Outcome::Succeeded).await;
    assert_eq!(
        view(&store, RunId(id(10))).await.run.state,
        RunState::Finished
    );
    // New runs of the old pipeline wait beside what is older.
    let current = store.pipeline(old.id).await.unwrap().unwrap();
    let mut new = webhook(&current);
    new.jobs[0].labels = current.labels.clone();
    let new = enqueue(&store, new).await;
    assert_eq!(bob.claim(&store, 5).await[0].run.id, new);
    store.close().await;
}
