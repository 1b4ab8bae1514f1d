//! Terminals in steps of a run: which steps there are to look into, and a WebSocket to one.
//!
//! Frames: binary ones carry input (up) and output (down, after one byte that is 1 for stdout and 2 for stderr); text ones
//! are JSON: up `{"resize": {"cols", "rows"}}` and `{"end": true}` (of input), down `{"exit": code}` or
//! `{"error": sentence}`, which is the last.

use super::error::ApiError;
use super::extract::PathId;
use super::listen::Stopping;
use super::{App, view};
use crate::model::JobId;
use crate::model::run::EventBody;
use crate::runs::terminals::Terminal;
use crate::store::RunView;
use axum::Json;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use pb::log_chunk::Stream;
use pb::terminal_down::Kind as Down;
use pb::terminal_up::Kind as Up;
use pocketci_proto::agent as pb;
use pocketci_proto::api::{self, RunEventKind, TerminalMessage, TerminalSize};
use pocketci_proto::{TERMINAL_PIECE_BYTES, TERMINAL_WINDOW_BYTES};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Terminals of this server at once; more get 503.
pub(super) const MAX_TERMINALS: usize = 256;
/// Events looked through at a time.
const EVENTS: i64 = 500;
/// Largest frame from a client, in bytes.
const MAX_FRAME_BYTES: usize = 1 << 20;
/// How often a client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A client that said nothing for so long is taken for gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(40);
/// How long a client may take to take its last frames, and to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// Arguments of a command at most, and their bytes; the request's head has a limit of its own.
const MAX_ARGS: usize = 1_000;

type Key = (JobId, i32);

impl App {
    fn may_intercept(&self) -> Result<(), ApiError> {
        match self.settings.intercept {
            true => Ok(()),
            false => Err(ApiError::Forbidden(
                "this server opens no terminals: its operator started it with --no-intercept"
                    .to_owned(),
            )),
        }
    }

    /// Steps of the run that run, or left something that is kept.
    async fn terminal_steps(
        &self,
        run: &RunView,
    ) -> Result<Vec<(JobId, api::TerminalStep)>, ApiError> {
        let names = view::job_names(run);
        let mut agents: HashMap<Key, String> = HashMap::new();
        let mut steps: Vec<(JobId, api::TerminalStep)> = Vec::new();
        let mut after = 0;
        while let Some(events) = self.runs.store().events(run.run.id, after, EVENTS).await? {
            let Some(last) = events.last() else { break };
            after = last.seq;
            for event in events {
                let (EventBody::Fact(fact), Some(job_id)) = (event.body, event.job_id) else {
                    continue;
                };
                let key = (job_id, event.attempt.unwrap_or(0));
                let is_of = |(job, step): &(JobId, api::TerminalStep)| (*job, step.attempt) == key;
                match fact {
                    RunEventKind::Started { agent } => drop(agents.insert(key, agent)),
                    // Whatever ran is of an attempt that is over.
                    RunEventKind::Requeued { .. } | RunEventKind::JobFinished { .. } => {
                        steps.retain(|(job, step)| *job != job_id || step.kept_until.is_some())
                    }
                    RunEventKind::StepStarted {
                        step, name, kind, ..
                    } => {
                        let found = api::TerminalStep {
                            job: names.get(&job_id).cloned().unwrap_or_default(),
                            attempt: key.1,
                            step,
                            name,
                            kind,
                            agent: agents.get(&key).cloned().unwrap_or_default(),
                            status: "running".to_owned(),
                            exit_code: None,
                            kept_until: None,
                        };
                        steps.push((job_id, found));
                    }
                    RunEventKind::StepFinished {
                        step,
                        status,
                        exit_code,
                        kept_ms,
                        ..
                    } => {
                        let found = steps
                            .iter_mut()
                            .find(|found| is_of(found) && found.1.step == step);
                        if let Some((_, found)) = found {
                            found.exit_code = (status == "complete").then_some(exit_code);
                            found.status = status;
                            let kept = u64::try_from(kept_ms).unwrap_or_default();
                            found.kept_until = Some(event.at + Duration::from_millis(kept));
                        }
                    }
                    _ => {}
                }
            }
        }
        let now = OffsetDateTime::now_utc();
        steps.retain(|(_, step)| step.kept_until.is_none_or(|until| until > now));
        // What has no process of its own there is nothing to see of.
        steps.retain(|(_, step)| {
            step.kept_until.is_some()
                || matches!(step.kind.as_str(), "task" | "get" | "put" | "check")
        });
        Ok(steps)
    }
}

