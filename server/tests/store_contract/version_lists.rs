//! Rules of lists of versions: their order, what they keep, who hears of a change.

use crate::story::*;
use crate::version_story::*;
use futures_util::FutureExt as _;
use pocketci_server::model::PipelineId;
use pocketci_server::model::version::{Pin, Version};
use pocketci_server::store::Saved;
use pocketci_server::store::wake::Wake;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

pub async fn a_check_that_finds_nothing_new_moves_nothing(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    assert_eq!(yard.found("repo", &["a", "b", "c"]).await, 3);
    assert_eq!(yard.found("repo", &["c", "a"]).await, 0);
    assert_eq!(yard.found("repo", &[]).await, 0);
    assert_eq!(yard.list("repo").await, ["c", "b", "a"]);
}

pub async fn one_new_version_moves_all_that_were_found_to_the_end(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a", "b", "c"]).await;
    assert_eq!(yard.found("repo", &["c", "a", "d"]).await, 1);
    assert_eq!(yard.list("repo").await, ["d", "a", "c", "b"]);
    assert_eq!(
        yard.found("repo", &["e", "b", "e"]).await,
        1,
        "named twice, stored once"
    );
    assert_eq!(yard.list("repo").await, ["e", "b", "d", "a", "c"]);
}

pub async fn a_version_that_moves_keeps_what_is_known_of_it(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a", "b"]).await;
    let metadata = vec![
        ("z".to_owned(), "1".to_owned()),
        ("a".to_owned(), "\u{0}".to_owned()),
    ];
    let telling = store.save_metadata(yard.id(), "repo", SCOPE, hash("a"), metadata.clone());
    assert!(telling.await.unwrap());
    let disabling = store.set_version_enabled(yard.id(), "repo", hash("a"), false);
    assert!(disabling.await.unwrap());
    let before = store
        .versions(yard.id(), "repo", None, 10)
        .await
        .unwrap()
        .remove(1);
    yard.found("repo", &["a", "c"]).await;
    let list = store.versions(yard.id(), "repo", None, 10).await.unwrap();
    let moved = &list[1];
    assert_eq!((moved.hash, moved.enabled), (hash("a"), false));
    assert_eq!(moved.metadata, metadata);
    assert_eq!(moved.first_seen_at, before.first_seen_at);
    assert!(moved.check_order > before.check_order);
    let unknown = store.set_version_enabled(yard.id(), "repo", hash("x"), true);
    assert!(!unknown.await.unwrap());
}

pub async fn a_list_is_read_in_pages(store: Shared) {
    let yard = Yard::new(&store, &["repo", "other"]).await;
    yard.found("other", &["x"]).await;
    yard.found("repo", &["a", "b", "c"]).await;
    let first = store.versions(yard.id(), "repo", None, 2).await.unwrap();
    let words = |page: &[pocketci_server::model::version::StoredVersion]| -> Vec<String> {
        page.iter()
            .map(|stored| stored.version["ref"].clone())
            .collect()
    };
    assert_eq!(words(&first), ["c", "b"]);
    let before = Some(first[1].check_order);
    let second = store.versions(yard.id(), "repo", before, 2).await.unwrap();
    assert_eq!(words(&second), ["a"]);
    assert!(
        store
            .versions(PipelineId::new(), "repo", None, 2)
            .await
            .unwrap()
            .is_empty()
    );
}

pub async fn any_text_is_kept_in_a_version(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let odd = Version::from([
        ("\u{0}\"".to_owned(), "é\n\\\u{0}".to_owned()),
        (String::new(), String::new()),
    ]);
    let saving = store.save_versions(yard.id(), "repo", SCOPE, vec![odd.clone()]);
    assert_eq!(saving.await.unwrap(), Saved::Stored { new: 1 });
    let list = store.versions(yard.id(), "repo", None, 2).await.unwrap();
    assert_eq!(list[0].version, odd);
}

pub async fn a_put_is_an_output_at_once_and_once(store: Shared) {
    let yard = Yard::new(&store, &["repo", "image"]).await;
    yard.found("image", &["a", "b"]).await;
    let build = yard.build("push").await;
    assert_eq!(
        yard.put(build.job, "image", "c").await,
        Saved::Stored { new: 1 }
    );
    assert_eq!(
        yard.put(build.job, "image", "c").await,
        Saved::Stored { new: 0 }
    );
    assert_eq!(
        yard.put(build.job, "image", "a").await,
        Saved::Stored { new: 0 }
    );
    assert_eq!(
        yard.list("image").await,
        ["c", "b", "a"],
        "what was known stays in its place"
    );
    let outputs = store.build_versions(build.job).await.unwrap().outputs;
    let words: Vec<&str> = outputs
        .iter()
        .map(|output| output.version["ref"].as_str())
        .collect();
    assert_eq!(words, ["c", "a"], "in the order of puts");
    assert_eq!(outputs[0].metadata, [("by".to_owned(), "put".to_owned())]);
}

