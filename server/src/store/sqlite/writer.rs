//! The one writer: a thread that takes all waiting commands, runs each inside a savepoint, commits once, then answers.
//!
//! A command that fails is undone alone. If the commit fails, all fail and nothing was stored. Hints are published
//! after the commit and before the answers.

use super::closed;
use super::error::{Defect, OpenError, shared_error};
use super::lock::FileLock;
use crate::model::run::Reply;
use crate::model::{PipelineId, RunId, SessionId};
use crate::store::wake::{Wake, WakeBus};
use crate::store::{Result, StoreError};
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Most commands in one commit: bounds how long the first one waits for the last one.
const GROUP: usize = 256;

/// What to tell others once a command is durable.
#[derive(Default)]
pub(super) struct Hints {
    /// A job became claimable.
    pub(super) job_queued: bool,
    /// Groups in which a place became free.
    pub(super) freed: Vec<(PipelineId, String)>,
    /// Sessions with something to cancel.
    pub(super) cancel: Vec<SessionId>,
    /// Runs that changed: reply, whether finished.
    pub(super) runs: Vec<(RunId, Option<Arc<Reply>>, bool)>,
    /// The pipeline whose jobs may find other inputs now.
    pub(super) schedule: Option<PipelineId>,
    /// Deliveries became due.
    pub(super) deliveries: bool,
    /// A replay waits.
    pub(super) replays: bool,
}

/// A command on its way through the writer.
trait Command: Send {
    /// Does the work; `false` asks to undo it.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Commit or failure is known: hints, then the answer.
    fn answer(self: Box<Self>, lost: Option<StoreError>, wakes: &WakeBus);
}

struct Call<T, F> {
    work: Option<F>,
    result: Result<T>,
    hints: Hints,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F> Command for Call<T, F>
where
    T: Send,
    F: FnOnce(&Connection, &mut Hints) -> Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        let hints = &mut self.hints;
        // A defect in one command must not end the thread that all others need.
        self.result = catch_unwind(AssertUnwindSafe(|| work(connection, hints)))
            .unwrap_or_else(|_| Err(Defect::Panic.into()));
        self.result.is_ok()
    }

    fn answer(self: Box<Self>, lost: Option<StoreError>, wakes: &WakeBus) {
        let result = match lost {
            Some(error) => self.result.and(Err(error)),
            None => self.result,
        };
        if result.is_ok() {
            self.hints.publish(wakes);
        }
        // The caller may have stopped waiting; the command counts all the same.
        let _ = self.answer.send(result);
    }
}

impl Hints {
    fn publish(self, wakes: &WakeBus) {
        for (run_id, reply, finished) in self.runs {
            wakes.publish_run(run_id, reply, finished);
        }
        for (pipeline_id, group) in self.freed {
            wakes.publish(Wake::Group(pipeline_id, group));
        }
        for session_id in self.cancel {
            wakes.publish(Wake::Cancel(session_id));
        }
        if self.job_queued {
            wakes.publish(Wake::JobQueued);
        }
        if let Some(pipeline_id) = self.schedule {
            wakes.publish(Wake::Schedule(pipeline_id));
        }
        if self.replays {
            wakes.publish(Wake::Replays);
        }
        if self.deliveries {
            wakes.publish(Wake::Deliveries);
        }
    }
}

/// The handle.
pub(super) struct Writer {
    // Unbounded: a call takes its place before it returns, and the number of unanswered calls is the callers' to bound.
    queue: Mutex<Option<Sender<Box<dyn Command>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread, which owns the connection and the lock on the file.
    pub(super) fn start(
        connection: Connection,
        lock: FileLock,
        wakes: Arc<WakeBus>,
    ) -> Result<Self> {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                write_until_closed(&connection, &receiver, &wakes);
                if let Err((_, error)) = connection.close() {
                    tracing::error!(%error, "failed to close the database file");
                }
                drop(lock);
            })
            .map_err(OpenError::Thread)?;
        Ok(Self {
            queue: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes a place in the order of commands now; the future is the answer, after the commit.
    pub(super) fn call<T, F>(&self, work: F) -> impl Future<Output = Result<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Hints) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let call = Call {
            work: Some(work),
            result: Err(closed()),
            hints: Hints::default(),
            answer,
        };
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queue.as_ref() {
            // If the thread has ended, the call is dropped and its answer with it.
            let _ = queue.send(Box::new(call));
        }
        async move { answered.await.unwrap_or_else(|_| Err(closed())) }
    }

    /// Finishes what was called before, then ends the thread.
    pub(super) async fn close(&self) {
        let queue = self
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(queue);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else { return };
        match tokio::task::spawn_blocking(move || thread.join()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => tracing::error!("the writer of the database ended with a panic"),
            Err(error) => tracing::error!(%error, "failed to wait for the writer of the database"),
        }
    }
}

fn write_until_closed(
    connection: &Connection,
    queue: &Receiver<Box<dyn Command>>,
    wakes: &WakeBus,
) {
    let mut group = Vec::with_capacity(GROUP);
    while let Ok(first) = queue.recv() {
        group.push(first);
        while group.len() < GROUP
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        let failure = write(connection, &mut group).err().map(Arc::new);
        for command in group.drain(..) {
            command.answer(failure.as_ref().map(shared_error), wakes);
        }
    }
}

