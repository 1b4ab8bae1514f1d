//! Rules of declared resources: scopes, checks, pins.

use crate::story::*;
use crate::version_story::*;
use pocketci_server::model::version::{Pin, ResourceState, Version};
use pocketci_server::model::{PipelineId, RevisionId};
use pocketci_server::store::{Pinned, Saved};
use std::time::Duration;

async fn state(yard: &Yard, resource: &str) -> ResourceState {
    let found = yard.store.resource(yard.id(), resource).await.unwrap();
    found.expect("it is declared")
}

async fn begin(yard: &Yard, resource: &str, pause: Duration) -> Option<i64> {
    let beginning = yard.store.check_begun(yard.id(), resource, SCOPE, pause);
    beginning.await.unwrap()
}

async fn end(yard: &Yard, resource: &str, seq: i64, error: Option<&str>) -> bool {
    let ending = yard.store.check_ended(yard.id(), resource, seq, error);
    ending.await.unwrap()
}

fn pin(fields: &[(&str, &str)]) -> Pin {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    Pin {
        fields: fields.iter().map(owned).collect(),
        comment: "broken since".into(),
        actor: "eve".into(),
    }
}

pub async fn what_is_no_longer_declared_is_gone(store: Shared) {
    let yard = Yard::new(&store, &["repo", "image"]).await;
    yard.found("repo", &["a"]).await;
    let names = |states: Vec<ResourceState>| -> Vec<String> {
        states.into_iter().map(|state| state.name).collect()
    };
    assert_eq!(
        names(store.resources(yard.id()).await.unwrap()),
        ["image", "repo"]
    );
    yard.declare(&[("image", SCOPE)]).await;
    assert_eq!(names(store.resources(yard.id()).await.unwrap()), ["image"]);
    assert!(store.resource(yard.id(), "repo").await.unwrap().is_none());
    yard.declare(&[("image", SCOPE), ("repo", SCOPE)]).await;
    assert!(yard.list("repo").await.is_empty(), "it begins anew");
}

pub async fn an_old_revision_declares_nothing(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let other = vec![("other".to_owned(), SCOPE)];
    for (id, revision) in [
        (yard.id(), RevisionId::new()),
        (PipelineId::new(), yard.pipeline.revision_id),
    ] {
        let declaring = store.declare_resources(id, revision, other.clone());
        assert!(!declaring.await.unwrap());
    }
    assert_eq!(store.resources(yard.id()).await.unwrap().len(), 1);
    // A pause is no new revision.
    store.set_paused(yard.id(), Some("eve")).await.unwrap();
    yard.declare(&[("repo", SCOPE)]).await;
}

pub async fn another_scope_is_another_list_and_the_old_one_comes_back(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    yard.found("repo", &["a", "b"]).await;
    let seq = begin(&yard, "repo", Duration::ZERO).await.unwrap();
    assert_eq!(
        store
            .pin_resource(yard.id(), "repo", pin(&[("ref", "a")]))
            .await
            .unwrap(),
        Pinned::Done
    );
    yard.declare(&[("repo", OTHER_SCOPE)]).await;
    assert!(yard.list("repo").await.is_empty());
    let now = state(&yard, "repo").await;
    assert!(!now.checking && now.check_started_at.is_none() && now.newest.is_none());
    assert!(
        now.pin.is_some() && !now.pin_found,
        "the pin stays and is not found"
    );
    // What a check of the old scope found is for nobody.
    assert!(!end(&yard, "repo", seq, None).await);
    let late = store.save_versions(yard.id(), "repo", SCOPE, vec![version("c")]);
    assert_eq!(late.await.unwrap(), Saved::Stale);
    assert_eq!(begin(&yard, "repo", Duration::ZERO).await, None);
    let metadata = vec![("k".to_owned(), "v".to_owned())];
    let telling = store.save_metadata(yard.id(), "repo", OTHER_SCOPE, hash("a"), metadata);
    assert!(!telling.await.unwrap());
    yard.declare(&[("repo", SCOPE)]).await;
    assert_eq!(yard.list("repo").await, ["b", "a"]);
    assert!(state(&yard, "repo").await.pin_found);
}

