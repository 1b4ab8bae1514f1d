//! Rules of archives: who may write one, that only a complete one can be read, and when it is forgotten.

use crate::home::Home;
use crate::story::*;
use bytes::Bytes;
use pocketci_server::model::archive::{
    ArchiveKey, Direction, MAX_ARCHIVE_BYTES, MAX_ARCHIVES, MAX_KEPT_BYTES, UploadId, Writer,
};
use pocketci_server::model::run::Outcome;
use pocketci_server::model::{JobId, RunId, SessionId};
use pocketci_server::store::{Added, Begun};
use std::time::Duration;

fn key(run_id: RunId, direction: Direction, name: &str) -> ArchiveKey {
    ArchiveKey {
        run_id,
        direction,
        name: name.into(),
    }
}

fn input(run_id: RunId) -> ArchiveKey {
    key(run_id, Direction::In, "in")
}

fn writer(attempt: &Attempt) -> Writer {
    Writer::Attempt {
        job_id: attempt.job,
        attempt: attempt.holder.attempt,
        session_id: attempt.holder.session_id,
    }
}

async fn begin(store: &Shared, key: &ArchiveKey, writer: Writer) -> UploadId {
    match store.begin_archive(key.clone(), writer).await.unwrap() {
        Begun::Upload(upload) => upload,
        other => panic!("not begun: {other:?}"),
    }
}

async fn add(store: &Shared, upload: UploadId, seq: i64, data: &'static [u8]) -> Added {
    let data = Bytes::from_static(data);
    store.add_page(upload, seq, data).await.unwrap()
}

async fn finish(store: &Shared, upload: UploadId, writer: Writer) -> bool {
    store.finish_archive(upload, writer).await.unwrap()
}

/// A complete archive of these pages.
async fn whole(store: &Shared, key: &ArchiveKey, writer: Writer, pages: &[&'static [u8]]) {
    let upload = begin(store, key, writer).await;
    for (seq, page) in (1..).zip(pages) {
        assert_eq!(add(store, upload, seq, page).await, Added::Stored);
    }
    assert!(finish(store, upload, writer).await);
}

/// Its content; `None` if it is not there or not complete.
async fn read(store: &Shared, key: &ArchiveKey) -> Option<Vec<u8>> {
    let archive = store.archive(key.clone()).await.unwrap()?;
    let mut content = Vec::new();
    for seq in 1..=archive.pages {
        let page = store.archive_page(archive.upload, seq).await.unwrap();
        content.extend_from_slice(&page.expect("a complete archive has all pages"));
    }
    assert_eq!(content.len() as i64, archive.bytes);
    let beyond = store.archive_page(archive.upload, archive.pages + 1).await;
    assert_eq!(beyond.unwrap(), None);
    Some(content)
}

pub async fn an_archive_can_be_read_when_it_is_complete_and_not_before(store: Shared) {
    let key = input(RunId::new());
    let upload = begin(&store, &key, Writer::User).await;
    assert_eq!(add(&store, upload, 1, b"a\0").await, Added::Stored);
    assert_eq!(add(&store, upload, 2, b"\xff").await, Added::Stored);
    assert_eq!(read(&store, &key).await, None);
    let listed = store.archives(key.run_id, Direction::In).await.unwrap();
    assert_eq!(listed, []);
    assert!(finish(&store, upload, Writer::User).await);
    assert!(finish(&store, upload, Writer::User).await, "said twice");
    assert_eq!(read(&store, &key).await.unwrap(), b"a\0\xff");
    assert_eq!(add(&store, upload, 3, b"more").await, Added::Over);
    let out = ArchiveKey {
        direction: Direction::Out,
        ..key.clone()
    };
    let named = ArchiveKey {
        name: "i".into(),
        ..key.clone()
    };
    assert_eq!(read(&store, &out).await, None);
    assert_eq!(read(&store, &named).await, None);
    whole(&store, &named, Writer::User, &[b"x"]).await;
    let listed = store.archives(key.run_id, Direction::In).await.unwrap();
    let listed: Vec<(String, i64, i64)> = listed
        .into_iter()
        .map(|archive| (archive.name, archive.pages, archive.bytes))
        .collect();
    assert_eq!(listed, [("i".into(), 1, 1), ("in".into(), 2, 3)]);
}

pub async fn a_page_is_stored_once_and_a_hole_is_refused(store: Shared) {
    let key = input(RunId::new());
    let upload = begin(&store, &key, Writer::User).await;
    assert_eq!(add(&store, upload, 2, b"b").await, Added::Over);
    assert_eq!(add(&store, upload, 0, b"b").await, Added::Over);
    assert_eq!(add(&store, upload, 1, b"a").await, Added::Stored);
    // The answer was lost; it comes again.
    assert_eq!(add(&store, upload, 1, b"x").await, Added::Stored);
    assert_eq!(add(&store, upload, 3, b"c").await, Added::Over);
    assert_eq!(add(&store, upload, 2, b"b").await, Added::Stored);
    assert!(finish(&store, upload, Writer::User).await);
    assert_eq!(read(&store, &key).await.unwrap(), b"ab");
}

pub async fn an_archive_begun_again_takes_the_place_of_the_earlier_one(store: Shared) {
    let key = input(RunId::new());
    whole(&store, &key, Writer::User, &[b"old", b"older"]).await;
    let read_lately = store.archive(key.clone()).await.unwrap().unwrap();
    let second = begin(&store, &key, Writer::User).await;
    assert_eq!(read(&store, &key).await, None, "it is gone at once");
    // Whoever reads the old one does not get pages of the new one.
    let page = store.archive_page(read_lately.upload, 1).await.unwrap();
    assert_eq!(page, None);
    assert_eq!(add(&store, second, 1, b"2").await, Added::Stored);
    let third = begin(&store, &key, Writer::User).await;
    assert_eq!(add(&store, second, 2, b"2").await, Added::Over);
    assert!(!finish(&store, second, Writer::User).await);
    assert_eq!(add(&store, third, 1, b"3").await, Added::Stored);
    assert!(finish(&store, third, Writer::User).await);
    assert_eq!(read(&store, &key).await.unwrap(), b"3");
}

pub async fn of_many_who_begin_an_archive_at_once_one_finishes(store: Shared) {
    let key = input(RunId::new());
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                let upload = begin(&store, &key, Writer::User).await;
                add(&store, upload, 1, b"page").await;
                (finish(&store, upload, Writer::User).await, upload)
            })
        })
        .collect();
    let mut last = Vec::new();
    for task in tasks {
        let (finished, upload) = task.await.unwrap();
        last.extend(finished.then_some(upload));
    }
    let stored = store.archive(key.clone()).await.unwrap().unwrap();
    assert!(last.contains(&stored.upload), "the last one is whole");
    assert_eq!(read(&store, &key).await.unwrap(), b"page");
}

