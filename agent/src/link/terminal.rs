//! Terminals: somebody looks into a step of this agent, over a stream of its own for each.
//!
//! Neither direction ever holds up the connection, which Session and Logs share: what was not taken at the other end is at
//! most [`TERMINAL_WINDOW_BYTES`]. A stream that ends, or the end of its connection, ends the process.

use super::Agent;
use super::connection::Connection;
use crate::container::place::{Input, Place, Size, Wanted};
use crate::container::{Output, OutputStream};
use crate::shelf::StepId;
use bytes::Bytes;
use pb::log_chunk::Stream;
use pb::terminal_down::Kind as Down;
use pb::terminal_up::Kind as Up;
use pocketci_proto::agent as pb;
use pocketci_proto::{TERMINAL_PIECE_BYTES, TERMINAL_WINDOW_BYTES};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// Terminals at once; each has a process, and most a container.
pub(super) const MAX_TERMINALS: usize = 8;
/// How long the server may take to take the last words.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// Pieces of input between the stream and the process.
const INPUT_PIECES: usize = 4;
/// Pieces of output between the process and the stream.
const OUTPUT_PIECES: usize = 4;

/// Serves one terminal to its end; `gone` is cancelled when the connection ends.
pub(super) async fn serve(
    agent: Arc<Agent>,
    mut connection: Connection,
    asked: pb::OpenTerminal,
    gone: CancellationToken,
) {
    let place = find(&agent, &asked);
    // Bounded: by the window, but for a few words.
    let (up, outbound) = mpsc::unbounded_channel();
    let first = match &place {
        Ok(_) => Up::Ready(pb::TerminalReady {
            terminal_id: asked.terminal_id.clone(),
        }),
        Err(message) => Up::Refused(pb::TerminalRefused {
            terminal_id: asked.terminal_id.clone(),
            message: message.clone(),
        }),
    };
    let up = Sender(up);
    up.send(first);
    let request = connection.request(UnboundedReceiverStream::new(outbound));
    let opened = tokio::select! {
        opened = connection.client.terminal(request) => opened,
        () = gone.cancelled() => return,
    };
    let mut down = match opened {
        Ok(down) => down.into_inner(),
        Err(status) => {
            // Whoever wanted it has gone meanwhile, most likely.
            tracing::debug!(reason = status.message(), "a terminal was not opened");
            return;
        }
    };
    if let Ok((place, _permit)) = place {
        tracing::info!(step = asked.step, "a terminal is open");
        let last = talk(&agent, &*place, asked, &up, &mut down, &gone).await;
        tracing::info!("a terminal is closed");
        up.send(last);
    }
    drop(up);
    // The stream is closed by the server, once it has everything.
    let drained = async { while let Ok(Some(_)) = down.message().await {} };
    let _ = tokio::time::timeout(CLOSE_WITHIN, drained).await;
}

type Found = (Arc<dyn Place>, tokio::sync::OwnedSemaphorePermit);

fn find(agent: &Agent, asked: &pb::OpenTerminal) -> Result<Found, String> {
    let permit = agent.terminals.clone().try_acquire_owned().map_err(|_| {
        format!("this agent has {MAX_TERMINALS} terminals open, and no more at once; close one")
    })?;
    let reference = asked.r#ref.clone().unwrap_or_default();
    let id = StepId {
        job: uuid::Uuid::from_slice(&reference.job_id)
            .map(|id| id.to_string())
            .unwrap_or_default(),
        attempt: reference.attempt,
        step: asked.step,
    };
    Ok((agent.workshop.shelf.find(&id)?, permit))
}

/// The way up; a closed one is noticed by whoever reads.
struct Sender(mpsc::UnboundedSender<pb::TerminalUp>);

impl Sender {
    fn send(&self, kind: Up) {
        let _ = self.0.send(pb::TerminalUp { kind: Some(kind) });
    }
}

fn size(size: &pb::TerminalSize) -> Size {
    let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX).max(1);
    Size {
        cols: number(size.cols),
        rows: number(size.rows),
    }
}