/// Runs and commits a group; an error means that nothing of it is stored.
fn write(connection: &Connection, group: &mut [Box<dyn Command>]) -> rusqlite::Result<()> {
    execute(connection, "BEGIN IMMEDIATE")?;
    let result = run_all(connection, group).and_then(|()| execute(connection, "COMMIT"));
    if result.is_err() && !connection.is_autocommit() {
        let undone = execute(connection, "ROLLBACK");
        if let Err(error) = undone {
            tracing::error!(%error, "failed to roll back");
        }
    }
    result
}

fn run_all(connection: &Connection, group: &mut [Box<dyn Command>]) -> rusqlite::Result<()> {
    for command in group {
        execute(connection, "SAVEPOINT command")?;
        if !command.run(connection) {
            // Fails if SQLite has given up the whole transaction (disk full, say): then all of the group fail.
            execute(connection, "ROLLBACK TO command")?;
        }
        execute(connection, "RELEASE command")?;
    }
    Ok(())
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn writer() -> Writer {
        let folder = tempfile::TempDir::new().unwrap();
        let lock = FileLock::take(&folder.path().join("test.db")).unwrap();
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
            .unwrap();
        Writer::start(connection, lock, Arc::default()).unwrap()
    }

    fn insert(connection: &Connection, number: i64) -> Result<()> {
        connection.execute("INSERT INTO numbers VALUES (?1)", [number])?;
        Ok(())
    }

    async fn numbers(writer: &Writer) -> Vec<i64> {
        let listed = writer.call(|connection, _| {
            let mut statement = connection.prepare("SELECT n FROM numbers ORDER BY n")?;
            let found = statement.query_map([], |row| row.get(0))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        });
        listed.await.unwrap()
    }

    /// Holds the writer back until dropped, so that the calls made meanwhile form one group.
    fn hold(writer: &Writer) -> std::sync::mpsc::Sender<()> {
        let (release, held) = channel::<()>();
        let waiting = writer.call(move |_, _| {
            let _ = held.recv();
            Ok(())
        });
        drop(waiting);
        release
    }

    #[tokio::test]
    async fn a_failed_command_is_undone_alone() {
        let writer = writer();
        let release = hold(&writer);
        let before = writer.call(|connection, _| insert(connection, 1));
        let failed = writer.call(|connection, _| {
            insert(connection, 2)?;
            insert(connection, 1)
        });
        let after = writer.call(|connection, _| insert(connection, 3));
        drop(release);
        assert!(before.await.is_ok() && after.await.is_ok());
        assert!(matches!(failed.await, Err(StoreError::Internal(_))));
        assert_eq!(numbers(&writer).await, [1, 3]);
        writer.close().await;
    }

    #[tokio::test]
    async fn a_panic_in_a_command_is_undone_and_answered() {
        let writer = writer();
        let panicked = writer.call::<(), _>(|connection, _| {
            insert(connection, 1)?;
            panic!("a defect");
        });
        assert!(matches!(panicked.await, Err(StoreError::Internal(_))));
        writer
            .call(|connection, _| insert(connection, 2))
            .await
            .unwrap();
        assert_eq!(numbers(&writer).await, [2]);
        writer.close().await;
    }

    #[tokio::test]
    async fn a_group_whose_transaction_is_lost_fails_as_a_whole() {
        let writer = writer();
        let release = hold(&writer);
        let before = writer.call(|connection, _| insert(connection, 1));
        // What SQLite does by itself when the disk is full.
        let lost = writer.call::<(), _>(|connection, _| {
            connection.execute_batch("ROLLBACK")?;
            Err(closed())
        });
        let after = writer.call(|connection, _| insert(connection, 3));
        drop(release);
        assert!(before.await.is_err() && lost.await.is_err() && after.await.is_err());
        writer
            .call(|connection, _| insert(connection, 4))
            .await
            .unwrap();
        assert_eq!(numbers(&writer).await, [4]);
        writer.close().await;
    }

    #[tokio::test]
    async fn a_full_disk_is_unavailable_and_passes() {
        let writer = writer();
        let fill = writer.call(|connection, _| {
            connection.execute_batch(
                "PRAGMA max_page_count = 16; CREATE TABLE big (b BLOB);
                 INSERT INTO big VALUES (zeroblob(1000000))",
            )?;
            Ok(())
        });
        assert!(matches!(fill.await, Err(StoreError::Unavailable(_))));
        writer
            .call(|connection, _| insert(connection, 1))
            .await
            .unwrap();
        writer.close().await;
    }

    #[tokio::test]
    async fn a_command_counts_though_nobody_waits() {
        let writer = writer();
        drop(writer.call(|connection, _| insert(connection, 1)));
        assert_eq!(numbers(&writer).await, [1]);
        writer.close().await;
    }

    #[tokio::test]
    async fn hints_of_failed_commands_are_not_published() {
        let folder = tempfile::TempDir::new().unwrap();
        let lock = FileLock::take(&folder.path().join("test.db")).unwrap();
        let wakes = Arc::new(WakeBus::default());
        let connection = Connection::open_in_memory().unwrap();
        let writer = Writer::start(connection, lock, wakes.clone()).unwrap();
        let mut heard = wakes.subscribe();
        let failed = writer.call::<(), _>(|_, hints| {
            hints.job_queued = true;
            Err(closed())
        });
        assert!(failed.await.is_err());
        assert!(heard.try_recv().is_err());
        let stored = writer.call(|_, hints| {
            hints.job_queued = true;
            Ok(())
        });
        stored.await.unwrap();
        assert_eq!(heard.try_recv().ok(), Some(Wake::JobQueued));
        writer.close().await;
    }
}
