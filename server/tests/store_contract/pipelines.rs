//! Rules of pipelines: what a put changes, what a delete removes.

use crate::story::*;
use pocketci_proto::api::{Driver, PipelineSettings};
use pocketci_server::model::PipelineId;
use pocketci_server::model::pipeline::{Module, Pipeline, PutPipeline, WebhookSecret};
use pocketci_server::model::run::Outcome;
use pocketci_server::model::transition::{Applied, Report};
use pocketci_server::store::RunFilter;

fn secrets(words: &[&str]) -> Vec<WebhookSecret> {
    words
        .iter()
        .map(|word| WebhookSecret::new(word.as_bytes()).unwrap())
        .collect()
}

pub async fn put_creates_version_and_revision_one(store: Shared) {
    let mut wanted = put("build");
    wanted.driver = Some(Some(Driver::Docker));
    wanted.labels = Some(labels(&[("os", "linux")]));
    wanted.webhook_secrets = Some(secrets(&["s"]));
    let outcome = store.put_pipeline(wanted.clone()).await.unwrap();
    assert!(outcome.created);
    assert_eq!(
        outcome.changed,
        ["content", "driver", "labels", "webhook_secrets"]
    );
    let stored = store.pipeline(outcome.pipeline.id).await.unwrap().unwrap();
    assert_eq!(format!("{stored:?}"), format!("{:?}", outcome.pipeline));
    assert_eq!((stored.revision, stored.paused), (1, false));
    assert_eq!(stored.driver, Some(Driver::Docker));
    let revision = store.revision(stored.revision_id).await.unwrap().unwrap();
    assert_eq!(revision.pipeline_id, stored.id);
    assert_eq!(revision.number, 1);
    assert_eq!(revision.source, wanted.source);
    assert_eq!(revision.javascript, wanted.javascript);
    assert_eq!(revision.source_map, wanted.source_map);
    assert_eq!(revision.file_name, "pipeline.ts");
    let plain = store.put_pipeline(put("plain")).await.unwrap();
    assert_eq!(plain.changed, ["content"]);
    assert!(store.pipeline_by_name("nobody").await.unwrap().is_none());
}

pub async fn put_without_a_difference_changes_nothing(store: Shared) {
    let mut wanted = put("build");
    wanted.labels = Some(labels(&[("os", "linux")]));
    wanted.webhook_secrets = Some(secrets(&["s"]));
    let first = store.put_pipeline(wanted.clone()).await.unwrap().pipeline;
    let again = store.put_pipeline(wanted).await.unwrap();
    assert!(!again.created);
    assert_eq!(again.changed, [""; 0]);
    assert_eq!(format!("{:?}", again.pipeline), format!("{first:?}"));
    let kept = store.put_pipeline(put("build")).await.unwrap();
    assert_eq!(kept.pipeline.version, first.version);
    assert_eq!(kept.pipeline.webhook_secrets, secrets(&["s"]));
}

pub async fn put_of_equal_content_makes_no_new_revision(store: Shared) {
    let first = pipeline(&store, "build").await;
    let mut wanted = put("build");
    wanted.labels = Some(labels(&[("gpu", "yes")]));
    let second = store.put_pipeline(wanted).await.unwrap();
    assert_eq!(second.changed, ["labels"]);
    assert!(second.pipeline.version > first.version);
    assert_eq!(second.pipeline.revision_id, first.revision_id);
    assert_eq!(second.pipeline.revision, 1);
}

pub async fn put_of_new_content_makes_the_next_revision(store: Shared) {
    let first = pipeline(&store, "build").await;
    let mut wanted = put("build");
    wanted.source.push_str(" // two");
    let second = store.put_pipeline(wanted).await.unwrap();
    assert_eq!(second.changed, ["content"]);
    assert_eq!(second.pipeline.id, first.id);
    assert_eq!(second.pipeline.revision, 2);
    assert!(second.pipeline.version > first.version);
    let old = store.revision(first.revision_id).await.unwrap().unwrap();
    assert_eq!(old.source, put("build").source, "old programs stay");
    let back = store.put_pipeline(put("build")).await.unwrap();
    assert_eq!(back.pipeline.revision, 3, "only the newest is compared");
}

pub async fn put_replaces_keeps_and_removes_secrets(store: Shared) {
    let mut wanted = put("build");
    wanted.webhook_secrets = Some(secrets(&["new", "old"]));
    store.put_pipeline(wanted.clone()).await.unwrap();
    let kept = store.put_pipeline(put("build")).await.unwrap();
    assert_eq!(kept.pipeline.webhook_secrets, secrets(&["new", "old"]));
    wanted.webhook_secrets = Some(secrets(&["newest", "new"]));
    let replaced = store.put_pipeline(wanted.clone()).await.unwrap();
    assert_eq!(replaced.changed, ["webhook_secrets"]);
    assert!(replaced.pipeline.version > kept.pipeline.version);
    wanted.webhook_secrets = Some(vec![]);
    store.put_pipeline(wanted).await.unwrap();
    let stored = store.pipeline_by_name("build").await.unwrap().unwrap();
    assert_eq!(stored.webhook_secrets, vec![]);
}