#[utoipa::path(get, path = "/api/runs/{id}/terminals", tag = "runs", params(("id" = String, Path)), responses((status = 200, body = Vec<api::TerminalStep>, description = "steps that can be looked into"), (status = 403), (status = 404)))]
pub(super) async fn list(
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<Vec<api::TerminalStep>>, ApiError> {
    app.may_intercept()?;
    let run = app.find_run(&id).await?;
    let steps = app.terminal_steps(&run).await?;
    Ok(Json(steps.into_iter().map(|(_, step)| step).collect()))
}

/// Which terminal is wanted.
#[derive(Default)]
struct Asked {
    job: String,
    step: i32,
    attempt: i32,
    command: Vec<String>,
    tty: Option<TerminalSize>,
}

fn asked(query: &str) -> Result<Asked, ApiError> {
    let mut asked = Asked::default();
    let mut size = TerminalSize { cols: 80, rows: 24 };
    let mut tty = false;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let invalid = || ApiError::Invalid(format!("query parameter {name:?} is not valid"));
        let number = || value.parse::<u16>().map_err(|_| invalid());
        match &*name {
            "job" => asked.job = value.into_owned(),
            "step" => asked.step = number()?.into(),
            "attempt" => asked.attempt = number()?.into(),
            "cmd" if asked.command.len() < MAX_ARGS => asked.command.push(value.into_owned()),
            "tty" => tty = matches!(&*value, "1" | "true"),
            "cols" => size.cols = number()?,
            "rows" => size.rows = number()?,
            _ => return Err(invalid()),
        }
    }
    asked.tty = tty.then_some(size);
    Ok(asked)
}

#[utoipa::path(get, path = "/api/runs/{id}/terminal", tag = "runs", params(("id" = String, Path), ("job" = String, Query), ("attempt" = i32, Query), ("step" = i32, Query, description = "its number"), ("cmd" = Option<Vec<String>>, Query, description = "program and arguments, repeated; a shell if there is none"), ("tty" = Option<bool>, Query), ("cols" = Option<u16>, Query), ("rows" = Option<u16>, Query)), responses((status = 101, description = "a WebSocket: binary frames are input and output, text frames are control"), (status = 403), (status = 404), (status = 409, description = "the step cannot be looked into (any more), or not through this server")))]
pub(super) async fn open(
    State(app): State<App>,
    PathId(id): PathId,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    stopping: Stopping,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    app.may_intercept()?;
    if headers.contains_key(header::ORIGIN) {
        // A page of anybody's could do it, as browsers ask nobody before they open a WebSocket.
        return Err(ApiError::Forbidden(
            "terminals are not opened for web pages".to_owned(),
        ));
    }
    let upgrade = upgrade.map_err(|rejected| {
        ApiError::Invalid(format!("a WebSocket is expected here: {rejected}"))
    })?;
    let asked = asked(query.as_deref().unwrap_or_default())?;
    let run = app.find_run(&id).await?;
    let permit = app.terminals.clone().try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::Busy)?;
    let steps = app.terminal_steps(&run).await?;
    let found = steps.into_iter().find(|(_, step)| {
        step.job == asked.job && step.attempt == asked.attempt && step.step == asked.step
    });
    let (job_id, step) = found.ok_or_else(|| {
        ApiError::Conflict(format!(
            "there is nothing to look into: step {} of attempt {} of job {:?} does not run, and nothing of it is kept (any more)",
            asked.step, asked.attempt, asked.job
        ))
    })?;
    let terminal = connect(&app, &run, job_id, step, asked).await?;
    let upgrade = upgrade
        .max_message_size(MAX_FRAME_BYTES)
        .max_frame_size(MAX_FRAME_BYTES);
    Ok(upgrade.on_upgrade(move |socket| relay(socket, terminal, stopping, permit)))
}

/// The step's agent, if this server is connected with it, opens the terminal.
async fn connect(
    app: &App,
    run: &RunView,
    job_id: JobId,
    step: api::TerminalStep,
    asked: Asked,
) -> Result<Terminal, ApiError> {
    let Some(session) = app.runs.dispatch().of_agent(&step.agent) else {
        let agents = app.runs.store().agents().await?;
        let elsewhere = agents
            .iter()
            .any(|agent| agent.name == step.agent && agent.connected);
        return Err(ApiError::Conflict(match elsewhere {
            true => format!(
                "agent {:?} is connected to another server of this database: ask that one (--server with its own address)",
                step.agent
            ),
            false => format!(
                "agent {:?}, which has the step, is not connected; try again when it is",
                step.agent
            ),
        }));
    };
    let wanted = pb::OpenTerminal {
        terminal_id: Bytes::new(),
        r#ref: Some(pb::AttemptRef {
            run_id: run.run.id.to_vec().into(),
            job_id: job_id.to_vec().into(),
            attempt: u32::try_from(asked.attempt).unwrap_or_default(),
        }),
        step: u32::try_from(asked.step).unwrap_or_default(),
        command: asked.command,
        tty: asked.tty.map(size),
    };
    let opened = app.runs.terminals().open(&session, wanted).await;
    opened.map_err(|refused| ApiError::Conflict(refused.to_string()))
}

fn size(size: TerminalSize) -> pb::TerminalSize {
    pb::TerminalSize {
        cols: size.cols.into(),
        rows: size.rows.into(),
    }
}

