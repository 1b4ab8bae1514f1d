//! Pipelines and their revisions.

use super::harness::*;
use pocketci_proto::api::Driver;
use pocketci_server::model::pipeline::{Labels, PutPipeline, WebhookSecret};
use pocketci_server::store::Enqueued;

pub async fn a_put_creates_then_updates_and_says_what_changed(db: Db) {
    let first = db.put_pipeline(put("p", "one")).await.unwrap();
    assert!(first.created && first.changed == ["content"]);
    let same = db.put_pipeline(put("p", "one")).await.unwrap();
    assert!(!same.created && same.changed.is_empty());
    assert_eq!(
        (same.pipeline.version, same.pipeline.revision),
        (first.pipeline.version, 1)
    );
    let second = db
        .put_pipeline(PutPipeline {
            driver: Some(Some(Driver::Native)),
            labels: Some(Labels::from([("gpu".into(), "yes".into())])),
            ..put("p", "two")
        })
        .await
        .unwrap();
    assert_eq!(second.changed, ["content", "driver", "labels"]);
    assert_eq!(
        (second.pipeline.id, second.pipeline.revision),
        (first.pipeline.id, 2)
    );
    assert!(second.pipeline.version > first.pipeline.version);
    let stored = db.pipeline(first.pipeline.id).await.unwrap().unwrap();
    assert_eq!(stored.driver, Some(Driver::Native));
    assert_eq!(stored.labels["gpu"], "yes");
    assert_eq!(
        db.revision(stored.revision_id)
            .await
            .unwrap()
            .unwrap()
            .source,
        "two"
    );
    let old = db
        .revision(first.pipeline.revision_id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((old.source.as_str(), old.number), ("one", 1));
    assert_eq!(
        db.pipeline_by_name("p").await.unwrap().unwrap().id,
        stored.id
    );
    assert!(db.pipeline_by_name("q").await.unwrap().is_none());
}

pub async fn secrets_are_kept_replaced_and_removed(db: Db) {
    let secret = |text: &str| WebhookSecret::new(text).unwrap();
    let with = |secrets: Option<Vec<WebhookSecret>>| PutPipeline {
        webhook_secrets: secrets,
        ..put("p", "1")
    };
    let two = vec![secret("new"), secret("old")];
    db.put_pipeline(with(Some(two.clone()))).await.unwrap();
    db.put_pipeline(with(None)).await.unwrap();
    let stored = db.pipeline_by_name("p").await.unwrap().unwrap();
    assert!(stored.webhook_secrets == two, "kept, in order");
    assert!(!format!("{stored:?}").contains("old"), "never shown");
    let removed = db.put_pipeline(with(Some(vec![]))).await.unwrap();
    assert_eq!(removed.changed, ["webhook_secrets"]);
    assert!(
        db.pipeline_by_name("p")
            .await
            .unwrap()
            .unwrap()
            .webhook_secrets
            .is_empty()
    );
}

pub async fn listing_pages_by_name(db: Db) {
    for name in ["b", "a", "C", "d"] {
        pipeline(&db, name).await;
    }
    let names = |page: Vec<pocketci_server::model::pipeline::Pipeline>| -> Vec<String> {
        page.into_iter().map(|pipeline| pipeline.name).collect()
    };
    assert_eq!(names(db.pipelines(None, 3).await.unwrap()), ["C", "a", "b"]);
    assert_eq!(names(db.pipelines(Some("b"), 3).await.unwrap()), ["d"]);
}

pub async fn pausing_makes_a_new_version_once(db: Db) {
    let before = pipeline(&db, "p").await;
    let paused = db.set_paused(before.id, true).await.unwrap().unwrap();
    let again = db.set_paused(before.id, true).await.unwrap().unwrap();
    assert!(
        paused.paused && paused.version == before.version + 1 && again.version == paused.version
    );
    let unknown = pocketci_server::model::PipelineId::new();
    assert!(db.set_paused(unknown, true).await.unwrap().is_none());
}

pub async fn deleting_removes_everything(db: Db) {
    let held = running(&db).await;
    held.report(&db, 2, respond(200)).await;
    let view = db.run(held.run_id).await.unwrap().unwrap();
    assert!(db.delete_pipeline(view.run.pipeline_id).await.unwrap());
    assert!(!db.delete_pipeline(view.run.pipeline_id).await.unwrap());
    assert!(db.run(held.run_id).await.unwrap().is_none());
    assert!(db.events(held.run_id, 0, 10).await.unwrap().is_none());
    assert!(db.replies(&[held.run_id]).await.unwrap().is_empty());
    assert!(
        db.receipt(view.run.receipt_id.unwrap())
            .await
            .unwrap()
            .is_none()
    );
    let late = held.report(&db, 3, respond(200)).await;
    assert_eq!(late, pocketci_server::model::transition::Applied::Stale);
    let again = pipeline(&db, "p").await;
    assert_eq!(db.enqueue(new_run(&again)).await.unwrap(), Enqueued::Stored);
}
