//! Rules of output: byte by byte, chunk by chunk, each once.

use crate::story::*;
use bytes::Bytes;
use pocketci_server::model::run::{EventBody, JobState, LogData, LogPiece, LogStream, Outcome};
use pocketci_server::model::transition::{Applied, Change};
use pocketci_server::store::{LogEnd, LogOffsets};

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
            data: LogData::Raw(all),
        },
        LogPiece {
            step: 0,
            stream: LogStream::System,
            offset: 0,
            data: LogData::Raw(Bytes::from_static(b"\xFF\x00not utf-8\xC3")),
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

fn packed(text: &[u8]) -> LogData {
    LogData::Packed {
        frame: pocketci_proto::log::pack(text).unwrap().into(),
        size: text.len() as i64,
    }
}

fn at(step: i32, stream: LogStream, offset: i64, data: LogData) -> LogPiece {
    LogPiece {
        step,
        stream,
        offset,
        data,
    }
}

pub async fn packed_output_and_gaps_are_kept_as_they_came(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let text = b"a line\n".repeat(9000);
    let lost = LogData::Gap {
        bytes: 1 << 40,
        reason: "spool_full".into(),
    };
    let sent = vec![
        at(1, LogStream::Stdout, 0, packed(&text)),
        at(1, LogStream::Stdout, 63_000, lost),
        at(
            1,
            LogStream::Stdout,
            63_000 + (1 << 40),
            LogData::Raw(Bytes::from_static(b"x")),
        ),
    ];
    let numbered = (1..).zip(sent.clone()).collect();
    assert_eq!(attempt.logs(numbered).await, Applied::Done);
    let stored = output(&store, &attempt).await;
    assert!(stored == sent);
    assert_eq!(stored[0].shown(), (Bytes::from(text), None));
    let (line, gap) = stored[1].shown();
    let line = String::from_utf8(line.to_vec()).unwrap();
    assert!(
        line.contains("1,099,511,627,776 bytes of output are missing here"),
        "{line}"
    );
    let gap = gap.unwrap();
    assert_eq!((gap.bytes, gap.reason.as_str()), (1 << 40, "spool_full"));
}

pub async fn log_offsets_are_where_each_stream_ends(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let offsets = async |number| {
        let found = store.log_offsets(attempt.run, attempt.job, number).await;
        let LogOffsets { seq, mut ends } = found.unwrap();
        ends.sort_by_key(|end| (end.step, end.stream.as_str()));
        let ends: Vec<(i32, LogStream, i64)> = ends
            .into_iter()
            .map(|LogEnd { step, stream, end }| (step, stream, end))
            .collect();
        (seq, ends)
    };
    assert_eq!(offsets(1).await, (0, vec![]));
    let text = b"a line\n".repeat(1000);
    let lost = LogData::Gap {
        bytes: 500,
        reason: "limit".into(),
    };
    let sent = [
        at(
            0,
            LogStream::System,
            0,
            LogData::Raw(Bytes::from_static(b"hi")),
        ),
        at(2, LogStream::Stdout, 0, packed(&text)),
        at(
            2,
            LogStream::Stderr,
            0,
            LogData::Raw(Bytes::from_static(b"e")),
        ),
        at(2, LogStream::Stdout, 7000, lost),
    ];
    attempt.logs((1..).zip(sent).collect()).await;
    let expected = vec![
        (0, LogStream::System, 2),
        (2, LogStream::Stderr, 1),
        (2, LogStream::Stdout, 7500),
    ];
    assert_eq!(offsets(1).await, (4, expected));
    assert_eq!(offsets(2).await, (0, vec![]), "another attempt begins anew");
}

pub async fn an_attempt_that_breaks_the_protocol_is_lost(store: Shared) {
    let build = pipeline(&store, "build").await;
    let ann = peer(&store, "ann").await;
    let attempt = running(&store, &build, &ann).await;
    let condemn = Change::Condemn {
        job_id: attempt.job,
        holder: attempt.holder,
    };
    assert_eq!(attempt.submit(condemn.clone()).await, Applied::Done);
    assert_eq!(attempt.submit(condemn).await, Applied::Stale);
    assert_eq!(attempt.logs(vec![(1, piece(b"x"))]).await, Applied::Stale);
    let view = view(&store, attempt.run).await;
    assert_eq!(
        (view.jobs[0].0.state, view.jobs[0].0.lost),
        (JobState::Queued, 1)
    );
}
