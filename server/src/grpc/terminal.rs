//! An agent's side of a terminal: its stream, joined with whoever waits for it.

use super::{Link, SILENCE_LIMIT, convert::broken};
use crate::runs::dispatch::SessionEntry;
use crate::runs::terminals::Terminal;
use futures_util::{Stream, StreamExt};
use pb::terminal_up::Kind as Up;
use pocketci_proto::agent as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

type Downs = std::pin::Pin<Box<dyn Stream<Item = Result<pb::TerminalDown, Status>> + Send>>;

/// Reads who it is for, and passes on what comes until either side has gone.
pub(super) async fn open(
    link: &Link,
    session: &SessionEntry,
    mut inbound: Streaming<pb::TerminalUp>,
) -> Result<Downs, Status> {
    let first = tokio::time::timeout(SILENCE_LIMIT, inbound.message())
        .await
        .map_err(|_| broken("no first message in time"))??;
    let nobody = || Status::not_found("nobody waits for this terminal any more");
    let terminals = link.runs().terminals();
    let claim = |id: &[u8]| terminals.claim(id, session.session_id).ok_or_else(nobody);
    let claimed = match first.and_then(|message| message.kind) {
        Some(Up::Ready(ready)) => claim(&ready.terminal_id)?,
        Some(Up::Refused(refused)) => {
            claim(&refused.terminal_id)?.refuse(refused.message);
            return Ok(futures_util::stream::empty().boxed());
        }
        _ => return Err(broken("the first message must be Ready or Refused")),
    };
    let (to_user, up) = mpsc::unbounded_channel();
    let (down, from_user) = mpsc::unbounded_channel();
    if !claimed.open(Terminal { up, down }) {
        return Err(nobody());
    }
    // Owned by its stream: it ends when the agent, the connection or the user's side does.
    tokio::spawn(pump(inbound, to_user));
    let downs = UnboundedReceiverStream::new(from_user);
    Ok(downs
        .map(|kind| Ok(pb::TerminalDown { kind: Some(kind) }))
        .boxed())
}

async fn pump(mut inbound: Streaming<pb::TerminalUp>, to_user: mpsc::UnboundedSender<Up>) {
    loop {
        let message = tokio::select! {
            message = inbound.message() => message,
            () = to_user.closed() => return,
        };
        match message {
            Ok(Some(pb::TerminalUp { kind: Some(kind) })) => {
                if to_user.send(kind).is_err() {
                    return;
                }
            }
            Ok(Some(pb::TerminalUp { kind: None })) => {}
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(reason = status.message(), "a terminal's stream broke");
                return;
            }
        }
    }
}
