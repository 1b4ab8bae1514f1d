//! What was answered to requests, written in groups some time later.

use super::super::Result;
use super::super::batch::{Batch, Habits};
use super::super::codec;
use super::super::hooks::MAX_UNWRITTEN_ANSWERS;
use super::{pool_error, sql_error};
use crate::model::ReceiptId;
use crate::model::receipt::Answer;
use deadpool_postgres::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

const WRITE: &str = "UPDATE receipts c SET reply_status = t.status, reply_summary = t.summary, duration_us = t.duration
    FROM unnest($1::uuid[], $2::int[], $3::text[], $4::bigint[]) AS t (id, status, summary, duration)
    WHERE c.id = t.id";

/// How long answers wait for others.
const LINGER: Duration = Duration::from_millis(100);

/// The answers that wait to be written.
pub(super) struct Answers {
    batch: Batch<(ReceiptId, Answer), ()>,
    unwritten: Arc<AtomicUsize>,
}

impl Answers {
    pub(super) fn start(pool: Pool) -> (Self, JoinHandle<()>) {
        let unwritten = Arc::new(AtomicUsize::new(0));
        let count = unwritten.clone();
        let (batch, task) = Batch::start(
            Habits {
                // Nobody waits: company is worth a while.
                is_urgent: |_| false,
                linger: LINGER,
            },
            move |group: Vec<(ReceiptId, Answer)>| {
                let pool = pool.clone();
                count.fetch_sub(group.len(), Ordering::Relaxed);
                async move {
                    if let Err(error) = write(&pool, &group).await {
                        tracing::debug!(
                            error = &error as &dyn std::error::Error,
                            answers = group.len(),
                            "cannot write what was answered; the requests themselves are stored"
                        );
                    }
                    Ok(group.iter().map(|_| Ok(())).collect())
                }
            },
        );
        (Self { batch, unwritten }, task)
    }

    pub(super) fn put(&self, receipt_id: ReceiptId, answer: Answer) {
        if self.unwritten.fetch_add(1, Ordering::Relaxed) >= MAX_UNWRITTEN_ANSWERS {
            self.unwritten.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        drop(self.batch.submit((receipt_id, answer)));
    }
}

async fn write(pool: &Pool, group: &[(ReceiptId, Answer)]) -> Result<()> {
    let client = pool.get().await.map_err(pool_error)?;
    let statement = client.prepare_cached(WRITE).await.map_err(sql_error)?;
    let ids: Vec<Uuid> = group.iter().map(|(id, _)| id.0).collect();
    let statuses: Vec<i32> = group.iter().map(|(_, one)| i32::from(one.status)).collect();
    let summaries: Vec<&str> = group.iter().map(|(_, one)| &*one.summary).collect();
    let durations: Vec<i64> = group
        .iter()
        .map(|(_, one)| codec::micros_of(one.duration))
        .collect();
    client
        .execute(&statement, &[&ids, &statuses, &summaries, &durations])
        .await
        .map_err(sql_error)?;
    Ok(())
}