pub async fn a_user_writes_for_runs_that_are_not_there_only(store: Shared) {
    let build = pipeline(&store, "build").await;
    let run = webhook(&build);
    let key = input(run.id);
    whole(&store, &key, Writer::User, &[b"sent"]).await;
    let late = ArchiveKey {
        name: "late".into(),
        ..key.clone()
    };
    let late = begin(&store, &late, Writer::User).await;
    enqueue(&store, run).await;
    let begun = store.begin_archive(key.clone(), Writer::User).await;
    assert_eq!(begun.unwrap(), Begun::NotYours);
    assert!(!finish(&store, late, Writer::User).await);
    assert_eq!(read(&store, &key).await.unwrap(), b"sent", "untouched");
}

pub async fn an_agent_writes_for_the_attempt_that_it_holds_only(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    let out = key(attempt.run, Direction::Out, "out");
    let mine = writer(&attempt);
    let Writer::Attempt {
        job_id,
        attempt: number,
        session_id,
    } = mine
    else {
        panic!("an attempt");
    };
    let strangers = [
        Writer::Attempt {
            job_id,
            attempt: number + 1,
            session_id,
        },
        Writer::Attempt {
            job_id,
            attempt: number,
            session_id: SessionId::new(),
        },
        Writer::Attempt {
            job_id: JobId::new(),
            attempt: number,
            session_id,
        },
    ];
    let upload = begin(&store, &out, mine).await;
    assert_eq!(add(&store, upload, 1, b"a").await, Added::Stored);
    for stranger in strangers {
        let begun = store.begin_archive(out.clone(), stranger).await;
        assert_eq!(begun.unwrap(), Begun::NotYours);
        assert!(!finish(&store, upload, stranger).await);
    }
    let foreign = key(RunId::new(), Direction::Out, "out");
    let begun = store.begin_archive(foreign, mine).await;
    assert_eq!(begun.unwrap(), Begun::NotYours);
    attempt.finish(Outcome::Succeeded).await;
    assert!(!finish(&store, upload, mine).await, "too late");
    assert_eq!(read(&store, &out).await, None);
}

