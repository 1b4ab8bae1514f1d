//! Messages of events: a receipt with its listeners, and what became of it for each of them.

use super::super::{MessageStored, TargetOutcome};
use super::dedup::{self, Wanted};
use super::{Failable, millis, receipts, rows};
use crate::model::dedup::{DedupKey, First};
use crate::model::fanout::{GIVE_UP_AFTER, MessageTarget, TargetState};
use crate::model::receipt::Receipt;
use crate::model::{PipelineId, ReceiptId};
use deadpool_postgres::{Object, Transaction};
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::GenericClient;
use uuid::Uuid;

pub(super) async fn of(
    client: &impl GenericClient,
    receipt_id: ReceiptId,
) -> Failable<Vec<MessageTarget>> {
    let sql = "SELECT * FROM receipt_targets WHERE receipt_id = $1 ORDER BY pipeline_id";
    let found = client.query(sql, &[&receipt_id.0]).await?;
    rows::all(&found, rows::message_target)
}

/// Which listeners of an earlier message still stand: their run goes on, or ended well, or is yet to be started.
async fn standing(
    transaction: &Transaction<'_>,
    receipt_id: ReceiptId,
) -> Failable<HashMap<PipelineId, bool>> {
    let sql = "SELECT t.*, r.id IS NOT NULL AS exists, r.outcome FROM receipt_targets t
        LEFT JOIN runs r ON r.id = t.run_id WHERE t.receipt_id = $1";
    let mut stands = HashMap::new();
    for row in transaction.query(sql, &[&receipt_id.0]).await? {
        let target = rows::message_target(&row)?;
        let exists: bool = row.try_get("exists")?;
        let outcome: Option<&str> = row.try_get("outcome")?;
        let standing = match target.state {
            TargetState::Pending | TargetState::Filtered => true,
            TargetState::Started => exists && dedup::stands(outcome),
            TargetState::Dropped => false,
        };
        stands.insert(target.pipeline_id, standing);
    }
    Ok(stands)
}

pub(super) async fn store(
    transaction: &Transaction<'_>,
    receipt: &Receipt,
    mut targets: Vec<MessageTarget>,
    key: Option<&DedupKey>,
    patience: Duration,
) -> Failable<MessageStored> {
    let mut redelivery_of = None;
    if let Some(key) = key {
        let want = Wanted {
            key,
            receipt_id: receipt.id,
            run_id: None,
        };
        if let Some((_, claimed)) = dedup::claim(transaction, vec![want]).await?.pop() {
            let first = claimed.first;
            if first.receipt_id == receipt.id {
                return Ok(MessageStored::Done(of(&**transaction, receipt.id).await?));
            }
            if dedup::is_conflict(&claimed, key) {
                return Ok(MessageStored::Conflict(first));
            }
            let stands = standing(transaction, first.receipt_id).await?;
            targets = MessageTarget::once_more(targets, &stands);
            if targets.is_empty() {
                let first = First {
                    run_id: None,
                    ..first
                };
                return Ok(MessageStored::Duplicate(first));
            }
            redelivery_of = Some(first.receipt_id);
            dedup::take_over(transaction, &[want]).await?;
        }
    }
    if let Some(body) = receipt.body_place.pages() {
        // Locked, it is not forgotten before the receipt that names it is there.
        let sql = "SELECT 1 FROM bodies WHERE id = $1 FOR SHARE";
        if transaction.query_opt(sql, &[&body.0]).await?.is_none() {
            return Ok(MessageStored::BodyGone);
        }
    }
    receipts::insert(transaction, receipt, redelivery_of).await?;
    let sql = "INSERT INTO receipt_targets (receipt_id, pipeline_id, run_id, state, reason, next_try_at)
        SELECT $1, t.pipeline_id, t.run_id, t.state, t.reason, clock_timestamp() + $6 * interval '1 millisecond'
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[]) AS t (pipeline_id, run_id, state, reason)
        JOIN pipelines p ON p.id = t.pipeline_id ORDER BY p.id FOR KEY SHARE OF p ON CONFLICT DO NOTHING";
    let pipelines: Vec<Uuid> = targets.iter().map(|target| target.pipeline_id.0).collect();
    let runs: Vec<Uuid> = targets.iter().map(|target| target.run_id.0).collect();
    let states: Vec<&str> = targets.iter().map(|target| target.state.as_str()).collect();
    let reasons: Vec<&str> = targets.iter().map(|target| &*target.reason).collect();
    let patience = millis(patience) as f64;
    transaction
        .execute(
            sql,
            &[
                &receipt.id.0,
                &pipelines,
                &runs,
                &states,
                &reasons,
                &patience,
            ],
        )
        .await?;
    Ok(MessageStored::Done(of(&**transaction, receipt.id).await?))
}

pub(super) async fn due(
    client: &Object,
    limit: i64,
    patience: Duration,
) -> Failable<Vec<MessageTarget>> {
    // Servers pass over what another one is taking; the order is that of the ids, as with all locks.
    let sql = "WITH due AS (
            SELECT t.receipt_id, t.pipeline_id FROM receipt_targets t
            JOIN pipelines p ON p.id = t.pipeline_id JOIN receipts c ON c.id = t.receipt_id
            WHERE t.state = 'pending' AND t.next_try_at <= clock_timestamp()
            AND (NOT p.paused OR c.received_at < clock_timestamp() - $3 * interval '1 millisecond')
            ORDER BY t.next_try_at LIMIT $1 FOR UPDATE OF t SKIP LOCKED
        )
        UPDATE receipt_targets t SET next_try_at = clock_timestamp() + $2 * interval '1 millisecond'
        FROM due WHERE t.receipt_id = due.receipt_id AND t.pipeline_id = due.pipeline_id RETURNING t.*";
    let found = client
        .query(
            sql,
            &[
                &limit,
                &(millis(patience) as f64),
                &(millis(GIVE_UP_AFTER) as f64),
            ],
        )
        .await?;
    rows::all(&found, rows::message_target)
}

/// Makes what a pipeline missed while it was paused due now; what is being tried at this moment is not waited for.
pub(super) async fn unpause(transaction: &Transaction<'_>, id: PipelineId) -> Failable<()> {
    let sql = "WITH missed AS (
            SELECT receipt_id, pipeline_id FROM receipt_targets WHERE pipeline_id = $1 AND state = 'pending'
            FOR UPDATE SKIP LOCKED
        )
        UPDATE receipt_targets t SET next_try_at = least(t.next_try_at, clock_timestamp())
        FROM missed WHERE t.receipt_id = missed.receipt_id AND t.pipeline_id = missed.pipeline_id";
    transaction.execute(sql, &[&id.0]).await?;
    Ok(())
}

pub(super) async fn settle(client: &Object, outcome: &TargetOutcome) -> Failable<()> {
    let sql = "UPDATE receipt_targets SET state = $3, reason = $4, tries = tries + 1,
            next_try_at = clock_timestamp() + $5 * interval '1 millisecond'
        WHERE receipt_id = $1 AND pipeline_id = $2 AND state = 'pending'";
    client
        .execute(
            sql,
            &[
                &outcome.receipt_id.0,
                &outcome.pipeline_id.0,
                &outcome.state.as_str(),
                &outcome.reason,
                &(millis(outcome.wait) as f64),
            ],
        )
        .await?;
    Ok(())
}
