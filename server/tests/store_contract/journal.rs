//! Rules of journals: only the holder writes, without holes, once; the next attempt reads what the last one wrote.

use crate::story::*;
use pocketci_server::model::SessionId;
use pocketci_server::model::journal::{
    JournalEntry, JournalHolder, Journaled, MAX_ENTRY_BYTES, MAX_JOURNAL_BYTES,
};
use pocketci_server::model::run::Outcome;
use std::time::Duration;

const PAGE: usize = 1 << 20;

fn entry(seq: i64, result: &'static [u8]) -> JournalEntry {
    JournalEntry {
        seq,
        attempt: 0,
        call: seq * 10,
        kind: "done".into(),
        content_hash: vec![seq as u8; 32],
        result: result.into(),
    }
}

fn holder(attempt: &Attempt) -> JournalHolder {
    JournalHolder {
        job_id: attempt.job,
        attempt: attempt.holder.attempt,
        session_id: attempt.holder.session_id,
    }
}

async fn append(attempt: &Attempt, entries: Vec<JournalEntry>) -> Journaled {
    let appended = attempt.store.append_journal(holder(attempt), entries).await;
    appended.unwrap()
}

async fn read(attempt: &Attempt, after: i64) -> Vec<(i64, i32, Vec<u8>)> {
    let found = attempt.store.journal(holder(attempt), after, 100, PAGE);
    let found = found.await.unwrap().expect("the attempt is held");
    found
        .into_iter()
        .map(|entry| (entry.seq, entry.attempt, entry.result.to_vec()))
        .collect()
}

pub async fn a_journal_is_read_as_it_was_written(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    assert!(read(&attempt, 0).await.is_empty());
    let entries = vec![entry(1, b"a\0\xff"), entry(2, b"")];
    assert_eq!(append(&attempt, entries).await, Journaled::Stored(2));
    let found = store.journal(holder(&attempt), 0, 100, PAGE).await;
    let found = found.unwrap().unwrap();
    let expected: Vec<JournalEntry> = [entry(1, b"a\0\xff"), entry(2, b"")]
        .into_iter()
        .map(|entry| JournalEntry {
            attempt: 1,
            ..entry
        })
        .collect();
    assert_eq!(found, expected);
}

pub async fn a_journal_entry_is_stored_once_and_a_hole_is_refused(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    assert_eq!(append(&attempt, vec![entry(2, b"b")]).await, Journaled::Gap);
    let first = append(&attempt, vec![entry(1, b"a"), entry(2, b"b")]).await;
    assert_eq!(first, Journaled::Stored(2));
    // The answer was lost; the same comes again, with more.
    let again = append(
        &attempt,
        vec![entry(1, b"x"), entry(2, b"x"), entry(3, b"c")],
    )
    .await;
    assert_eq!(again, Journaled::Stored(3));
    assert_eq!(
        append(&attempt, vec![entry(1, b"y")]).await,
        Journaled::Stored(3)
    );
    assert_eq!(append(&attempt, vec![entry(5, b"e")]).await, Journaled::Gap);
    let broken = append(&attempt, vec![entry(4, b"d"), entry(6, b"f")]).await;
    assert_eq!(broken, Journaled::Gap);
    let stored: Vec<Vec<u8>> = read(&attempt, 0).await.into_iter().map(|e| e.2).collect();
    assert_eq!(stored, [b"a", b"b", b"c"]);
}

pub async fn a_journal_is_written_and_read_by_its_holder_only(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    append(&attempt, vec![entry(1, b"a")]).await;
    let mut other_attempt = attempt.clone();
    other_attempt.holder.attempt = 2;
    let mut other_session = attempt.clone();
    other_session.holder.session_id = SessionId::new();
    for stranger in [&other_attempt, &other_session] {
        let appended = append(stranger, vec![entry(2, b"b")]).await;
        assert_eq!(appended, Journaled::NotHeld);
        let found = store.journal(holder(stranger), 0, 100, PAGE).await;
        assert_eq!(found.unwrap(), None);
        assert!(!store.clear_journal(holder(stranger)).await.unwrap());
    }
    assert_eq!(read(&attempt, 0).await.len(), 1);
}

pub async fn the_next_attempt_goes_on_with_the_journal(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut first = assigned(&store, &build, &ann).await;
    first.accept(Duration::from_millis(1)).await;
    append(&first, vec![entry(1, b"a")]).await;
    first.expire().await;
    let bob = peer(&store, "bob").await;
    let claimed = bob.claim(&store, 1).await.remove(0);
    let mut second = Attempt::of(&store, &bob, &claimed);
    second.accept(LONG).await;
    assert_eq!(
        append(&first, vec![entry(2, b"x")]).await,
        Journaled::NotHeld
    );
    assert_eq!(
        append(&second, vec![entry(2, b"b")]).await,
        Journaled::Stored(2)
    );
    let found = read(&second, 0).await;
    assert_eq!(found, [(1, 1, b"a".to_vec()), (2, 2, b"b".to_vec())]);
}

pub async fn a_cleared_journal_begins_again(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    append(&attempt, vec![entry(1, b"a"), entry(2, b"b")]).await;
    assert!(store.clear_journal(holder(&attempt)).await.unwrap());
    assert!(read(&attempt, 0).await.is_empty());
    assert_eq!(
        append(&attempt, vec![entry(1, b"c")]).await,
        Journaled::Stored(1)
    );
}

pub async fn a_journal_ends_with_its_job(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    append(&attempt, vec![entry(1, b"a")]).await;
    attempt.finish(Outcome::Succeeded).await;
    assert_eq!(
        append(&attempt, vec![entry(2, b"b")]).await,
        Journaled::NotHeld
    );
    let found = store.journal(holder(&attempt), 0, 100, PAGE).await;
    assert_eq!(found.unwrap(), None);
    // Rows of a job that is gone would be refused by the reference to it.
    assert!(store.delete_pipeline(build.id).await.unwrap());
}

pub async fn a_deleted_pipeline_takes_its_journals_along(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    append(&attempt, vec![entry(1, b"a")]).await;
    assert!(store.delete_pipeline(build.id).await.unwrap());
    assert_eq!(
        append(&attempt, vec![entry(2, b"b")]).await,
        Journaled::NotHeld
    );
}

pub async fn a_journal_has_a_size_and_is_read_in_pages(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let large = vec![7u8; MAX_ENTRY_BYTES];
    let mut seq = 0;
    loop {
        seq += 1;
        let entry = JournalEntry {
            result: large.clone().into(),
            ..entry(seq, b"")
        };
        match append(&attempt, vec![entry]).await {
            Journaled::Stored(stored) => assert_eq!(stored, seq),
            Journaled::Full => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seq - 1, MAX_JOURNAL_BYTES / MAX_ENTRY_BYTES as i64);
    // A page has one entry at least, and no more than fit.
    for after in 0..seq - 1 {
        let found = read(&attempt, after).await;
        assert_eq!((found.len(), found[0].0), (1, after + 1));
    }
    assert!(read(&attempt, seq - 1).await.is_empty());
}