pub async fn a_run_has_only_so_many_archives(store: Shared) {
    let run = RunId::new();
    for number in 0..MAX_ARCHIVES {
        let name = number.to_string();
        begin(&store, &key(run, Direction::In, &name), Writer::User).await;
    }
    let more = store.begin_archive(key(run, Direction::In, "more"), Writer::User);
    assert_eq!(more.await.unwrap(), Begun::TooMany);
    // One of them again is none more, and other runs have their own.
    begin(&store, &key(run, Direction::In, "0"), Writer::User).await;
    begin(&store, &input(RunId::new()), Writer::User).await;
}

/// Sizes are set, not written: nobody waits for gigabytes.
pub async fn an_archive_and_all_of_them_have_a_size(home: Home) {
    let store = home.open().await;
    let upload = begin(&store, &input(RunId::new()), Writer::User).await;
    assert_eq!(add(&store, upload, 1, b"x").await, Added::Stored);
    store.close().await;
    let all_but_one = format!("UPDATE archives SET bytes = {}", MAX_ARCHIVE_BYTES - 1);
    home.prepare(&[&all_but_one], &[&all_but_one]).await;
    let store = home.open().await;
    assert_eq!(add(&store, upload, 2, b"xy").await, Added::TooLarge);
    assert_eq!(add(&store, upload, 2, b"x").await, Added::Stored);
    assert_eq!(add(&store, upload, 3, b"x").await, Added::TooLarge);
    store.close().await;
    let full = format!("UPDATE archives SET bytes = {MAX_KEPT_BYTES}");
    home.prepare(&[&full], &[&full]).await;
    let store = home.open().await;
    let begun = store.begin_archive(input(RunId::new()), Writer::User);
    assert_eq!(begun.await.unwrap(), Begun::Full);
    store.close().await;
}

pub async fn archives_are_forgotten_in_time_but_not_those_of_runs_that_go_on(store: Shared) {
    let build = pipeline(&store, "build").await;
    let run = webhook(&build);
    let (of_run, alone, broken) = (input(run.id), input(RunId::new()), input(RunId::new()));
    for key in [&of_run, &alone] {
        whole(&store, key, Writer::User, &[b"x"]).await;
    }
    let unfinished = begin(&store, &broken, Writer::User).await;
    let run = enqueue(&store, run).await;
    let forget = |kept, broken_kept, limit| {
        let store = store.clone();
        async move {
            store
                .forget_archives(kept, broken_kept, limit)
                .await
                .unwrap()
        }
    };
    let day = Duration::from_secs(86_400);
    assert_eq!(forget(day, day, 9).await, 0);
    assert_eq!(forget(day, Duration::ZERO, 9).await, 1, "the broken one");
    assert_eq!(add(&store, unfinished, 1, b"x").await, Added::Over);
    assert_eq!(forget(Duration::ZERO, Duration::ZERO, 0).await, 0);
    assert_eq!(forget(Duration::ZERO, Duration::ZERO, 9).await, 1);
    assert_eq!(read(&store, &alone).await, None);
    assert!(read(&store, &of_run).await.is_some(), "its run goes on");
    store.submit(run, cancel_by("ann")).await.unwrap();
    assert_eq!(forget(Duration::ZERO, Duration::ZERO, 9).await, 1);
    assert_eq!(read(&store, &of_run).await, None);
}

pub async fn a_deleted_pipeline_takes_its_archives_along(store: Shared) {
    let build = pipeline(&store, "build").await;
    let run = webhook(&build);
    let (mine, other) = (input(run.id), input(RunId::new()));
    for key in [&mine, &other] {
        whole(&store, key, Writer::User, &[b"x"]).await;
    }
    let upload = store.archive(mine.clone()).await.unwrap().unwrap().upload;
    enqueue(&store, run).await;
    assert!(store.delete_pipeline(build.id).await.unwrap());
    assert_eq!(read(&store, &mine).await, None);
    assert_eq!(store.archive_page(upload, 1).await.unwrap(), None);
    assert!(read(&store, &other).await.is_some());
}
