//! Agents and their credentials.

use super::harness::*;
use pocketci_server::model::{BootId, SessionId};
use pocketci_server::store::Registered;
use std::time::Duration;

pub async fn tokens_are_known_by_their_hash_until_revoked(db: Db) {
    let token = db.create_token("a", [1; 32]).await.unwrap();
    let again = db.create_token("b", [1; 32]).await.unwrap();
    assert_eq!((again.id, again.name.as_str()), (token.id, "a"));
    db.create_token("c", [2; 32]).await.unwrap();
    assert_eq!(db.token_by_hash([1; 32]).await.unwrap(), Some(token.id));
    assert_eq!(db.token_by_hash([3; 32]).await.unwrap(), None);
    assert_eq!(db.tokens().await.unwrap().len(), 2);
    assert!(db.revoke_token(token.id).await.unwrap());
    assert!(!db.revoke_token(token.id).await.unwrap());
    assert_eq!(db.token_by_hash([1; 32]).await.unwrap(), None);
    assert_eq!(db.tokens().await.unwrap().len(), 1);
}

pub async fn a_name_belongs_to_one_living_process(db: Db) {
    let fresh = Duration::from_secs(60);
    let first = registration("a");
    let Registered::As(agent) = db.register(first.clone(), fresh).await.unwrap() else {
        panic!("refused");
    };
    let mut other = registration("a");
    assert_eq!(
        db.register(other.clone(), fresh).await.unwrap(),
        Registered::NameTaken
    );
    let mut same_process = first.clone();
    same_process.session_id = SessionId::new();
    assert_eq!(
        db.register(same_process.clone(), fresh).await.unwrap(),
        Registered::As(agent)
    );
    db.disconnect(first.session_id).await.unwrap();
    assert!(
        db.agents().await.unwrap()[0].connected,
        "the old session's end does not count"
    );
    db.disconnect(same_process.session_id).await.unwrap();
    assert!(!db.agents().await.unwrap()[0].connected);
    assert_eq!(
        db.register(other.clone(), fresh).await.unwrap(),
        Registered::As(agent)
    );
    db.seen(&[other.session_id]).await.unwrap();
    other.boot_id = BootId::new();
    assert_eq!(
        db.register(other, Duration::ZERO).await.unwrap(),
        Registered::As(agent),
        "the older is silent"
    );
    let all = db.agents().await.unwrap();
    assert_eq!((all.len(), all[0].name.as_str(), all[0].slots), (1, "a", 4));
}
