//! A folder to the server, and one back; on a terminal one sees how far it is.

use crate::archive::{self, Packing, Piece, Reading, Tally};
use crate::client::{Client, ClientError};
use anyhow::Context;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use pocketci_proto::MAX_ARCHIVE_BYTES;
use reqwest::{Body, StatusCode};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Pieces between the connection and the disk.
const PIECES: usize = 8;
/// How long the server may be silent in the middle of an output.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// How often the line of the terminal is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// A line on stderr, if that is a terminal.
fn line(text: String) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} {bytes} ({bytes_per_sec})");
    let bar = ProgressBar::new_spinner().with_message(text);
    bar.enable_steady_tick(DRAW_EVERY);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn tell(what: &str, name: &str, tally: Tally) {
    let files = if tally.files == 1 { "file" } else { "files" };
    let left_out = match tally.left_out {
        0 => String::new(),
        count => format!("; {count} that are neither files, links nor folders were left out"),
    };
    eprintln!(
        "-- {what} {name:?}: {} {files}, {}{left_out}",
        tally.files,
        HumanBytes(tally.bytes)
    );
}

/// Sends a folder as an input of the run to be.
pub(super) async fn send(
    client: &Client,
    run: &str,
    name: &str,
    folder: &Path,
    include_ignored: bool,
) -> anyhow::Result<()> {
    let packing = Packing {
        root: folder.to_owned(),
        include_ignored,
        max_bytes: MAX_ARCHIVE_BYTES,
    };
    let bar = line(format!("sending {name}"));
    // What goes wrong here is more to the point than that the request failed.
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let (ending, failing) = (outcome.clone(), outcome.clone());
    let counting = bar.clone();
    let pieces = archive::pack(packing, move |tally| {
        lock(&ending).tally = tally;
    });
    let pieces = pieces
        .inspect_ok(move |piece: &Bytes| counting.inc(piece.len() as u64))
        .inspect_err(move |error| lock(&failing).failure = Some(error.to_string()));
    let path = ["api", "runs", run, "inputs", name];
    let sent = client.upload(&path, Body::wrap_stream(pieces)).await;
    bar.finish_and_clear();
    let outcome = lock(&outcome);
    if let Some(failure) = &outcome.failure {
        anyhow::bail!("cannot send input {name:?}: {failure}");
    }
    sent?;
    tell("input", name, outcome.tally);
    Ok(())
}

#[derive(Default)]
struct Outcome {
    tally: Tally,
    failure: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fills a folder with an output of the run; `false` if there is no such output.
pub(super) async fn receive(
    client: &Client,
    run: &str,
    name: &str,
    folder: &Path,
) -> anyhow::Result<bool> {
    let path = ["api", "runs", run, "outputs", name];
    let response = match client.download(&path).await {
        Ok(response) => response,
        Err(ClientError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => {
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    let bar = line(format!("receiving {name}"));
    let (pieces, receiver) = mpsc::channel(PIECES);
    let into = folder.to_owned();
    let unpacking = tokio::task::spawn_blocking(move || {
        archive::unpack(Reading::new(receiver), &into, MAX_ARCHIVE_BYTES)
    });
    let unpacking = AbortOnDropHandle::new(unpacking);
    let mut stream = response.bytes_stream();
    let broken = loop {
        let piece = match tokio::time::timeout(SILENCE_LIMIT, stream.next()).await {
            Ok(Some(Ok(bytes))) => {
                bar.inc(bytes.len() as u64);
                Piece::Bytes(bytes)
            }
            Ok(None) => Piece::End,
            Ok(Some(Err(error))) => break Some(client.broken(&error)),
            Err(_) => break Some(client.silent()),
        };
        let over = matches!(piece, Piece::End);
        // Whoever does not take it has failed, and says why.
        if pieces.send(piece).await.is_err() || over {
            break None;
        }
    };
    drop(pieces);
    bar.finish_and_clear();
    let unpacked = unpacking.await.context("unpacking broke off")?;
    match (unpacked, broken) {
        (Ok(tally), None) => tell("output", name, tally),
        (Err(error), None) => return Err(unpack_error(name, folder, &error)),
        (_, Some(broken)) => return Err(broken.into()),
    }
    Ok(true)
}

fn unpack_error(name: &str, folder: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "cannot unpack output {name:?} into {}: {error}",
        folder.display()
    )
}
