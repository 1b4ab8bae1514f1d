//! The Logs stream of one session: chunks are stored in order and acknowledged when durable.

use super::convert::{Ref, broken};
use super::intake::{Group, Intake};
use super::{Link, store_status};
use crate::model::transition::{Applied, Change};
use crate::runs::dispatch::SessionEntry;
use futures_util::stream::FuturesOrdered;
use futures_util::{Stream, StreamExt};
use pocketci_proto::agent as pb;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Groups of chunks being stored at once for one agent; more wait in the stream, which holds the agent back.
const IN_FLIGHT: usize = 64;

/// Serves the stream until either side ends it.
pub(super) fn open(
    link: Link,
    entry: Arc<SessionEntry>,
    inbound: Streaming<pb::LogBatch>,
) -> impl Stream<Item = Result<pb::LogAck, Status>> {
    let (acks, outbound) = mpsc::channel(IN_FLIGHT);
    // Owned by the stream itself: the task ends when `acks` is closed or the agent ends its side.
    tokio::spawn(async move {
        let closed = acks.clone();
        tokio::select! {
            result = serve(link, entry, inbound, &acks) => {
                if let Err(status) = result {
                    // Nobody to tell if the agent has gone.
                    let _ = acks.send(Err(status)).await;
                }
            }
            () = closed.closed() => {}
        }
    });
    ReceiverStream::new(outbound)
}

async fn serve(
    link: Link,
    entry: Arc<SessionEntry>,
    mut inbound: Streaming<pb::LogBatch>,
    acks: &mpsc::Sender<Result<pb::LogAck, Status>>,
) -> Result<(), Status> {
    let mut storing = FuturesOrdered::new();
    let mut intake = Intake::new(link.clone(), entry.clone());
    loop {
        tokio::select! {
            batch = inbound.message(), if storing.len() < IN_FLIGHT => {
                let Some(batch) = batch? else { break };
                for group in intake.read(batch).await? {
                    storing.push_back(store(&link, &entry, group));
                }
            }
            Some(stored) = storing.next() => acknowledge(stored?, acks).await?,
            else => break,
        }
    }
    while let Some(stored) = storing.next().await {
        acknowledge(stored?, acks).await?;
    }
    Ok(())
}

/// Takes its place in the order of changes at once; resolves with the sequence to acknowledge, if any.
fn store(
    link: &Link,
    entry: &SessionEntry,
    (attempt, group): (Ref, Group),
) -> impl Future<Output = Result<Option<(Ref, i64)>, Status>> + use<> {
    let (job_id, holder) = (attempt.job_id, attempt.holder(entry.session_id));
    let (last, change) = match group {
        Group::Pieces(pieces) => (
            pieces.last().map(|(seq, _)| *seq),
            Change::Logs {
                job_id,
                holder,
                pieces,
            },
        ),
        Group::Broken => (None, Change::Condemn { job_id, holder }),
    };
    let submitted = link.runs().store().submit(attempt.run_id, change);
    async move {
        match submitted.await.map_err(|error| store_status(&error))? {
            Applied::Done | Applied::Duplicate => Ok(last.map(|last| (attempt, last))),
            Applied::Gap => Err(broken("log chunks are missing")),
            // Session tells the agent about lost leases; here there is nothing to acknowledge.
            Applied::Stale | Applied::Adopted { .. } => Ok(None),
        }
    }
}

async fn acknowledge(
    stored: Option<(Ref, i64)>,
    acks: &mpsc::Sender<Result<pb::LogAck, Status>>,
) -> Result<(), Status> {
    let Some((attempt, seq)) = stored else {
        return Ok(());
    };
    let ack = pb::LogAck {
        r#ref: Some(attempt.to_wire()),
        seq: u64::try_from(seq).unwrap_or(0),
    };
    acks.send(Ok(ack))
        .await
        .map_err(|_| Status::cancelled("the agent has gone"))
}
