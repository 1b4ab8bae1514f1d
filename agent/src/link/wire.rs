//! The connection there is, for whatever must get an answer over as many connections as it takes.

use super::connection::Connection;
use super::lock;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;
use tonic::{Code, Status};

/// Pause before a call is repeated on the same connection.
const REPEAT_AFTER: Duration = Duration::from_millis(250);
/// Calls on one connection that may fail before the job is told; each new connection counts anew.
pub(super) const MAX_TRIES: u32 = 20;

/// The current connection, for everyone who needs one.
#[derive(Default)]
pub(super) struct Wire {
    current: Mutex<(u64, Option<Connection>)>,
    changed: Notify,
}

impl Wire {
    pub(super) fn connect(&self, connection: Connection) {
        let mut current = lock(&self.current);
        current.0 += 1;
        current.1 = Some(connection);
        drop(current);
        self.changed.notify_waiters();
    }

    pub(super) fn disconnect(&self) {
        lock(&self.current).1 = None;
    }

    /// The connection with its number; waits while there is none.
    pub(super) async fn connection(&self) -> (u64, Connection) {
        loop {
            let changed = self.changed.notified();
            let current = lock(&self.current).clone();
            if let (number, Some(connection)) = current {
                return (number, connection);
            }
            changed.await;
        }
    }

    /// Does something over the connection there is, and again over the next one if it breaks, or in a moment if it may
    /// do better then; at most `max_tries` times on one connection.
    pub(super) async fn patiently<T, Fut: Future<Output = Result<T, Status>>>(
        &self,
        max_tries: u32,
        once: impl Fn(Connection) -> Fut,
    ) -> Result<T, Status> {
        let mut tries: u32 = 0;
        let mut last = 0;
        loop {
            let (number, connection) = self.connection().await;
            tries = if number == last {
                tries.saturating_add(1)
            } else {
                1
            };
            last = number;
            match once(connection).await {
                Err(status) if may_pass(status.code()) && tries < max_tries => {
                    tracing::debug!(reason = status.message(), "asked again");
                    tokio::time::sleep(REPEAT_AFTER).await;
                }
                done => return done,
            }
        }
    }
}

/// Whether the same call may do better in a moment.
fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
    )
}
