//! Runs, receipts, hints.

use super::harness::*;
use pocketci_proto::api::RunStatus;
use pocketci_server::model::RunId;
use pocketci_server::model::run::{JobState, RunState};
use pocketci_server::model::transition::Change;
use pocketci_server::store::wake::Wake;
use pocketci_server::store::{Enqueued, NewRun, RunFilter};
use std::time::Duration;

pub async fn a_run_is_stored_with_receipt_and_jobs_at_once(db: Db) {
    let new = queued(&db).await;
    let view = db.run(new.id).await.unwrap().unwrap();
    assert_eq!(
        (view.run.state, view.pipeline_name.as_str()),
        (RunState::Queued, "p")
    );
    assert_eq!(view.run.trigger.args, ["a"]);
    assert_eq!(view.jobs[0].0.state, JobState::Queued);
    let wanted = new.receipt.unwrap();
    let stored = db.receipt(wanted.id).await.unwrap().unwrap();
    assert_eq!(
        (stored.headers, stored.body, stored.url.clone()),
        (wanted.headers, wanted.body, wanted.url)
    );
    assert_eq!(
        (stored.body_sha256, stored.received_at, stored.run_id),
        ([7; 32], wanted.received_at, Some(new.id))
    );
    assert_eq!(db.queued_jobs().await.unwrap(), 1);
}

pub async fn the_same_run_twice_is_stored_once(db: Db) {
    let new = queued(&db).await;
    assert_eq!(db.enqueue(new.clone()).await.unwrap(), Enqueued::Stored);
    assert_eq!(db.run(new.id).await.unwrap().unwrap().jobs.len(), 1);
    assert_eq!(db.queued_jobs().await.unwrap(), 1);
}

