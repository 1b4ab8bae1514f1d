//! Rules of receipts for operators: found by everything that is known of them, page by page, and forgotten in time.

use crate::story::*;
use bytes::Bytes;
use pocketci_server::model::ReceiptId;
use pocketci_server::model::body::BodyId;
use pocketci_server::model::pipeline::Pipeline;
use pocketci_server::model::receipt::{BodyPlace, Receipt, Verdict};
use pocketci_server::model::run::Outcome;
use pocketci_server::store::ReceiptFilter;
use std::time::Duration;

/// A refused request; ids are in the order of the calls.
async fn refused(
    store: &Shared,
    build: &Pipeline,
    verdict: Verdict,
    change: impl FnOnce(&mut Receipt),
) -> ReceiptId {
    let mut refused = receipt(build, verdict, None);
    refused.replay_of = None;
    change(&mut refused);
    store.record_refusal(refused.clone()).await.unwrap();
    refused.id
}

fn all() -> ReceiptFilter {
    ReceiptFilter {
        limit: 100,
        ..ReceiptFilter::default()
    }
}

async fn found(store: &Shared, filter: ReceiptFilter) -> Vec<ReceiptId> {
    let count = store.count_receipts(filter.clone(), 1000).await.unwrap();
    let page = store.receipts(filter.clone()).await.unwrap();
    if filter.limit >= 100 {
        assert_eq!(count, page.len() as i64);
    }
    page.into_iter().map(|receipt| receipt.id).collect()
}

pub async fn receipts_are_found_by_what_is_known_of_them(store: Shared) {
    let (build, other) = (
        pipeline(&store, "build").await,
        pipeline(&store, "other").await,
    );
    let one = refused(&store, &build, Verdict::Unauthorized, |receipt| {
        receipt.reason = "the signature 100% does not fit".into();
    })
    .await;
    let two = refused(&store, &build, Verdict::Filtered, |receipt| {
        receipt.provider = "slack".into();
        receipt.event_type = "event_callback".into();
        receipt.delivery_id = Some("two".into());
        receipt.url = "/x?find=me".into();
        receipt.replay_of = Some(one);
    })
    .await;
    let three = refused(&store, &other, Verdict::Unauthorized, |receipt| {
        receipt.received_at += Duration::from_secs(3600);
    })
    .await;
    let later = now() + Duration::from_secs(1800);
    assert_eq!(found(&store, all()).await, [three, two, one]);
    let cases = [
        (
            ReceiptFilter {
                pipeline_id: Some(build.id),
                ..all()
            },
            vec![two, one],
        ),
        (
            ReceiptFilter {
                verdict: Some(Verdict::Unauthorized),
                ..all()
            },
            vec![three, one],
        ),
        (
            ReceiptFilter {
                provider: Some("slack".into()),
                ..all()
            },
            vec![two],
        ),
        (
            ReceiptFilter {
                event_type: Some("event_callback".into()),
                ..all()
            },
            vec![two],
        ),
        (
            ReceiptFilter {
                delivery_id: Some("two".into()),
                ..all()
            },
            vec![two],
        ),
        (
            ReceiptFilter {
                text: Some("100% does".into()),
                ..all()
            },
            vec![one],
        ),
        (
            ReceiptFilter {
                text: Some("find=me".into()),
                ..all()
            },
            vec![two],
        ),
        (
            ReceiptFilter {
                text: Some("%".into()),
                verdict: Some(Verdict::Filtered),
                ..all()
            },
            vec![],
        ),
        (
            ReceiptFilter {
                from: Some(later),
                ..all()
            },
            vec![three],
        ),
        (
            ReceiptFilter {
                until: Some(later),
                ..all()
            },
            vec![two, one],
        ),
        (
            ReceiptFilter {
                replay_of: Some(one),
                ..all()
            },
            vec![two],
        ),
        (
            ReceiptFilter {
                without_replays: true,
                ..all()
            },
            vec![three, one],
        ),
        (
            ReceiptFilter {
                oldest_first: true,
                ..all()
            },
            vec![one, two, three],
        ),
        (
            ReceiptFilter {
                event_key: Some("none".into()),
                ..all()
            },
            vec![],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(found(&store, filter.clone()).await, expected, "{filter:?}");
    }
    let replays = store.replayed(&[one, three]).await.unwrap();
    assert_eq!(replays, [(one, two, None)]);
    assert_eq!(store.count_receipts(all(), 2).await.unwrap(), 2);
}

pub async fn receipts_are_paged_without_hole_or_repeat(store: Shared) {
    let build = pipeline(&store, "build").await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(refused(&store, &build, Verdict::Unauthorized, |_| {}).await);
    }
    for oldest_first in [true, false] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let filter = ReceiptFilter {
                after,
                limit: 3,
                oldest_first,
                ..all()
            };
            let page = store.receipts(filter).await.unwrap();
            assert!(page.iter().all(|receipt| receipt.body.is_empty()));
            seen.extend(page.iter().map(|receipt| receipt.id));
            after = seen.last().copied();
            if page.len() < 3 {
                break;
            }
        }
        if !oldest_first {
            seen.reverse();
        }
        assert_eq!(seen, ids);
    }
}

