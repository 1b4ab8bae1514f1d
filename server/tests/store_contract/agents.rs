//! Rules of agents: one connection a name, one credential a hash.

use crate::story::*;
use pocketci_proto::api::Driver;
use pocketci_server::model::agent::Agent;
use pocketci_server::model::{SessionId, TokenId};
use pocketci_server::store::Registered;
use std::time::Duration;

async fn only_agent(store: &Shared) -> Agent {
    let mut agents = store.agents().await.unwrap();
    assert_eq!(agents.len(), 1);
    agents.remove(0)
}

pub async fn a_token_is_stored_once_by_its_hash(store: Shared) {
    let first = store.create_token("ci", [9; 32]).await.unwrap();
    let again = store.create_token("other", [9; 32]).await.unwrap();
    assert_eq!((again.id, again.name.as_str()), (first.id, "ci"));
    let second = store.create_token("more", [8; 32]).await.unwrap();
    assert_eq!(store.token_by_hash([9; 32]).await.unwrap(), Some(first.id));
    assert_eq!(store.token_by_hash([7; 32]).await.unwrap(), None);
    let listed: Vec<_> = store.tokens().await.unwrap();
    let ids: Vec<_> = listed.iter().map(|token| token.id).collect();
    assert_eq!(ids, [first.id, second.id]);
}

pub async fn a_revoked_token_is_no_credential(store: Shared) {
    let token = store.create_token("ci", [9; 32]).await.unwrap();
    assert!(store.revoke_token(token.id).await.unwrap());
    assert!(!store.revoke_token(token.id).await.unwrap());
    assert!(!store.revoke_token(TokenId::new()).await.unwrap());
    assert_eq!(store.token_by_hash([9; 32]).await.unwrap(), None);
    assert!(store.tokens().await.unwrap().is_empty());
}

pub async fn registering_again_keeps_the_id(store: Shared) {
    let ann = peer(&store, "ann").await;
    let mut again = registration("ann", ann.token);
    again.boot_id = ann.boot;
    again.slots = 9;
    again.version = "0.2.0".into();
    again.drivers = vec![Driver::Native];
    again.labels = labels(&[("gpu", "yes")]);
    let registered = store.register(again.clone(), LONG).await.unwrap();
    assert_eq!(registered, Registered::As(ann.id));
    let stored = only_agent(&store).await;
    assert_eq!((stored.id, stored.name.as_str()), (ann.id, "ann"));
    assert_eq!(stored.session_id, again.session_id);
    assert_eq!((stored.slots, stored.version.as_str()), (9, "0.2.0"));
    assert_eq!(stored.drivers, [Driver::Native]);
    assert_eq!(stored.labels, again.labels);
    assert!(stored.connected);
}

pub async fn a_fresh_namesake_is_refused(store: Shared) {
    let ann = peer(&store, "ann").await;
    let other = registration("ann", ann.token);
    let registered = store.register(other, LONG).await.unwrap();
    assert_eq!(registered, Registered::NameTaken);
    assert_eq!(only_agent(&store).await.session_id, ann.session);
}

pub async fn a_successor_takes_its_name_at_once_with_the_same_credential(store: Shared) {
    let ann = peer(&store, "ann").await;
    let other = store.create_token("other", [2; 32]).await.unwrap().id;
    for (token, expected) in [
        (other, Registered::NameTaken),
        (ann.token, Registered::As(ann.id)),
    ] {
        let mut next = registration("ann", token);
        next.succeeds = true;
        assert_eq!(store.register(next, LONG).await.unwrap(), expected);
    }
}

pub async fn a_stale_or_disconnected_namesake_is_replaced(store: Shared) {
    let ann = peer(&store, "ann").await;
    let second = registration("ann", ann.token);
    let registered = store
        .register(second.clone(), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(registered, Registered::As(ann.id), "not heard of lately");
    store.disconnect(second.session_id).await.unwrap();
    assert!(!only_agent(&store).await.connected);
    let third = registration("ann", ann.token);
    let registered = store.register(third.clone(), LONG).await.unwrap();
    assert_eq!(registered, Registered::As(ann.id), "not connected");
    assert_eq!(only_agent(&store).await.session_id, third.session_id);
}

pub async fn an_old_session_cannot_disconnect_the_new_one(store: Shared) {
    let ann = peer(&store, "ann").await;
    let mut again = registration("ann", ann.token);
    again.boot_id = ann.boot;
    store.register(again.clone(), LONG).await.unwrap();
    store.disconnect(ann.session).await.unwrap();
    assert!(only_agent(&store).await.connected);
    store.disconnect(again.session_id).await.unwrap();
    assert!(!only_agent(&store).await.connected);
}

pub async fn seen_moves_the_time_of_the_sessions_named(store: Shared) {
    let ann = peer(&store, "ann").await;
    peer(&store, "bob").await;
    let times = || async {
        let agents = store.agents().await.unwrap();
        (agents[0].seen_at, agents[1].seen_at)
    };
    let before = times().await;
    let after = eventually("the clock moves", || async {
        let named = [ann.session, SessionId::new()];
        store.seen(&named).await.unwrap();
        let after = times().await;
        (after.0 > before.0).then_some(after)
    })
    .await;
    assert_eq!(after.1, before.1);
    store.seen(&[]).await.unwrap();
}

pub async fn agents_are_listed_by_name(store: Shared) {
    for name in ["mid", "zoe", "ann"] {
        peer(&store, name).await;
    }
    let agents = store.agents().await.unwrap();
    let names: Vec<_> = agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["ann", "mid", "zoe"]);
}
