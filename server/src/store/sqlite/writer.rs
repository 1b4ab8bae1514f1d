//! The one thread that writes: takes all commands that wait, runs each in a savepoint, commits once, answers each.

use super::{Failable, Failure, Result, StoreError, closed, unavailable};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::Connection;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Most commands in one transaction.
const MAX_GROUP: usize = 256;

/// Told whether the commit succeeded.
type Answer = Box<dyn FnOnce(std::result::Result<(), String>) + Send>;
type Command = Box<dyn FnOnce(&Connection) -> Answer + Send>;

pub(super) struct Writer {
    /// Unbounded; the number of unanswered calls is bounded by the callers.
    commands: Mutex<Option<Sender<Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self> {
        let (commands, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || run(&connection, &receiver))
            .map_err(|error| unavailable(format!("cannot start the writer thread: {error}")))?;
        Ok(Self {
            commands: Mutex::new(Some(commands)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues `work`; its place among the other writes is taken before this returns. `after` is called with the
    /// result once it is durable, before the caller is answered.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Failable<T> + Send + 'static,
        after: impl FnOnce(&T) + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let (answer, answered) = oneshot::channel();
        let command: Command = Box::new(move |connection| {
            let result = in_savepoint(connection, work);
            Box::new(move |committed| {
                let result = match (result, committed) {
                    (Ok(value), Ok(())) => {
                        after(&value);
                        Ok(value)
                    }
                    (Err(failure), _) => Err(StoreError::from(failure)),
                    (Ok(_), Err(reason)) => Err(unavailable(reason)),
                };
                // The caller may have gone; the write stands.
                let _ = answer.send(result);
            })
        });
        let queued = match &*self.commands.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(commands) => commands.send(command).is_ok(),
            None => false,
        };
        async move {
            if !queued {
                return Err(closed());
            }
            answered.await.unwrap_or_else(|_| Err(closed()))
        }
        .boxed()
    }

    /// Takes no more commands and waits until those queued are done.
    pub(super) async fn close(&self) {
        drop(
            self.commands
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the sqlite writer thread panicked");
            }
        }
    }
}

fn run(connection: &Connection, commands: &Receiver<Command>) {
    let mut group = Vec::with_capacity(MAX_GROUP);
    while let Ok(first) = commands.recv() {
        group.push(first);
        group.extend(commands.try_iter().take(MAX_GROUP - 1));
        let begun = connection.execute_batch("BEGIN IMMEDIATE");
        if let Err(error) = begun {
            // Not begun, so nothing is written: say so to everybody. The closures must not run.
            tracing::warn!(%error, "cannot begin a transaction");
            group.clear();
            continue;
        }
        let answers: Vec<Answer> = group.drain(..).map(|command| command(connection)).collect();
        let committed = connection.execute_batch("COMMIT").map_err(|error| {
            if !connection.is_autocommit()
                && let Err(error) = connection.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "cannot roll back");
            }
            error.to_string()
        });
        for answer in answers {
            answer(committed.clone());
        }
    }
}

/// One failing command must not spoil the others of its group.
fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Failable<T>,
) -> Failable<T> {
    let run = |sql: &str| {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
    };
    run("SAVEPOINT command").map_err(Failure::Sql)?;
    let result = work(connection);
    if result.is_err() {
        run("ROLLBACK TO command").map_err(Failure::Sql)?;
    }
    run("RELEASE command").map_err(Failure::Sql)?;
    result
}
