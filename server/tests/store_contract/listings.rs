//! Rules of listings: order, pages, filters.

use crate::story::*;
use pocketci_proto::api::RunStatus;
use pocketci_server::model::RunId;
use pocketci_server::model::run::Outcome;
use pocketci_server::model::transition::{Change, Report};
use pocketci_server::store::RunFilter;

async fn listed(store: &Shared, filter: RunFilter) -> Vec<RunId> {
    let runs = store.runs(filter).await.unwrap();
    runs.iter().map(|view| view.run.id).collect()
}

pub async fn runs_are_listed_newest_first_in_pages(store: Shared) {
    let build = pipeline(&store, "build").await;
    let mut expected = vec![];
    for _ in 0..5 {
        expected.insert(0, enqueue(&store, webhook(&build)).await);
    }
    let mut filter = RunFilter {
        limit: 2,
        ..RunFilter::default()
    };
    let mut got = vec![];
    loop {
        let page = store.runs(filter.clone()).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some(last.run.id);
        assert!(page.len() <= 2);
        assert!(page.iter().all(|view| view.pipeline_name == "build"));
        got.extend(page.iter().map(|view| view.run.id));
    }
    assert_eq!(got, expected);
}

pub async fn runs_are_filtered_by_pipeline_and_status(store: Shared) {
    let build = pipeline(&store, "build").await;
    let other = pipeline(&store, "other").await;
    let ann = peer(&store, "ann").await;
    let mut over = running(&store, &build, &ann).await;
    over.finish(Outcome::Succeeded).await;
    let mut failed = running(&store, &build, &ann).await;
    failed.finish(Outcome::Failed).await;
    let busy = running(&store, &build, &ann).await;
    let waiting = enqueue(&store, webhook(&build)).await;
    let foreign = enqueue(&store, webhook(&other)).await;
    let with = |status, pipeline_id| RunFilter {
        status,
        pipeline_id,
        limit: 50,
        ..RunFilter::default()
    };
    let expectations = [
        (RunStatus::Success, vec![over.run]),
        (RunStatus::Failed, vec![failed.run]),
        (RunStatus::Running, vec![busy.run]),
        (RunStatus::Queued, vec![foreign, waiting]),
        (RunStatus::Aborted, vec![]),
        (RunStatus::Errored, vec![]),
        (RunStatus::Skipped, vec![]),
    ];
    for (status, expected) in expectations {
        let got = listed(&store, with(Some(status), None)).await;
        assert_eq!(got, expected, "{status:?}");
    }
    assert_eq!(listed(&store, with(None, Some(other.id))).await, [foreign]);
    let both = with(Some(RunStatus::Queued), Some(build.id));
    assert_eq!(listed(&store, both).await, [waiting]);
}

pub async fn events_are_paged_and_unknown_runs_are_none(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let pieces = (1..=5).map(|seq| (seq, piece(b"x"))).collect();
    attempt.logs(pieces).await;
    let page = |after, limit| {
        let (store, run) = (store.clone(), attempt.run);
        async move {
            let events = store.events(run, after, limit).await.unwrap().unwrap();
            events.iter().map(|event| event.seq).collect::<Vec<_>>()
        }
    };
    assert_eq!(page(0, 2).await, [1, 2]);
    assert_eq!(page(2, 3).await, [3, 4, 5]);
    assert_eq!(page(5, 10).await, [6]);
    assert_eq!(page(6, 10).await, [0; 0]);
    assert!(store.events(RunId::new(), 0, 9).await.unwrap().is_none());
    assert!(store.run(RunId::new()).await.unwrap().is_none());
}

pub async fn replies_are_found_for_many_runs(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut one = running(&store, &build, &ann).await;
    one.report(Report::Respond(reply(299))).await;
    let two = running(&store, &build, &ann).await;
    two.submit(Change::CloseReply).await;
    let open = running(&store, &build, &ann).await;
    let ids = [open.run, two.run, RunId::new(), one.run];
    let mut found = store.replies(&ids).await.unwrap();
    found.sort_by_key(|(run, _)| *run);
    let found: Vec<_> = found
        .into_iter()
        .map(|(run, reply)| (run, reply.status))
        .collect();
    assert_eq!(found, [(one.run, 299), (two.run, 202)]);
    assert!(store.replies(&[]).await.unwrap().is_empty());
}
