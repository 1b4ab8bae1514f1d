//! The Logs stream of a connection: output up, acknowledgements down.

use super::connection::Connection;
use super::{Agent, lock};
use crate::log::Taken;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pocketci_proto::agent as pb;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Batches on their way; more wait with the attempts.
const LOG_BATCHES: usize = 4;

/// The Logs stream: sends what attempts have, passes on acknowledgements. Ends with an error only.
pub(super) async fn serve(
    agent: Arc<Agent>,
    mut connection: Connection,
    packed: bool,
) -> Result<(), Status> {
    let waiting = lock(&agent.log_waiting).take();
    let Some(waiting) = waiting else {
        return Err(Status::internal(
            "the logs of the last connection have not ended",
        ));
    };
    // Given back however this ends, for the next connection.
    let mut waiting = Returned {
        agent: agent.clone(),
        waiting: Some(waiting),
    };
    for attempt in agent.attempts() {
        // A mark taken by the last connection may not have been answered.
        let _ = agent.log_ready.send(attempt.reference.clone());
    }
    let (batches, outbound) = mpsc::channel(LOG_BATCHES);
    let request = connection.request(ReceiverStream::new(outbound));
    let mut acks = connection.client.logs(request).await?.into_inner();
    let sending = send_logs(&agent, &mut waiting, batches, packed);
    tokio::pin!(sending);
    loop {
        tokio::select! {
            ack = acks.message() => match ack? {
                Some(pb::LogAck { r#ref: Some(reference), seq }) => {
                    if let Some(attempt) = agent.attempt(&reference) {
                        attempt.log.acknowledge(seq);
                    }
                }
                Some(_) => {}
                None => return Err(Status::unavailable("the server ended the logs")),
            },
            () = &mut sending => return Err(Status::unavailable("the logs ended")),
        }
    }
}

/// The queue of attempts with something to send; there is one for all connections.
struct Returned {
    agent: Arc<Agent>,
    waiting: Option<mpsc::UnboundedReceiver<pb::AttemptRef>>,
}

impl Drop for Returned {
    fn drop(&mut self) {
        *lock(&self.agent.log_waiting) = self.waiting.take();
    }
}

/// Sends what attempts have: when they say so, and when what they gather is due. While a message waits for the network,
/// output gathers into larger chunks.
async fn send_logs(
    agent: &Agent,
    waiting: &mut Returned,
    batches: mpsc::Sender<pb::LogBatch>,
    packed: bool,
) {
    let Some(waiting) = &mut waiting.waiting else {
        return;
    };
    let mut dues = FuturesUnordered::new();
    loop {
        let next = tokio::select! {
            next = waiting.recv() => next,
            Some(due) = dues.next() => Some(due),
        };
        let Some(reference) = next else { return };
        let Some(attempt) = agent.attempt(&reference) else {
            continue;
        };
        let Ok(permit) = batches.reserve().await else {
            return;
        };
        let Taken { chunks, more, due } = attempt.log.take(packed).await;
        if !chunks.is_empty() {
            permit.send(pb::LogBatch { chunks });
        }
        if more {
            // Behind the others, so that one noisy job does not keep them waiting.
            let _ = agent.log_ready.send(reference);
        } else if let Some(due) = due {
            dues.push(async move {
                tokio::time::sleep_until(due).await;
                reference
            });
        }
    }
}
