//! Group commit: calls that wait at the same time share one transaction, and none is answered before it is durable.
//!
//! A flush takes whatever waits, so an idle store answers at once and a busy one in groups. Only a group in which
//! nothing is urgent (nobody waits for it) waits a moment for company.

use super::{Result, StoreError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::future::Future;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// How long a group without anything urgent waits for company, usually.
const LINGER: Duration = Duration::from_millis(2);
/// Most calls in one transaction.
const MAX_GROUP: usize = 128;

type Waiting<I, O> = (I, oneshot::Sender<Result<O>>);

/// How a batch works off its queue.
pub(super) struct Habits<I> {
    /// Whether somebody waits for an item.
    pub(super) is_urgent: fn(&I) -> bool,
    /// How long a group without anything urgent waits for company.
    pub(super) linger: Duration,
}

impl<I> Default for Habits<I> {
    /// Everything is urgent.
    fn default() -> Self {
        Self {
            is_urgent: |_| true,
            linger: LINGER,
        }
    }
}

/// One queue with one flusher; calls are carried out in the order of `submit`.
pub(super) struct Batch<I, O> {
    /// Unbounded; the number of unanswered calls is bounded by the callers.
    queue: mpsc::UnboundedSender<Waiting<I, O>>,
}

impl<I: Send + 'static, O: Send + 'static> Batch<I, O> {
    /// `flush` carries out a group and returns one result for each item, in order; if it fails, all of the group do. The
    /// task ends when the batch is dropped and its queue is empty.
    pub(super) fn start<F, Fut>(habits: Habits<I>, flush: F) -> (Self, JoinHandle<()>)
    where
        F: Fn(Vec<I>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Vec<Result<O>>>> + Send,
    {
        let (queue, mut waiting) = mpsc::unbounded_channel::<Waiting<I, O>>();
        let task = tokio::spawn(async move {
            let mut group = Vec::with_capacity(MAX_GROUP);
            while waiting.recv_many(&mut group, MAX_GROUP).await > 0 {
                let deadline = Instant::now() + habits.linger;
                while !group.iter().any(|(item, _)| (habits.is_urgent)(item)) {
                    let more = waiting.recv_many(&mut group, MAX_GROUP);
                    match timeout_at(deadline, more).await {
                        Ok(received) if received > 0 => {}
                        Ok(_) | Err(_) => break,
                    }
                }
                let (items, callers): (Vec<_>, Vec<_>) = group.drain(..).unzip();
                match flush(items).await {
                    Ok(results) => answer(callers, results),
                    Err(error) => fail(callers, error),
                }
            }
        });
        (Self { queue }, task)
    }

    /// Takes its place in the queue before it returns.
    pub(super) fn submit(&self, item: I) -> BoxFuture<'static, Result<O>> {
        let (caller, answered) = oneshot::channel();
        let queued = self.queue.send((item, caller)).is_ok();
        async move {
            if !queued {
                return Err(gone());
            }
            answered.await.unwrap_or_else(|_| Err(gone()))
        }
        .boxed()
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}

fn answer<O>(callers: Vec<oneshot::Sender<Result<O>>>, results: Vec<Result<O>>) {
    // A caller without result (a defect of the flush) sees its channel closed; one that has gone needs none.
    for (caller, result) in callers.into_iter().zip(results) {
        let _ = caller.send(result);
    }
}

fn fail<O>(callers: Vec<oneshot::Sender<Result<O>>>, error: StoreError) {
    for caller in callers {
        let _ = caller.send(Err(error.duplicate()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn calls_keep_their_order_and_share_flushes() {
        let groups = Arc::new(Mutex::new(Vec::new()));
        let seen = groups.clone();
        let (batch, task) = Batch::start(Habits::default(), move |items: Vec<u32>| {
            seen.lock().unwrap().push(items.len());
            async move { Ok(items.into_iter().map(|item| Ok(item * 2)).collect()) }
        });
        let calls: Vec<_> = (0..300).map(|item| batch.submit(item)).collect();
        let results = futures_util::future::join_all(calls).await;
        let doubled: Vec<u32> = results.into_iter().map(Result::unwrap).collect();
        assert_eq!(doubled, (0..300).map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(*groups.lock().unwrap(), [128, 128, 44]);
        drop(batch);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_flush_fails_everybody_in_it_and_nobody_after() {
        let (batch, _task) = Batch::start(Habits::default(), |items: Vec<bool>| async move {
            if items.contains(&false) {
                return Err(StoreError::Unavailable("down".into()));
            }
            Ok(items.into_iter().map(|_| Ok(())).collect())
        });
        let failed =
            futures_util::future::join_all([batch.submit(true), batch.submit(false)]).await;
        assert!(failed.iter().all(Result::is_err));
        batch.submit(true).await.unwrap();
    }
}