/// Passes frames both ways until the process has ended, or either side has gone.
async fn relay(
    socket: WebSocket,
    terminal: Terminal,
    stopping: Stopping,
    permit: OwnedSemaphorePermit,
) {
    let (mut to_user, mut from_user) = socket.split();
    let Terminal { mut up, down } = terminal;
    let window = Semaphore::new(TERMINAL_WINDOW_BYTES);
    let last = tokio::select! {
        last = send(&mut up, &down, &window, &mut to_user) => last,
        () = receive(&mut from_user, &down, &window) => None,
        () = stopping.begun() => Some(error("the server is going down")),
    };
    // Ends the process, if it has not ended.
    drop((up, down));
    let closing = async {
        if let Some(last) = last {
            to_user.send(text(&last)).await?;
            to_user.send(Message::Close(None)).await?;
            // What is still on its way would break the connection under the last frames.
            while let Some(Ok(_)) = from_user.next().await {}
        }
        Ok::<_, axum::Error>(())
    };
    // Whoever does not take it has gone.
    let _ = timeout(CLOSE_WITHIN, closing).await;
    drop(permit);
}

fn error(message: &str) -> TerminalMessage {
    TerminalMessage::Error(message.to_owned())
}

fn text(message: &TerminalMessage) -> Message {
    let json = serde_json::to_string(message);
    Message::Text(json.unwrap_or_default().into())
}

/// Sends output as fast as the client takes it; answers what is to be said last, `None` if nobody is there.
async fn send(
    up: &mut mpsc::UnboundedReceiver<Up>,
    down: &mpsc::UnboundedSender<Down>,
    window: &Semaphore,
    to_user: &mut SplitSink<WebSocket, Message>,
) -> Option<TerminalMessage> {
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let said = tokio::select! {
            said = up.recv() => said,
            _ = ping.tick() => {
                to_user.send(Message::Ping(Bytes::new())).await.ok()?;
                continue;
            }
        };
        match said {
            Some(Up::Output(output)) => {
                let taken = u32::try_from(output.data.len()).unwrap_or(u32::MAX);
                to_user.send(frame(&output)).await.ok()?;
                // A closed channel is noticed at its other end.
                let _ = down.send(Down::Taken(taken));
            }
            Some(Up::Taken(bytes)) => {
                let bytes = bytes as usize;
                if bytes > TERMINAL_WINDOW_BYTES - window.available_permits() {
                    return Some(error("the agent broke the protocol"));
                }
                window.add_permits(bytes);
            }
            Some(Up::Exit(code)) => return Some(TerminalMessage::Exit(code)),
            Some(Up::Failed(message)) => return Some(TerminalMessage::Error(message)),
            Some(Up::Ready(_) | Up::Refused(_)) => {}
            None => return Some(error("the connection to the agent ended")),
        }
    }
}

fn frame(output: &pb::TerminalOutput) -> Message {
    let stream = match output.stream() {
        Stream::Stderr => 2,
        Stream::Stdout | Stream::System | Stream::Unspecified => 1,
    };
    let mut frame = BytesMut::with_capacity(output.data.len() + 1);
    frame.put_u8(stream);
    frame.put_slice(&output.data);
    Message::Binary(frame.freeze())
}

/// Passes input on as fast as the agent takes it, until nobody is there.
async fn receive(
    from_user: &mut SplitStream<WebSocket>,
    down: &mpsc::UnboundedSender<Down>,
    window: &Semaphore,
) {
    loop {
        let deadline = Instant::now() + SILENCE_LIMIT;
        let Ok(Some(Ok(message))) = tokio::time::timeout_at(deadline, from_user.next()).await
        else {
            return;
        };
        match message {
            Message::Binary(mut bytes) => {
                while !bytes.is_empty() {
                    let piece = bytes.split_to(bytes.len().min(TERMINAL_PIECE_BYTES));
                    let size = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                    match window.acquire_many(size).await {
                        Ok(permits) => permits.forget(),
                        Err(_) => return,
                    }
                    // A closed channel is noticed at its other end.
                    let _ = down.send(Down::Input(piece));
                }
            }
            Message::Text(text) => {
                let kind = match serde_json::from_str(&text) {
                    Ok(TerminalMessage::Resize(resized)) => Down::Resize(size(resized)),
                    Ok(TerminalMessage::End(true)) => Down::InputEnd(pb::InputEnd {}),
                    // Newer clients may say more.
                    Ok(_) | Err(_) => continue,
                };
                let _ = down.send(kind);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => return,
        }
    }
}

/// For the application's state.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_TERMINALS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_as_many_words_as_there_are_parameters() {
        let query = "job=build&attempt=1&step=3&cmd=sh&cmd=-c&cmd=echo+%26&tty=1&cols=100";
        let found = asked(query).ok().unwrap();
        assert_eq!(
            (found.job.as_str(), found.attempt, found.step),
            ("build", 1, 3)
        );
        assert_eq!(found.command, ["sh", "-c", "echo &"]);
        assert_eq!(
            found.tty,
            Some(TerminalSize {
                cols: 100,
                rows: 24
            })
        );
        for wrong in ["step=x", "steps=1", "cols=-1"] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }
}
