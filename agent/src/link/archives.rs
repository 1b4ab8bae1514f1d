//! Inputs and outputs of one-off tasks, and large bodies of webhooks: of any size, a page of which is in memory.

use super::calls::ANSWER_WITHIN;
use super::connection::Connection;
use super::wire::{MAX_TRIES, Wire};
use crate::attempt::{Archive, Pieces};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use pocketci_proto::PAGE_BYTES;
use pocketci_proto::agent as pb;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::{Status, Streaming};

/// What comes in pages, and is the same however often it is asked for.
#[derive(Clone)]
enum Wanted {
    Input(pb::FetchInputRequest),
    Body(pb::FetchBodyRequest),
}

/// An input or a body on its way.
struct Incoming {
    wire: Arc<Wire>,
    wanted: Wanted,
    pages: Streaming<pb::Page>,
    /// Bytes that were handed on: a further connection begins anew, but what was sent for a run never changes.
    received: u64,
    /// Bytes to pass over until there.
    skip: u64,
    /// Connections that brought nothing, one after the other.
    fruitless: u32,
}

async fn open(wire: &Wire, wanted: &Wanted) -> Result<Streaming<pb::Page>, Status> {
    wire.patiently(MAX_TRIES, |mut connection| {
        let wanted = wanted.clone();
        async move {
            let asking = async {
                match wanted {
                    Wanted::Input(wanted) => {
                        let request = connection.request(wanted);
                        connection.client.fetch_input(request).await
                    }
                    Wanted::Body(wanted) => {
                        let request = connection.request(wanted);
                        connection.client.fetch_body(request).await
                    }
                }
            };
            let answered = timeout(ANSWER_WITHIN, asking).await;
            let answered =
                answered.map_err(|_| Status::unavailable("the server did not answer in time"))?;
            Ok(answered?.into_inner())
        }
    })
    .await
}

/// An input of a one-off task, read as it is wanted, over as many connections as it takes.
pub(super) async fn input(
    wire: &Arc<Wire>,
    attempt: &pb::AttemptRef,
    name: &str,
) -> Result<Pieces, Status> {
    let wanted = Wanted::Input(pb::FetchInputRequest {
        r#ref: Some(attempt.clone()),
        name: name.to_owned(),
    });
    incoming(wire, wanted).await
}

/// The body of the webhook that started the run, likewise.
pub(super) async fn body(wire: &Arc<Wire>, attempt: &pb::AttemptRef) -> Result<Pieces, Status> {
    let wanted = Wanted::Body(pb::FetchBodyRequest {
        r#ref: Some(attempt.clone()),
    });
    incoming(wire, wanted).await
}

async fn incoming(wire: &Arc<Wire>, wanted: Wanted) -> Result<Pieces, Status> {
    let incoming = Incoming {
        wire: wire.clone(),
        pages: open(wire, &wanted).await?,
        wanted,
        received: 0,
        skip: 0,
        fruitless: 0,
    };
    let pieces = stream::try_unfold(incoming, |mut incoming| async move {
        Ok(incoming.next().await?.map(|piece| (piece, incoming)))
    });
    let told = |status: Status| status.message().to_owned();
    Ok(pieces.map_err(told).boxed())
}

impl Incoming {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let came = timeout(ANSWER_WITHIN, self.pages.message()).await;
            let status = match came {
                Ok(Ok(Some(page))) => match self.fresh(page.data) {
                    Some(piece) => return Ok(Some(piece)),
                    None => continue,
                },
                Ok(Ok(None)) if self.skip == 0 => return Ok(None),
                Ok(Ok(None)) => return Err(Status::data_loss("the server has less of it now")),
                Ok(Err(status)) => status,
                Err(_) => Status::unavailable("the server fell silent"),
            };
            self.fruitless += 1;
            if self.fruitless > MAX_TRIES {
                return Err(status);
            }
            tracing::debug!(
                reason = status.message(),
                "an input broke off; going on with it"
            );
            self.pages = open(&self.wire, &self.wanted).await?;
            self.skip = self.received;
        }
    }

    /// What was not handed on before.
    fn fresh(&mut self, mut data: Bytes) -> Option<Bytes> {
        let known = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let known = known.min(data.len());
        self.skip -= known as u64;
        let fresh = data.split_off(known);
        if fresh.is_empty() {
            return None;
        }
        self.received += fresh.len() as u64;
        self.fruitless = 0;
        Some(fresh)
    }
}

/// Sends an output of a one-off task; returns when it is stored. A further connection begins anew.
pub(super) async fn output(
    wire: &Wire,
    attempt: &pb::AttemptRef,
    name: &str,
    archive: &dyn Archive,
) -> Result<(), Status> {
    let first = pb::OutputPage {
        r#ref: Some(attempt.clone()),
        name: name.to_owned(),
        data: Bytes::new(),
    };
    wire.patiently(MAX_TRIES, |connection| {
        send(connection, first.clone(), archive)
    })
    .await
}

async fn send(
    mut connection: Connection,
    first: pb::OutputPage,
    archive: &dyn Archive,
) -> Result<(), Status> {
    let pieces = archive.pieces().await.map_err(unreadable)?;
    let (failing, failed) = oneshot::channel();
    let pages = stream::iter([first]).chain(pages(pieces, failing));
    let request = connection.request(pages);
    tokio::select! {
        biased;
        sent = connection.client.upload_output(request) => sent.map(drop),
        Ok(why) = failed => Err(unreadable(why)),
    }
}

/// Trying again does not help.
fn unreadable(why: String) -> Status {
    Status::data_loss(why)
}

/// The pages of an archive. One that cannot be read to its end has no end: else the server would take it for whole.
fn pages(
    pieces: Pieces,
    failing: oneshot::Sender<String>,
) -> impl Stream<Item = pb::OutputPage> + Send + 'static {
    let begin = (pieces, Bytes::new(), failing);
    stream::unfold(begin, |(mut pieces, mut rest, failing)| async move {
        while rest.is_empty() {
            match pieces.next().await {
                Some(Ok(piece)) => rest = piece,
                Some(Err(why)) => {
                    // Whoever waits for it drops the call, and this with it.
                    let _ = failing.send(why);
                    return std::future::pending().await;
                }
                None => return None,
            }
        }
        let page = pb::OutputPage {
            data: rest.split_to(rest.len().min(PAGE_BYTES)),
            ..pb::OutputPage::default()
        };
        Some((page, (pieces, rest, failing)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_archive_that_cannot_be_read_to_its_end_has_none() {
        let whole: Pieces = stream::iter([
            Ok(Bytes::from(vec![1; PAGE_BYTES + 1])),
            Ok(Bytes::new()),
            Ok(Bytes::from_static(b"x")),
        ])
        .boxed();
        let (failing, _failed) = oneshot::channel();
        let sizes = pages(whole, failing).map(|page| page.data.len());
        assert_eq!(sizes.collect::<Vec<_>>().await, [PAGE_BYTES, 1, 1]);
        let broken: Pieces =
            stream::iter([Ok(Bytes::from_static(b"x")), Err("gone".to_owned())]).boxed();
        let (failing, failed) = oneshot::channel();
        let mut pages = Box::pin(pages(broken, failing));
        assert!(pages.next().await.is_some());
        tokio::select! {
            biased;
            _ = pages.next() => panic!("it has no end"),
            why = failed => assert_eq!(why.unwrap(), "gone"),
        }
    }
}
