//! A step's output on its way to the log, the pipeline's callback and the result.

use super::capture::Capture;
use super::{Attempt, SYSTEM};
use crate::container::{Output, OutputStream};
use crate::js::host::OutputSink;
use crate::log::Source;
use crate::log::redact::Stream as Redacted;
use crate::log::tail::HeadAndTail;
use bytes::Bytes;
use pb::log_chunk::Stream;
use pocketci_proto::agent as pb;
use tokio::sync::mpsc;

/// One stream of a step on its way.
struct Channel {
    from: OutputStream,
    source: Source,
    redacted: Redacted,
    capture: Capture,
    log: HeadAndTail,
}

impl Channel {
    fn new(attempt: &Attempt, step: u32, from: OutputStream, limit: u64) -> Self {
        let stream = match from {
            OutputStream::Stdout => Stream::Stdout,
            OutputStream::Stderr => Stream::Stderr,
        };
        Self {
            from,
            source: Source { step, stream },
            redacted: Redacted::default(),
            capture: Capture::default(),
            log: HeadAndTail::new(limit, attempt.log.buffers().clone()),
        }
    }
}

/// Passes output on to the pipeline's callback, the log and the result, without secrets. `limit` is what the log keeps of
/// each stream, in bytes.
pub(super) async fn collect(
    attempt: &Attempt,
    step: u32,
    mut pieces: mpsc::Receiver<Output>,
    sink: Option<OutputSink>,
    limit: u64,
) -> (Capture, Capture) {
    let mut stdout = Channel::new(attempt, step, OutputStream::Stdout, limit);
    let mut stderr = Channel::new(attempt, step, OutputStream::Stderr, limit);
    while let Some((from, bytes)) = pieces.recv().await {
        let channel = match from {
            OutputStream::Stdout => &mut stdout,
            OutputStream::Stderr => &mut stderr,
        };
        let shown = channel.redacted.push(&attempt.redactor, bytes);
        pass_on(attempt, channel, shown, sink.as_ref()).await;
    }
    (
        end(attempt, stdout, sink.as_ref()).await,
        end(attempt, stderr, sink.as_ref()).await,
    )
}

/// The end of a stream: what was held back, of a secret that did not come or of more output than the log keeps.
async fn end(attempt: &Attempt, mut channel: Channel, sink: Option<&OutputSink>) -> Capture {
    let shown = channel.redacted.finish(&attempt.redactor);
    pass_on(attempt, &mut channel, shown, sink).await;
    let mut rest = channel.log.finish();
    attempt.log.gap(channel.source, rest.gap, "limit");
    while let Some(piece) = rest.next().await {
        match piece {
            Ok(bytes) => attempt.print(channel.source, bytes).await,
            Err(lost) => attempt.log.gap(channel.source, lost, "spool_failed"),
        }
    }
    channel.capture
}

async fn pass_on(
    attempt: &Attempt,
    channel: &mut Channel,
    bytes: Bytes,
    sink: Option<&OutputSink>,
) {
    if bytes.is_empty() {
        return;
    }
    channel.capture.add(&bytes);
    if let Some(sink) = sink {
        sink.send(channel.from, bytes.clone()).await;
    }
    let (shown, begins) = channel.log.push(bytes).await;
    if !shown.is_empty() {
        attempt.print(channel.source, shown).await;
    }
    if begins {
        let step = channel.source.step;
        let said = format!(
            "step {step} has printed half of what its log keeps (--max-step-output); the last of its output follows when it ends\n"
        );
        attempt.log.append(SYSTEM, Bytes::from(said)).await;
    }
}
