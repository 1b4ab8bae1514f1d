//! Rules of values and of keys that were seen.

use crate::story::*;
use futures_util::{StreamExt, stream};
use pocketci_server::model::{PipelineId, RunId};
use pocketci_server::store::{MAX_VALUE_BYTES, MAX_VALUES, Sighting, Write, Written};
use serde_json::{Value, json};
use std::time::Duration;

async fn write(store: &Shared, id: PipelineId, key: &str, write: Write, value: Value) -> Written {
    store.put_value(id, key, write, value).await.unwrap()
}

pub async fn a_value_is_patched_replaced_and_removed(store: Shared) {
    let id = pipeline(&store, "build").await.id;
    assert_eq!(store.value(id, "k").await.unwrap(), None);
    let first = json!({ "a": 1, "b": { "c": "\u{0}é" } });
    assert_eq!(
        write(&store, id, "k", Write::Patch, first).await,
        Written::Done
    );
    write(
        &store,
        id,
        "k",
        Write::Patch,
        json!({ "a": null, "b": { "d": [1] } }),
    )
    .await;
    let patched = json!({ "b": { "c": "\u{0}é", "d": [1] } });
    assert_eq!(store.value(id, "k").await.unwrap(), Some(patched));
    write(&store, id, "k", Write::Replace, json!({ "x": null })).await;
    assert_eq!(
        store.value(id, "k").await.unwrap(),
        Some(json!({ "x": null }))
    );
    assert!(store.delete_value(id, "k").await.unwrap());
    assert!(!store.delete_value(id, "k").await.unwrap());
}

pub async fn values_are_each_pipelines_own(store: Shared) {
    let one = pipeline(&store, "one").await.id;
    let two = pipeline(&store, "two").await.id;
    write(&store, one, "k", Write::Replace, json!(1)).await;
    write(&store, two, "k", Write::Replace, json!(2)).await;
    assert!(store.delete_value(two, "k").await.unwrap());
    assert_eq!(store.value(one, "k").await.unwrap(), Some(json!(1)));
    assert!(store.value_keys(two, "", 10).await.unwrap().is_empty());
    store.delete_pipeline(one).await.unwrap();
    assert_eq!(store.value(one, "k").await.unwrap(), None);
}

pub async fn values_are_listed_by_prefix_in_order(store: Shared) {
    let id = pipeline(&store, "build").await.id;
    for key in ["b/2", "a%", "b/1", "b_1", "B/3", "b/é"] {
        write(&store, id, key, Write::Replace, json!(key)).await;
    }
    assert_eq!(
        store.value_keys(id, "b/", 10).await.unwrap(),
        ["b/1", "b/2", "b/é"]
    );
    assert_eq!(store.value_keys(id, "a%", 10).await.unwrap(), ["a%"]);
    assert_eq!(store.value_keys(id, "", 2).await.unwrap(), ["B/3", "a%"]);
    let values = store.values(id, "b/", 2).await.unwrap();
    assert_eq!(
        values,
        [
            ("b/1".to_owned(), json!("b/1")),
            ("b/2".to_owned(), json!("b/2"))
        ]
    );
}

pub async fn a_pipeline_has_only_so_many_and_so_large_values(store: Shared) {
    let id = pipeline(&store, "build").await.id;
    let large = json!("x".repeat(MAX_VALUE_BYTES));
    assert_eq!(
        write(&store, id, "k", Write::Replace, large).await,
        Written::TooLarge
    );
    assert_eq!(store.value(id, "k").await.unwrap(), None);
    let many = (0..MAX_VALUES).map(|at| {
        let store = store.clone();
        async move { write(&store, id, &format!("k{at}"), Write::Replace, json!(at)).await }
    });
    let written: Vec<Written> = stream::iter(many).buffer_unordered(8).collect().await;
    assert!(written.iter().all(|written| *written == Written::Done));
    assert_eq!(
        write(&store, id, "one more", Write::Replace, json!(1)).await,
        Written::Full
    );
    assert_eq!(
        write(&store, id, "k0", Write::Replace, json!(1)).await,
        Written::Done
    );
}

pub async fn patches_of_many_at_once_add_up(store: Shared) {
    let id = pipeline(&store, "build").await.id;
    let patches = (0..50).map(|at| {
        let store = store.clone();
        async move {
            write(
                &store,
                id,
                "k",
                Write::Patch,
                json!({ format!("m{at}"): at }),
            )
            .await
        }
    });
    futures_util::future::join_all(patches).await;
    let stored = store.value(id, "k").await.unwrap().unwrap();
    assert_eq!(stored.as_object().unwrap().len(), 50);
}

fn sighting(id: PipelineId, hash: u8, run_id: RunId, call: i32) -> Sighting {
    Sighting {
        pipeline_id: id,
        hash: [hash; 32],
        run_id,
        call,
    }
}

pub async fn a_key_is_seen_once_and_the_first_may_ask_again(store: Shared) {
    let one = pipeline(&store, "one").await.id;
    let two = pipeline(&store, "two").await.id;
    let (first, second) = (RunId::new(), RunId::new());
    let seen = |sighting| store.seen_before(sighting, LONG);
    assert!(!seen(sighting(one, 1, first, 0)).await.unwrap());
    assert!(!seen(sighting(one, 1, first, 0)).await.unwrap());
    assert!(seen(sighting(one, 1, first, 1)).await.unwrap());
    assert!(seen(sighting(one, 1, second, 0)).await.unwrap());
    assert!(!seen(sighting(one, 2, second, 0)).await.unwrap());
    assert!(!seen(sighting(two, 1, second, 0)).await.unwrap());
}

pub async fn a_key_is_forgotten_in_time(store: Shared) {
    let id = pipeline(&store, "build").await.id;
    store
        .seen_before(sighting(id, 1, RunId::new(), 0), LONG)
        .await
        .unwrap();
    let late = || store.seen_before(sighting(id, 1, RunId::new(), 0), Duration::from_millis(1));
    eventually("the key is forgotten", || async {
        (!late().await.unwrap()).then_some(())
    })
    .await;
}

pub async fn of_many_who_ask_at_once_one_is_first(store: Shared) {
    let id = pipeline(&store, "build").await.id;
    let asking = (0..40).map(|_| {
        let store = store.clone();
        async move {
            store
                .seen_before(sighting(id, 1, RunId::new(), 0), LONG)
                .await
                .unwrap()
        }
    });
    let seen = futures_util::future::join_all(asking).await;
    assert_eq!(seen.iter().filter(|seen| !**seen).count(), 1);
}
