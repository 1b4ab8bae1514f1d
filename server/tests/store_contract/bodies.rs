//! Rules of large bodies: pages are there before the receipt, shared by receipts of the same request, and go with the last.

use crate::home::Home;
use crate::story::*;
use bytes::Bytes;
use pocketci_server::model::body::BodyId;
use pocketci_server::model::receipt::{BodyPlace, Verdict};
use std::time::Duration;

/// Adds these pages.
async fn pages(store: &Shared, body: BodyId, pages: &[&'static [u8]]) {
    for (seq, page) in (1..).zip(pages) {
        let data = Bytes::from_static(page);
        store.add_body_page(body, seq, data).await.unwrap();
    }
}

async fn read(store: &Shared, body: BodyId) -> Vec<u8> {
    let mut whole = Vec::new();
    for seq in 1.. {
        match store.body_page(body, seq).await.unwrap() {
            Some(page) => whole.extend_from_slice(&page),
            None => break,
        }
    }
    whole
}

pub async fn a_body_is_read_as_it_was_stored_and_a_repeated_page_changes_nothing(store: Shared) {
    let body = BodyId::new();
    assert_eq!(read(&store, body).await, b"");
    pages(&store, body, &[&[0, 255], b"two", b"three"]).await;
    pages(&store, body, &[b"xx", b"yyy"]).await;
    assert_eq!(read(&store, body).await, b"\0\xfftwothree");
}

pub async fn a_body_goes_with_its_last_receipt_and_not_before(store: Shared) {
    let build = pipeline(&store, "build").await;
    let (used, orphan) = (BodyId::new(), BodyId::new());
    pages(&store, used, &[b"used"]).await;
    pages(&store, orphan, &[b"orphan"]).await;
    let mut new = webhook(&build);
    if let Some(receipt) = &mut new.receipt {
        receipt.body = Bytes::new();
        receipt.body_place = BodyPlace::Pages(used);
    }
    let stored = new.receipt.clone().unwrap();
    enqueue(&store, new).await;
    let found = store.receipt(stored.id).await.unwrap().unwrap();
    assert_eq!(found.body_place, BodyPlace::Pages(used));
    // Not while it is on its way.
    assert_eq!(store.forget_bodies(LONG, 10).await.unwrap(), 0);
    assert_eq!(store.forget_bodies(Duration::ZERO, 10).await.unwrap(), 1);
    assert_eq!(read(&store, orphan).await, b"");
    assert_eq!(read(&store, used).await, b"used");
    store.delete_pipeline(build.id).await.unwrap();
    assert_eq!(store.forget_bodies(Duration::ZERO, 10).await.unwrap(), 1);
    assert_eq!(read(&store, used).await, b"");
}

pub async fn bodies_outlive_their_server(home: Home) {
    let body = BodyId::new();
    let store = home.open().await;
    pages(&store, body, &[b"one", b"two"]).await;
    store.close().await;
    let store = home.open().await;
    assert_eq!(read(&store, body).await, b"onetwo");
    let refused = pipeline(&store, "build").await;
    let mut refused = receipt(&refused, Verdict::Unauthorized, None);
    refused.body_place = BodyPlace::None;
    store.record_refusal(refused.clone()).await.unwrap();
    let found = store.receipt(refused.id).await.unwrap().unwrap();
    assert_eq!(found.body_place, BodyPlace::None);
    store.close().await;
}
