//! Rules of keeping: what was answered is there, whoever else wrote at the same time, and after a restart.

use crate::home::Home;
use crate::story::*;
use pocketci_server::model::run::{Outcome, RunState};
use pocketci_server::model::transition::{Applied, Holder, Report};
use pocketci_server::store::RunFilter;
use tokio::task::JoinSet;

/// Tasks that write at the same time.
const TASKS: usize = 200;

pub async fn the_database_answers(store: Shared) {
    store.ping().await.unwrap();
}

pub async fn many_tasks_lose_and_mix_nothing(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        let (store, build, ann) = (store.clone(), build.clone(), ann.clone());
        tasks.spawn(async move {
            let mut attempt = running(&store, &build, &ann).await;
            let answer = 200 + (number % 300) as u16;
            let lines = vec![(1, piece(b"a")), (2, piece(b"b"))];
            assert_eq!(attempt.logs(lines).await, Applied::Done);
            let respond = Report::Respond(reply(answer));
            assert_eq!(attempt.report(respond).await, Applied::Done);
            let end = finished(Outcome::Succeeded, 2);
            assert_eq!(attempt.report(end).await, Applied::Done);
            (attempt.run, answer)
        });
    }
    for (run, answer) in tasks.join_all().await {
        let found = view(&store, run).await;
        assert_eq!(found.run.state, RunState::Finished);
        assert_eq!(found.reply.unwrap().status, answer);
        assert_eq!(
            event_words(&store, run).await,
            [
                "started",
                "log",
                "log",
                "replied",
                "job_finished",
                "run_finished"
            ]
        );
    }
}

pub async fn many_tasks_on_one_run_leave_no_gap(store: Shared) {
    const JOBS: usize = 16;
    const CHUNKS: i64 = 20;
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut new = webhook(&build);
    new.jobs = (0..JOBS)
        .map(|number| {
            let mut job = job(&format!("job-{number}"));
            job.hand_to = Some(ann.hand_off(LONG));
            job
        })
        .collect();
    let jobs: Vec<_> = new.jobs.iter().map(|job| job.id).collect();
    let run = enqueue(&store, new).await;
    let mut tasks = JoinSet::new();
    for job in jobs {
        let mut attempt = Attempt {
            store: store.clone(),
            run,
            job,
            holder: Holder {
                attempt: 1,
                session_id: ann.session,
            },
            last_seq: 0,
        };
        tasks.spawn(async move {
            attempt.accept(LONG).await;
            for seq in 1..=CHUNKS {
                assert_eq!(attempt.logs(vec![(seq, piece(b"x"))]).await, Applied::Done);
            }
            attempt.finish(Outcome::Succeeded).await;
        });
    }
    tasks.join_all().await;
    let stored = events(&store, run).await.len();
    assert_eq!(stored, JOBS * (CHUNKS as usize + 2) + 1);
    assert_eq!(view(&store, run).await.run.state, RunState::Finished);
}

pub async fn reopening_finds_everything(home: Home) {
    let store = home.open().await;
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut over = running(&store, &build, &ann).await;
    over.logs(vec![(1, piece(b"\x00\xFF"))]).await;
    over.report(Report::Respond(reply(200))).await;
    over.finish(Outcome::Succeeded).await;
    let mut busy = running(&store, &build, &ann).await;
    let waiting = enqueue(&store, webhook(&build)).await;
    let mut before = vec![];
    for run in [over.run, busy.run, waiting] {
        before.push(picture(&store, run).await);
    }
    store.close().await;
    drop(store);

    let store = home.open().await;
    let stored = store.pipeline(build.id).await.unwrap().unwrap();
    assert_eq!(format!("{stored:?}"), format!("{build:?}"));
    let mut after = vec![];
    for run in [over.run, busy.run, waiting] {
        after.push(picture(&store, run).await);
    }
    assert_eq!(after, before);
    assert_eq!(store.agents().await.unwrap()[0].id, ann.id);
    assert_eq!(store.tokens().await.unwrap().len(), 1);
    busy.store = store.clone();
    busy.finish(Outcome::Succeeded).await;
    assert_eq!(ann.claim(&store, 1).await[0].run.id, waiting);
    store.close().await;
}

pub async fn a_store_that_was_opened_twice_over_time_migrates_once(home: Home) {
    for count in 0..3 {
        let store = home.open().await;
        pipeline(&store, &format!("p{count}")).await;
        let filter = RunFilter {
            limit: 1,
            ..RunFilter::default()
        };
        assert!(store.runs(filter).await.unwrap().is_empty());
        assert_eq!(store.pipelines(None, 9).await.unwrap().len(), count + 1);
        store.close().await;
    }
}