pub async fn one_check_begins_of_many_at_once(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let asking = (0..20).map(|_| begin(&yard, "repo", LONG));
    let begun = futures_util::future::join_all(asking).await;
    let seqs: Vec<i64> = begun.into_iter().flatten().collect();
    assert_eq!(seqs.len(), 1);
    let checking = state(&yard, "repo").await;
    assert!(checking.checking && checking.check_started_at.is_some());
    assert_eq!(checking.check_seq, seqs[0]);
    assert!(end(&yard, "repo", seqs[0], Some("no route to host")).await);
    assert!(
        !end(&yard, "repo", seqs[0], None).await,
        "the same message again"
    );
    let over = state(&yard, "repo").await;
    assert!(!over.checking && over.check_finished_at.is_some());
    assert_eq!(over.check_error.as_deref(), Some("no route to host"));
    assert_eq!(
        begin(&yard, "repo", LONG).await,
        None,
        "the pause is not over"
    );
}

pub async fn an_overtaken_check_ends_nothing(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let first = begin(&yard, "repo", Duration::ZERO).await.unwrap();
    let second = begin(&yard, "repo", Duration::ZERO).await.unwrap();
    assert!(second > first);
    assert!(!end(&yard, "repo", first, Some("lost")).await);
    assert!(state(&yard, "repo").await.checking);
    assert!(end(&yard, "repo", second, None).await);
    assert_eq!(state(&yard, "repo").await.check_error, None);
    assert_eq!(begin(&yard, "gone", Duration::ZERO).await, None);
    assert!(!end(&yard, "gone", 1, None).await);
}

pub async fn a_check_begins_again_after_the_pause(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let first = begin(&yard, "repo", LONG).await.unwrap();
    assert!(end(&yard, "repo", first, None).await);
    let pause = Duration::from_millis(50);
    let second = eventually("the pause is over", || begin(&yard, "repo", pause)).await;
    assert_eq!(second, first + 1);
}

pub async fn a_pin_stands_for_the_newest_version_that_contains_it(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let of = |word: &str, path: &str| -> Version {
        let mut version = version(word);
        version.insert("path".into(), path.into());
        version
    };
    let odd = Version::from([("x\"ref".to_owned(), "a".to_owned())]);
    let found = vec![of("a", "x"), of("a", "y"), of("b", "x"), odd];
    store
        .save_versions(yard.id(), "repo", SCOPE, found)
        .await
        .unwrap();
    let pinned = |fields: &[(&str, &str)]| store.pin_resource(yard.id(), "repo", pin(fields));
    assert_eq!(pinned(&[("ref", "c")]).await.unwrap(), Pinned::NoVersion);
    assert_eq!(
        pinned(&[("ref", "a"), ("path", "z")]).await.unwrap(),
        Pinned::NoVersion
    );
    assert_eq!(state(&yard, "repo").await.pin, None, "nothing was pinned");
    assert_eq!(pinned(&[("ref", "a")]).await.unwrap(), Pinned::Done);
    let list = store.versions(yard.id(), "repo", None, 10).await.unwrap();
    let flags: Vec<bool> = list.iter().map(|stored| stored.pinned).collect();
    assert_eq!(flags, [false, false, true, false]);
    let now = state(&yard, "repo").await;
    assert_eq!((now.pin, now.pin_found), (Some(pin(&[("ref", "a")])), true));
    assert_eq!(
        pinned(&[("path", "x")]).await.unwrap(),
        Pinned::Done,
        "replaced"
    );
    assert!(store.unpin_resource(yard.id(), "repo").await.unwrap());
    assert!(!store.unpin_resource(yard.id(), "repo").await.unwrap());
    let nowhere = store.pin_resource(yard.id(), "gone", pin(&[("ref", "a")]));
    assert_eq!(nowhere.await.unwrap(), Pinned::NoResource);
}

pub async fn a_pin_is_found_among_many_that_only_look_like_it(store: Shared) {
    let yard = Yard::new(&store, &["repo"]).await;
    let mut found = vec![version("a")];
    // The text of each contains `"ref":"a"`.
    found.extend((0..150).map(|at| {
        Version::from([
            ("n".to_owned(), at.to_string()),
            ("x\"ref".to_owned(), "a".to_owned()),
        ])
    }));
    store
        .save_versions(yard.id(), "repo", SCOPE, found)
        .await
        .unwrap();
    let pinning = store.pin_resource(yard.id(), "repo", pin(&[("ref", "a")]));
    assert_eq!(pinning.await.unwrap(), Pinned::Done);
    assert!(state(&yard, "repo").await.pin_found);
}
