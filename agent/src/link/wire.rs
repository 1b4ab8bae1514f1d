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

    /// Waits until there is another connection than this one.
    async fn replaced(&self, number: u64) {
        loop {
            let changed = self.changed.notified();
            if lock(&self.current).0 != number {
                return;
            }
            changed.await;
        }
    }

    /// Whether this connection is there, and the last one.
    fn is_current(&self, number: u64) -> bool {
        let current = lock(&self.current);
        current.0 == number && current.1.is_some()
    }

    /// Does something over the connection there is, and again over the next one if it breaks or is replaced, or in a moment
    /// if it may do better then; at most `max_tries` times on one connection.
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
            let done = tokio::select! {
                biased;
                done = once(connection) => done,
                // What a silent network swallowed is not waited for.
                () = self.replaced(number) => continue,
            };
            match done {
                Err(status) if may_pass(status.code()) && tries < max_tries => {
                    tracing::debug!(reason = status.message(), "asked again");
                    tokio::time::sleep(REPEAT_AFTER).await;
                }
                Err(status) if status.code() == Code::FailedPrecondition => {
                    // "Not yours" is also said to a session that a newer one of this agent took over from, before this side
                    // knows of that.
                    tokio::time::sleep(REPEAT_AFTER).await;
                    if self.is_current(number) {
                        return Err(status);
                    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::connection;
    use crate::link::tests::config;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn connection() -> Connection {
        let channel = connection::channel(&config()).unwrap();
        Connection::new(channel, &config()).unwrap()
    }

    fn wire() -> Arc<Wire> {
        let wire = Arc::new(Wire::default());
        wire.connect(connection());
        wire
    }

    /// Asks until it is not refused as `refused` says, and tells how often.
    async fn asked(wire: &Wire, refused: impl Fn(u32) -> Option<Code>) -> (Result<(), Code>, u32) {
        let asked = AtomicU32::new(0);
        let answer = wire.patiently(MAX_TRIES, |_| {
            let refused = refused(asked.fetch_add(1, Ordering::SeqCst));
            async move { refused.map_or(Ok(()), |code| Err(Status::new(code, "no"))) }
        });
        let answer = answer.await.map_err(|status| status.code());
        (answer, asked.load(Ordering::SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_on_a_swallowed_connection_is_repeated_on_the_next_one_at_once() {
        let wire = wire();
        let asked = Arc::new(AtomicU32::new(0));
        let (calling, count) = (wire.clone(), asked.clone());
        let call = tokio::spawn(async move {
            let once = |_| {
                let first = count.fetch_add(1, Ordering::SeqCst) == 0;
                async move {
                    if first {
                        std::future::pending::<()>().await;
                    }
                    Ok(())
                }
            };
            calling.patiently(MAX_TRIES, once).await
        });
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let before = tokio::time::Instant::now();
        wire.disconnect();
        wire.connect(connection());
        call.await.unwrap().unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert!(before.elapsed() < REPEAT_AFTER);
    }

    #[tokio::test(start_paused = true)]
    async fn not_yours_counts_only_from_a_session_that_is_not_superseded() {
        let wire = wire();
        let (answer, times) = asked(&wire, |_| Some(Code::FailedPrecondition)).await;
        assert_eq!((answer, times), (Err(Code::FailedPrecondition), 1));
        let next = wire.clone();
        let refused = move |before| {
            (before == 0).then(|| {
                next.disconnect();
                let next = next.clone();
                // The new session is there in a moment, as far as this side is concerned.
                tokio::spawn(async move { next.connect(connection()) });
                Code::FailedPrecondition
            })
        };
        assert_eq!(asked(&wire, refused).await, (Ok(()), 2));
    }
}
