//! Rules of output: byte by byte, chunk by chunk, each once.

use crate::story::*;
use bytes::Bytes;
use pocketci_server::model::run::{EventBody, LogPiece, LogStream, Outcome};
use pocketci_server::model::transition::Applied;

async fn output(store: &Shared, attempt: &Attempt) -> Vec<LogPiece> {
    let pieces = events(store, attempt.run).await.into_iter();
    pieces
        .filter_map(|event| match event.body {
            EventBody::Log(piece) => Some(piece),
            EventBody::Fact(_) => None,
        })
        .collect()
}

pub async fn logs_are_stored_byte_by_byte(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let all: Bytes = (0..=255)
        .cycle()
        .take(64 * 1024)
        .collect::<Vec<u8>>()
        .into();
    let sent = vec![
        LogPiece {
            step: 3,
            stream: LogStream::Stderr,
            offset: 1 << 40,
            bytes: all,
        },
        LogPiece {
            step: 0,
            stream: LogStream::System,
            offset: 0,
            bytes: Bytes::from_static(b"\xFF\x00not utf-8\xC3"),
        },
        piece(b"\r\n\x1b[0m"),
    ];
    let numbered = (1..).zip(sent.clone()).collect();
    assert_eq!(attempt.logs(numbered).await, Applied::Done);
    assert!(output(&store, &attempt).await == sent);
    assert_eq!(view(&store, attempt.run).await.jobs[0].0.log_seq, 3);
}

pub async fn logs_are_idempotent_and_contiguous(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let (a, b, c) = (piece(b"a"), piece(b"b"), piece(b"c"));
    let two = vec![(1, a.clone()), (2, b.clone())];
    assert_eq!(attempt.logs(two.clone()).await, Applied::Done);
    assert_eq!(attempt.logs(two).await, Applied::Duplicate);
    assert_eq!(attempt.logs(vec![(4, c.clone())]).await, Applied::Gap);
    assert_eq!(output(&store, &attempt).await.len(), 2);
    let overlapping = vec![(2, b.clone()), (3, c.clone())];
    assert_eq!(attempt.logs(overlapping).await, Applied::Done);
    assert!(output(&store, &attempt).await == [a, b, c]);
    let torn = vec![(4, piece(b"d")), (6, piece(b"f"))];
    assert_eq!(attempt.logs(torn).await, Applied::Gap);
    let stored = view(&store, attempt.run).await.jobs[0].0.log_seq;
    assert_eq!(output(&store, &attempt).await.len() as i64, stored);
}

pub async fn finished_before_its_last_chunk_is_a_gap(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let end = attempt.change(2, finished(Outcome::Succeeded, 1));
    assert_eq!(attempt.submit(end.clone()).await, Applied::Gap);
    assert_eq!(attempt.logs(vec![(1, piece(b"last"))]).await, Applied::Done);
    assert_eq!(attempt.submit(end).await, Applied::Done);
}

pub async fn facts_and_output_share_one_numbering(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let mut attempt = running(&store, &build, &ann).await;
    attempt.logs(vec![(1, piece(b"a")), (2, piece(b"b"))]).await;
    attempt.finish(Outcome::Succeeded).await;
    assert_eq!(
        event_words(&store, attempt.run).await,
        ["started", "log", "log", "job_finished", "run_finished"]
    );
    let stored = events(&store, attempt.run).await;
    assert_eq!(
        (stored[1].job_id, stored[1].attempt),
        (Some(attempt.job), Some(1))
    );
}