pub async fn put_changes_driver_and_labels(store: Shared) {
    pipeline(&store, "build").await;
    let mut wanted = put("build");
    wanted.driver = Some(Some(Driver::Native));
    wanted.labels = Some(labels(&[("a", "1"), ("b", "2")]));
    let outcome = store.put_pipeline(wanted.clone()).await.unwrap();
    assert_eq!(outcome.changed, ["driver", "labels"]);
    wanted.driver = Some(None);
    let outcome = store.put_pipeline(wanted).await.unwrap();
    assert_eq!(outcome.changed, ["driver"]);
    let stored = store.pipeline_by_name("build").await.unwrap().unwrap();
    assert_eq!(stored.driver, None);
    assert_eq!(stored.labels, labels(&[("a", "1"), ("b", "2")]));
}

pub async fn concurrent_puts_of_one_name_make_one_pipeline(store: Shared) {
    let puts = (0..8).map(|_| store.put_pipeline(put("build")));
    let outcomes = futures_util::future::join_all(puts).await;
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    let created = outcomes.iter().filter(|outcome| outcome.created).count();
    assert_eq!(created, 1);
    let id = outcomes[0].pipeline.id;
    assert!(outcomes.iter().all(|outcome| outcome.pipeline.id == id));
    assert_eq!(store.pipelines(None, 10).await.unwrap().len(), 1);
}

pub async fn settings_are_changed_by_who_saw_their_version(store: Shared) {
    let build = pipeline(&store, "build").await;
    let priority = |number| PipelineSettings {
        priority: Some(number),
        ..build.settings.clone()
    };
    let changes =
        (1..=8).map(|number| store.set_settings(build.id, build.version, priority(number)));
    let changed = futures_util::future::join_all(changes).await;
    let changed: Vec<bool> = changed.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        changed.iter().filter(|done| **done).count(),
        1,
        "one of all"
    );
    let stored = store.pipeline(build.id).await.unwrap().unwrap();
    let winner = changed.iter().position(|done| *done).unwrap() as i32 + 1;
    assert_eq!(stored.settings, priority(winner));
    assert_eq!(stored.version, build.version + 1);
    assert_eq!(stored.revision_id, build.revision_id);
    let unknown = store.set_settings(PipelineId::new(), 1, priority(1)).await;
    assert!(!unknown.unwrap());
}

pub async fn pausing_is_a_new_version_only_if_it_differs(store: Shared) {
    let first = pipeline(&store, "build").await;
    let paused = store
        .set_paused(first.id, Some("ann"))
        .await
        .unwrap()
        .unwrap();
    assert!(paused.paused && paused.version > first.version);
    let again = store
        .set_paused(first.id, Some("ann"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.version, paused.version);
    let resumed = store.set_paused(first.id, None).await.unwrap().unwrap();
    assert!(!resumed.paused && resumed.version > paused.version);
    store.delete_pipeline(first.id).await.unwrap();
    assert!(
        store
            .set_paused(first.id, Some("ann"))
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn pipelines_are_paged_by_name(store: Shared) {
    for name in ["b", "d", "a", "c"] {
        pipeline(&store, name).await;
    }
    let names = |page: Vec<Pipeline>| -> Vec<String> {
        page.into_iter().map(|pipeline| pipeline.name).collect()
    };
    assert_eq!(
        names(store.pipelines(None, 3).await.unwrap()),
        ["a", "b", "c"]
    );
    assert_eq!(names(store.pipelines(Some("c"), 3).await.unwrap()), ["d"]);
    assert_eq!(names(store.pipelines(Some("bb"), 1).await.unwrap()), ["c"]);
}

pub async fn delete_removes_everything_of_the_pipeline(store: Shared) {
    let gone = pipeline(&store, "build").await;
    let other = pipeline(&store, "other").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &gone, &ann).await;
    attempt.logs(vec![(1, piece(b"out"))]).await;
    attempt.report(Report::Respond(reply(200))).await;
    let receipt_id = view(&store, attempt.run).await.run.receipt_id.unwrap();
    let kept = enqueue(&store, webhook(&other)).await;
    assert!(store.delete_pipeline(gone.id).await.unwrap());
    assert!(!store.delete_pipeline(gone.id).await.unwrap());
    assert!(store.pipeline(gone.id).await.unwrap().is_none());
    assert!(store.revision(gone.revision_id).await.unwrap().is_none());
    assert!(store.run(attempt.run).await.unwrap().is_none());
    assert!(store.events(attempt.run, 0, 9).await.unwrap().is_none());
    assert!(store.receipt(receipt_id).await.unwrap().is_none());
    assert!(store.replies(&[attempt.run]).await.unwrap().is_empty());
    let late = finished(Outcome::Succeeded, 0);
    assert_eq!(attempt.report(late).await, Applied::Stale);
    let filter = RunFilter {
        limit: 10,
        ..RunFilter::default()
    };
    let left: Vec<_> = store.runs(filter).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].run.id, kept);
}

pub async fn imported_files_belong_to_the_revision(store: Shared) {
    let module = Module {
        name: "lib/a.ts".into(),
        source: "export {}".into(),
        javascript: "export {};".into(),
        source_map: String::new(),
    };
    let with = PutPipeline {
        modules: vec![module.clone()],
        ..put("build")
    };
    let first = store.put_pipeline(with.clone()).await.unwrap().pipeline;
    let revision = store.revision(first.revision_id).await.unwrap().unwrap();
    assert!(revision.modules == vec![module.clone()]);
    assert!(
        store
            .put_pipeline(with.clone())
            .await
            .unwrap()
            .changed
            .is_empty()
    );
    let changed = PutPipeline {
        modules: vec![Module {
            source: "export const a = 1;".into(),
            ..module
        }],
        ..with
    };
    assert_eq!(
        store.put_pipeline(changed).await.unwrap().changed,
        ["content"]
    );
}