pub async fn receipts_are_forgotten_by_age_but_not_those_of_runs_that_go_on(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    let run = store.run(attempt.run).await.unwrap().unwrap();
    let used = run.run.receipt_id.unwrap();
    let old = refused(&store, &build, Verdict::Unauthorized, |_| {}).await;
    assert_eq!(store.forget_receipts(LONG, 10).await.unwrap(), 0);
    assert_eq!(store.forget_receipts(Duration::ZERO, 10).await.unwrap(), 1);
    assert!(store.receipt(old).await.unwrap().is_none());
    assert!(store.receipt(used).await.unwrap().is_some());
    attempt.finish(Outcome::Succeeded).await;
    assert_eq!(store.forget_receipts(Duration::ZERO, 10).await.unwrap(), 1);
    assert!(store.receipt(used).await.unwrap().is_none());
}

pub async fn the_oldest_bodies_go_when_they_are_too_many(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    let run = store.run(attempt.run).await.unwrap().unwrap();
    let used = run.run.receipt_id.unwrap();
    let body = BodyId::new();
    let page = Bytes::from_static(b"0123456789");
    store.add_body_page(body, 1, page).await.unwrap();
    let mut ids = Vec::new();
    for paged in [true, false, false] {
        let id = refused(&store, &build, Verdict::Filtered, |receipt| {
            receipt.body_bytes = 10;
            receipt.body = Bytes::from_static(b"0123456789");
            if paged {
                receipt.body = Bytes::new();
                receipt.body_place = BodyPlace::Pages(body);
            }
        });
        ids.push(id.await);
    }
    let places = || async {
        let mut places = Vec::new();
        for id in std::iter::once(&used).chain(&ids) {
            let found = store.receipt(*id).await.unwrap().unwrap();
            assert_eq!(found.body.is_empty(), found.body_place != BodyPlace::Inline);
            places.push(found.body_place.as_str());
        }
        places
    };
    assert_eq!(store.forget_receipt_bodies(36, 10).await.unwrap(), 0);
    // The oldest one is needed still.
    assert_eq!(store.forget_receipt_bodies(20, 10).await.unwrap(), 1);
    assert_eq!(places().await, ["inline", "none", "inline", "inline"]);
    assert_eq!(store.forget_bodies(Duration::ZERO, 10).await.unwrap(), 1);
    attempt.finish(Outcome::Succeeded).await;
    assert_eq!(store.forget_receipt_bodies(10, 1).await.unwrap(), 1);
    assert_eq!(store.forget_receipt_bodies(10, 10).await.unwrap(), 1);
    assert_eq!(places().await, ["none", "none", "none", "inline"]);
    let kept = store.receipt(ids[0]).await.unwrap().unwrap();
    assert_eq!((kept.body_bytes, kept.form.len()), (10, 0));
}