pub async fn a_put_of_an_older_scope_is_an_output_but_in_no_list(store: Shared) {
    let yard = Yard::new(&store, &["image", "gone"]).await;
    let build = yard.build("push").await;
    yard.declare(&[("image", OTHER_SCOPE)]).await;
    for resource in ["image", "gone"] {
        assert_eq!(
            yard.put(build.job, resource, "a").await,
            Saved::Stored { new: 0 }
        );
    }
    assert!(yard.list("image").await.is_empty());
    assert_eq!(
        store.build_versions(build.job).await.unwrap().outputs.len(),
        2
    );
}

pub async fn checks_and_puts_at_once_lose_nothing(store: Shared) {
    let yard = Yard::new(&store, &["image"]).await;
    let build = yard.build("push").await;
    let (yard, job) = (&yard, build.job);
    let puts =
        (0..20).map(|at| async move { yard.put(job, "image", &format!("put-{at}")).await }.boxed());
    let checks = (0..20).map(|at| {
        async move {
            let words = [format!("put-{at}"), format!("new-{at}")];
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            Saved::Stored {
                new: yard.found("image", &words).await,
            }
        }
        .boxed()
    });
    let saved = futures_util::future::join_all(puts.chain(checks)).await;
    let count = |saved: &Saved| match saved {
        Saved::Stored { new } => *new,
        Saved::Stale => panic!("it is stale"),
    };
    assert_eq!(
        saved.iter().map(count).sum::<usize>(),
        40,
        "each is new once"
    );
    assert_eq!(yard.list("image").await.len(), 40);
}

pub async fn cleared_versions_are_gone_and_what_builds_used_is_not(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a", "b"]).await;
    let build = yard.succeeded("unit", &[("repo", "b")], &[]).await;
    assert_eq!(store.clear_versions(yard.id(), "repo").await.unwrap(), 2);
    assert_eq!(store.clear_versions(yard.id(), "repo").await.unwrap(), 0);
    assert!(yard.list("repo").await.is_empty());
    let used = store.build_versions(build).await.unwrap().inputs;
    assert_eq!(used[0].version, version("b"));
    assert_eq!(yard.found("repo", &["b"]).await, 1);
}

/// Whether the scheduler was woken since the last look.
fn is_woken(yard: &Yard, wakes: &mut Receiver<Wake>) -> bool {
    let mut woken = false;
    loop {
        match wakes.try_recv() {
            Ok(wake) => woken |= wake == Wake::Schedule(yard.id()),
            Err(TryRecvError::Lagged(_)) => woken = true,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return woken,
        }
    }
}

pub async fn whoever_schedules_hears_of_changes(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let mut wakes = store.wakes().subscribe();
    yard.declare(&[("repo", SCOPE)]).await;
    assert!(!is_woken(&yard, &mut wakes), "nothing changed");
    yard.declare(&[("repo", SCOPE), ("image", SCOPE)]).await;
    assert!(is_woken(&yard, &mut wakes));
    yard.found("repo", &["a"]).await;
    assert!(is_woken(&yard, &mut wakes));
    yard.found("repo", &["a"]).await;
    assert!(!is_woken(&yard, &mut wakes), "nothing is new");
    let build = yard.build("push").await;
    is_woken(&yard, &mut wakes);
    yard.put(build.job, "image", "x").await;
    assert!(is_woken(&yard, &mut wakes));
    store
        .set_version_enabled(yard.id(), "repo", hash("a"), false)
        .await
        .unwrap();
    assert!(is_woken(&yard, &mut wakes));
    let pin = Pin {
        fields: version("a"),
        comment: String::new(),
        actor: "eve".into(),
    };
    store.pin_resource(yard.id(), "repo", pin).await.unwrap();
    assert!(is_woken(&yard, &mut wakes));
    store.unpin_resource(yard.id(), "repo").await.unwrap();
    assert!(is_woken(&yard, &mut wakes));
    store.clear_versions(yard.id(), "repo").await.unwrap();
    assert!(is_woken(&yard, &mut wakes));
}
