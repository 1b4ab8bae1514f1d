//! Rules of secrets: sealed bytes by scope and name, and the keys they may be sealed with.

use crate::story::*;
use pocketci_server::model::PipelineId;
use pocketci_server::model::pipeline::{PutPipeline, WebhookSecret};
use pocketci_server::model::secret::{Scope, SealedSecret};

fn sealed(scope: Scope, name: &str, bytes: &[u8]) -> SealedSecret {
    SealedSecret {
        scope,
        name: name.into(),
        sealed: bytes.to_vec(),
    }
}

async fn names(store: &Shared, scope: Scope) -> Vec<String> {
    let secrets = store.secrets(scope).await.unwrap();
    secrets.into_iter().map(|secret| secret.name).collect()
}

async fn seen(store: &Shared, id: PipelineId, wanted: &[&str]) -> Vec<(String, Vec<u8>)> {
    let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    let mut found: Vec<_> = store
        .sealed_secrets(id, &wanted)
        .await
        .unwrap()
        .into_iter()
        .map(|secret| (secret.name, secret.sealed))
        .collect();
    found.sort();
    found
}

pub async fn a_secret_is_set_replaced_listed_and_removed(store: Shared) {
    let build = pipeline(&store, "build").await;
    for scope in [None, Some(build.id)] {
        assert_eq!(
            store.put_secret(sealed(scope, "B", b"1")).await.unwrap(),
            Some(true)
        );
        assert_eq!(
            store.put_secret(sealed(scope, "B", b"2")).await.unwrap(),
            Some(false)
        );
        assert_eq!(
            store.put_secret(sealed(scope, "A", b"3")).await.unwrap(),
            Some(true)
        );
        assert_eq!(names(&store, scope).await, ["A", "B"]);
        let listed = store.secrets(scope).await.unwrap();
        assert!(listed.iter().all(|secret| secret.scope == scope));
        assert!(store.delete_secret(scope, "A").await.unwrap());
        assert!(!store.delete_secret(scope, "A").await.unwrap());
        assert_eq!(names(&store, scope).await, ["B"]);
    }
    assert_eq!(store.all_sealed_secrets().await.unwrap().len(), 2);
    store.delete_pipeline(build.id).await.unwrap();
    assert_eq!(store.all_sealed_secrets().await.unwrap().len(), 1);
}

pub async fn a_pipeline_sees_its_own_secrets_before_everybodys(store: Shared) {
    let build = pipeline(&store, "build").await;
    let other = pipeline(&store, "other").await;
    store
        .put_secret(sealed(None, "A", b"global"))
        .await
        .unwrap();
    store
        .put_secret(sealed(None, "B", b"global b"))
        .await
        .unwrap();
    store
        .put_secret(sealed(Some(build.id), "A", b"own"))
        .await
        .unwrap();
    store
        .put_secret(sealed(Some(other.id), "C", b"foreign"))
        .await
        .unwrap();
    assert_eq!(
        seen(&store, build.id, &["A", "B", "C", "D"]).await,
        [
            ("A".to_owned(), b"own".to_vec()),
            ("B".to_owned(), b"global b".to_vec())
        ]
    );
    assert_eq!(
        seen(&store, other.id, &["A"]).await,
        [("A".to_owned(), b"global".to_vec())]
    );
}

pub async fn a_secret_of_an_unknown_pipeline_is_refused(store: Shared) {
    let unknown = Some(PipelineId::new());
    assert_eq!(
        store.put_secret(sealed(unknown, "A", b"1")).await.unwrap(),
        None
    );
    assert!(store.all_sealed_secrets().await.unwrap().is_empty());
}

pub async fn resealing_needs_the_bytes_that_are_stored(store: Shared) {
    let build = pipeline(&store, "build").await;
    for scope in [None, Some(build.id)] {
        store.put_secret(sealed(scope, "A", b"old")).await.unwrap();
        assert!(
            store
                .reseal_secret(sealed(scope, "A", b"old"), b"new".to_vec())
                .await
                .unwrap()
        );
        assert!(
            !store
                .reseal_secret(sealed(scope, "A", b"old"), b"newer".to_vec())
                .await
                .unwrap()
        );
    }
    let all = store.all_sealed_secrets().await.unwrap();
    assert!(all.iter().all(|secret| secret.sealed == b"new"));
}

pub async fn webhook_secrets_are_resealed_only_for_the_version_seen(store: Shared) {
    let secret = |bytes: &[u8]| WebhookSecret::new(bytes).unwrap();
    let with = PutPipeline {
        webhook_secrets: Some(vec![secret(b"a"), secret(b"b")]),
        ..put("build")
    };
    let build = store.put_pipeline(with).await.unwrap().pipeline;
    let new = vec![secret(b"A"), secret(b"B")];
    let stale = store
        .reseal_webhook_secrets(build.id, build.version + 1, new.clone())
        .await;
    assert!(!stale.unwrap());
    assert!(
        store
            .reseal_webhook_secrets(build.id, build.version, new.clone())
            .await
            .unwrap()
    );
    let stored = store.pipeline(build.id).await.unwrap().unwrap();
    assert_eq!(
        (stored.webhook_secrets, stored.version),
        (new, build.version)
    );
}

pub async fn keys_in_use_are_remembered_until_one_is_left(store: Shared) {
    assert!(store.secret_keys().await.unwrap().is_empty());
    for key in [[2; 8], [1; 8], [2; 8]] {
        store.add_secret_key(key).await.unwrap();
    }
    assert_eq!(store.secret_keys().await.unwrap(), [[1; 8], [2; 8]]);
    store.keep_only_secret_key([2; 8]).await.unwrap();
    assert_eq!(store.secret_keys().await.unwrap(), [[2; 8]]);
}