pub async fn a_stale_version_or_a_paused_pipeline_stores_nothing(db: Db) {
    let known = pipeline(&db, "p").await;
    let changed = db.put_pipeline(put("p", "2")).await.unwrap().pipeline;
    let stale = new_run(&known);
    assert_eq!(db.enqueue(stale.clone()).await.unwrap(), Enqueued::Stale);
    let paused = db.set_paused(changed.id, true).await.unwrap().unwrap();
    assert_eq!(db.enqueue(new_run(&paused)).await.unwrap(), Enqueued::Stale);
    assert!(db.run(stale.id).await.unwrap().is_none());
    assert!(
        db.receipt(stale.receipt.unwrap().id)
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn a_full_queue_stores_nothing(db: Db) {
    let pipeline = pipeline(&db, "p").await;
    let limited = || NewRun {
        max_queue: 2,
        ..new_run(&pipeline)
    };
    let mut results = Vec::new();
    for _ in 0..3 {
        results.push(db.enqueue(limited()).await.unwrap());
    }
    assert_eq!(
        results,
        [Enqueued::Stored, Enqueued::Stored, Enqueued::QueueFull]
    );
    let at_once = futures_util::future::join_all((0..5).map(|_| {
        db.enqueue(NewRun {
            max_queue: 4,
            ..new_run(&pipeline)
        })
    }))
    .await;
    let stored = at_once
        .iter()
        .filter(|result| matches!(result, Ok(Enqueued::Stored)))
        .count();
    assert_eq!((stored, db.queued_jobs().await.unwrap()), (2, 4));
}

pub async fn listing_filters_and_pages_newest_first(db: Db) {
    let held = running(&db).await;
    let other = pipeline(&db, "q").await;
    let later: Vec<NewRun> = (0..3).map(|_| new_run(&other)).collect();
    for run in &later {
        db.enqueue(run.clone()).await.unwrap();
    }
    let list = async |filter: RunFilter| -> Vec<RunId> {
        let found = db.runs(filter).await.unwrap();
        found.into_iter().map(|view| view.run.id).collect()
    };
    let limit = 10;
    let newest_first = [later[2].id, later[1].id, later[0].id, held.run_id];
    assert_eq!(
        list(RunFilter {
            limit,
            ..Default::default()
        })
        .await,
        newest_first
    );
    let page = RunFilter {
        limit: 2,
        after: Some(later[2].id),
        ..Default::default()
    };
    assert_eq!(list(page).await, [later[1].id, later[0].id]);
    let of_other = RunFilter {
        limit,
        pipeline_id: Some(other.id),
        ..Default::default()
    };
    assert_eq!(list(of_other).await.len(), 3);
    let active = RunFilter {
        limit,
        status: Some(RunStatus::Running),
        ..Default::default()
    };
    assert_eq!(list(active).await, [held.run_id]);
    let failed = RunFilter {
        limit,
        status: Some(RunStatus::Failed),
        ..Default::default()
    };
    assert!(list(failed).await.is_empty());
}

pub async fn refused_requests_are_recorded(db: Db) {
    let pipeline = pipeline(&db, "p").await;
    let refused = receipt(&pipeline, None);
    db.record_refusal(refused.clone()).await.unwrap();
    db.record_refusal(refused.clone()).await.unwrap();
    assert_eq!(
        db.receipt(refused.id).await.unwrap().unwrap().verdict,
        refused.verdict
    );
}

pub async fn many_at_once_are_all_stored_and_their_events_have_no_holes(db: Db) {
    let pipeline = pipeline(&db, "p").await;
    let runs: Vec<NewRun> = (0..200).map(|_| new_run(&pipeline)).collect();
    let stored =
        futures_util::future::join_all(runs.iter().map(|run| db.enqueue(run.clone()))).await;
    assert!(
        stored
            .iter()
            .all(|result| matches!(result, Ok(Enqueued::Stored)))
    );
    let request = pocketci_server::store::ClaimRequest {
        max: 200,
        ..claim_request(pocketci_server::model::AgentId::new())
    };
    let claimed = db.claim(request.clone()).await.unwrap();
    assert_eq!(claimed.len(), 200);
    // All reports of all jobs at once; those of one job in their order.
    let mut pending = Vec::new();
    for claimed in &claimed {
        let reports = [
            accepted(),
            respond(200),
            finished(pocketci_server::model::run::Outcome::Succeeded, "", 0),
        ];
        for (seq, report) in (1..).zip(reports) {
            let holder = pocketci_server::model::transition::Holder {
                attempt: 1,
                session_id: request.session_id,
            };
            let change = Change::Report {
                job_id: claimed.job.id,
                holder,
                seq,
                report,
            };
            pending.push(db.submit(claimed.run.id, change));
        }
    }
    for applied in futures_util::future::join_all(pending).await {
        assert_eq!(
            applied.unwrap(),
            pocketci_server::model::transition::Applied::Done
        );
    }
    for run in runs {
        let expected = ["started", "replied", "job_finished", "run_finished"];
        assert_eq!(events(&db, run.id).await, expected);
    }
}

pub async fn hints_follow_the_commit(db: Db) {
    let mut coarse = db.wakes().subscribe();
    let new = queued(&db).await;
    assert_eq!(coarse.recv().await, Ok(Wake::JobQueued));
    let mut watch = db.wakes().watch_run(new.id);
    let held = claim(&db).await;
    held.report(&db, 1, accepted()).await;
    held.report(&db, 2, respond(201)).await;
    let told = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            if let Some(reply) = watch.changed().await.reply {
                return reply.status;
            }
        }
    });
    assert_eq!(told.await, Ok(201));
    held.change(&db, Change::Cancel { actor: "me".into() })
        .await;
    let cancel = Wake::Cancel(held.holder.session_id);
    let told = tokio::time::timeout(Duration::from_secs(5), async {
        // Other hints may come at any time, for example when a listener has (re)connected.
        while coarse.recv().await != Ok(cancel) {}
    });
    told.await.unwrap();
    held.report(
        &db,
        3,
        finished(pocketci_server::model::run::Outcome::Aborted, "user", 0),
    )
    .await;
    let over = tokio::time::timeout(Duration::from_secs(5), async {
        while !watch.changed().await.finished {}
    });
    over.await.unwrap();
}
