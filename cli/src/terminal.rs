//! This side of a terminal in a step: the user's own terminal made raw, or plain pipes, joined with a WebSocket.
//!
//! However it ends, the user's terminal is as it was before.

use crate::client::{Client, ClientError};
use anyhow::Context;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use pocketci_proto::TERMINAL_PIECE_BYTES;
use pocketci_proto::api::{TerminalMessage, TerminalSize, TerminalStep};
use reqwest::StatusCode;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{stdin, stdout};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A server that said nothing for so long is taken for gone; it asks every 15 s whether we are here.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
/// First byte of output that goes to stderr; all other goes to stdout.
const STDERR: u8 = 2;
/// What a shell adds to a signal's number.
const SIGNALLED: u8 = 128;

type Socket = WebSocketStream<reqwest::Upgraded>;

/// Runs the command in the step; the exit code is the command's own.
///
/// # Errors
/// The server refuses, or the connection breaks.
pub async fn talk(
    client: &Client,
    run: &str,
    step: &TerminalStep,
    command: &[String],
    tty: bool,
) -> anyhow::Result<u8> {
    let mut query = vec![
        ("job", step.job.clone()),
        ("attempt", step.attempt.to_string()),
        ("step", step.step.to_string()),
    ];
    query.extend(command.iter().map(|word| ("cmd", word.clone())));
    if tty {
        let size = size();
        query.push(("tty", "1".to_owned()));
        query.push(("cols", size.cols.to_string()));
        query.push(("rows", size.rows.to_string()));
    }
    let upgraded = client
        .upgrade(&["api", "runs", run, "terminal"], &query)
        .await?;
    let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    let mut signals = Signals::new()?;
    let raw = tty.then(Raw::begin).transpose();
    let raw = raw.context("cannot use this terminal")?;
    let (mut sink, mut stream) = socket.split();
    let ended = tokio::select! {
        ended = receive(client, &mut stream) => ended,
        ended = send(&mut sink, tty) => ended,
        number = signals.next() => Ok(SIGNALLED + number),
    };
    drop(raw);
    if ended.is_ok() {
        // Whether the server still hears it or not.
        let _ = tokio::time::timeout(Duration::from_secs(1), sink.close()).await;
    }
    ended
}

/// What would end this process with the terminal still raw.
struct Signals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.hang_up.recv() => 1,
            _ = self.interrupt.recv() => 2,
        }
    }
}

/// The user's terminal passes every key on; dropped, it is as it was.
struct Raw(Termios);

impl Raw {
    fn begin() -> std::io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

fn size() -> TerminalSize {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => TerminalSize {
            cols: size.ws_col,
            rows: size.ws_row,
        },
        Ok(_) | Err(_) => TerminalSize { cols: 80, rows: 24 },
    }
}

fn text(message: &TerminalMessage) -> anyhow::Result<Message> {
    Ok(Message::Text(serde_json::to_string(message)?.into()))
}

/// Prints what comes, until the command's end.
async fn receive(client: &Client, stream: &mut SplitStream<Socket>) -> anyhow::Result<u8> {
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        let broken = |reason: &str| ClientError::Unreachable {
            url: client.url(&[]),
            reason: reason.to_owned(),
        };
        let message = tokio::time::timeout(SILENCE_LIMIT, stream.next())
            .await
            .map_err(|_| broken("the connection fell silent"))?;
        let Some(Ok(message)) = message else {
            return Err(broken("the connection broke").into());
        };
        match message {
            Message::Binary(bytes) => match bytes.split_first() {
                Some((&STDERR, bytes)) => {
                    err.write_all(bytes).await?;
                    err.flush().await?;
                }
                Some((_, bytes)) => {
                    out.write_all(bytes).await?;
                    out.flush().await?;
                }
                None => {}
            },
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(TerminalMessage::Exit(code)) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
                Ok(TerminalMessage::Error(message)) => {
                    return Err(ClientError::Refused {
                        status: StatusCode::CONFLICT,
                        message,
                        details: Vec::new(),
                    }
                    .into());
                }
                // Newer servers may say more.
                Ok(_) | Err(_) => {}
            },
            Message::Close(_) => return Err(broken("the connection was closed").into()),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// Sends stdin to its end, and the terminal's size when it changes; ends only with an error of this side.
async fn send(sink: &mut SplitSink<Socket, Message>, tty: bool) -> anyhow::Result<u8> {
    let mut input = tokio::io::stdin();
    let mut resized = signal(SignalKind::window_change())?;
    let mut buffer = vec![0; TERMINAL_PIECE_BYTES];
    let mut open = true;
    loop {
        let message = tokio::select! {
            read = input.read(&mut buffer), if open => match read {
                Ok(read @ 1..) => Message::Binary(buffer[..read].to_vec().into()),
                Ok(0) | Err(_) => {
                    open = false;
                    text(&TerminalMessage::End(true))?
                }
            },
            _ = resized.recv(), if tty => text(&TerminalMessage::Resize(size()))?,
            else => break,
        };
        if sink.send(message).await.is_err() {
            // Whoever receives knows why.
            break;
        }
    }
    std::future::pending().await
}