/// Runs the command; what is to be said last.
async fn talk(
    agent: &Agent,
    place: &dyn Place,
    asked: pb::OpenTerminal,
    up: &Sender,
    down: &mut Streaming<pb::TerminalDown>,
    gone: &CancellationToken,
) -> Up {
    let wanted = agent.workshop.shelf.wanted(Wanted {
        command: asked.command,
        size: asked.tty.as_ref().map(size),
        ..Wanted::default()
    });
    let stop = gone.child_token();
    let window = Semaphore::new(TERMINAL_WINDOW_BYTES);
    let (heard, hearing) = mpsc::unbounded_channel();
    let (input, inputs) = mpsc::channel(INPUT_PIECES);
    let (output, outputs) = mpsc::channel(OUTPUT_PIECES);
    let running = async {
        let running = place.terminal(wanted, inputs, output, stop.clone());
        tokio::join!(running, pass_output(outputs, up, &window, &stop)).0
    };
    let listening = async {
        let ended = listen(down, &heard, &window).await;
        if let Err(status) = ended {
            tracing::debug!(reason = status.message(), "a terminal's stream broke");
        }
        stop.cancel();
    };
    let feeding = pass_input(hearing, input, up);
    tokio::pin!(running);
    tokio::pin!(listening);
    tokio::pin!(feeding);
    let (mut listened, mut fed) = (false, false);
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            () = &mut listening, if !listened => listened = true,
            () = &mut feeding, if !fed => fed = true,
        }
    };
    match ended {
        Ok(code) => Up::Exit(code),
        Err(error) => Up::Failed(error.with_causes()),
    }
}

/// Passes on what comes until the stream ends.
async fn listen(
    down: &mut Streaming<pb::TerminalDown>,
    heard: &mpsc::UnboundedSender<Input>,
    window: &Semaphore,
) -> Result<(), Status> {
    while let Some(message) = down.message().await? {
        let input = match message.kind {
            Some(Down::Input(bytes)) => Input::Bytes(bytes),
            Some(Down::InputEnd(pb::InputEnd {})) => Input::End,
            Some(Down::Resize(resized)) => Input::Resize(size(&resized)),
            Some(Down::Taken(bytes)) => {
                give_back(window, bytes)?;
                continue;
            }
            None => continue,
        };
        if heard.send(input).is_err() {
            // The process has ended; its exit code is on its way.
            continue;
        }
    }
    Ok(())
}

fn give_back(window: &Semaphore, bytes: u32) -> Result<(), Status> {
    let bytes = bytes as usize;
    if bytes > TERMINAL_WINDOW_BYTES - window.available_permits() {
        return Err(Status::invalid_argument("more was taken than sent"));
    }
    window.add_permits(bytes);
    Ok(())
}

/// Passes input on, and says what was taken. Ends with the process.
async fn pass_input(
    mut heard: mpsc::UnboundedReceiver<Input>,
    to: mpsc::Sender<Input>,
    up: &Sender,
) {
    while let Some(input) = heard.recv().await {
        let bytes = match &input {
            Input::Bytes(bytes) => bytes.len(),
            Input::End | Input::Resize(_) => 0,
        };
        // A process that reads nothing any more takes everything.
        let _ = to.send(input).await;
        if let Ok(bytes @ 1..) = u32::try_from(bytes) {
            up.send(Up::Taken(bytes));
        }
    }
}

/// Sends output as fast as the other end takes it; ends with it, or when nobody is there.
async fn pass_output(
    mut from: mpsc::Receiver<Output>,
    up: &Sender,
    window: &Semaphore,
    stop: &CancellationToken,
) {
    while let Some((stream, mut bytes)) = from.recv().await {
        let stream = match stream {
            OutputStream::Stdout => Stream::Stdout,
            OutputStream::Stderr => Stream::Stderr,
        };
        while !bytes.is_empty() {
            let data: Bytes = bytes.split_to(bytes.len().min(TERMINAL_PIECE_BYTES));
            let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
            tokio::select! {
                permits = window.acquire_many(size) => match permits {
                    Ok(permits) => permits.forget(),
                    Err(_) => return,
                },
                () = stop.cancelled() => return,
            }
            let stream = stream.into();
            up.send(Up::Output(pb::TerminalOutput { stream, data }));
        }
    }
}
