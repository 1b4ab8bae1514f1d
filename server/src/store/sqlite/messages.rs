//! Messages of events: a receipt with its listeners, and what became of it for each of them.

use super::receipts;
use super::rows::{Columns, micros, now};
use super::{bodies, dedup};
use crate::model::dedup::{Again, DedupKey, First};
use crate::model::fanout::{GIVE_UP_AFTER, MessageTarget, TargetState};
use crate::model::receipt::Receipt;
use crate::model::{PipelineId, ReceiptId, RunId};
use crate::store::{MessageStored, Result, TargetOutcome};
use rusqlite::{Connection, Params, params};
use std::collections::HashMap;
use std::time::Duration;

const TARGET: &str = "t.receipt_id, t.pipeline_id, t.run_id, t.state, t.reason, t.tries";

fn select(connection: &Connection, rest: &str, given: impl Params) -> Result<Vec<MessageTarget>> {
    let sql = format!("SELECT {TARGET} FROM receipt_targets t {rest}");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_map(given, |row| {
        let mut columns = Columns::of(row);
        Ok(MessageTarget {
            receipt_id: columns.id(ReceiptId)?,
            pipeline_id: columns.id(PipelineId)?,
            run_id: columns.id(RunId)?,
            state: columns.word(TargetState::parse)?,
            reason: columns.take()?,
            tries: columns.take()?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn of(connection: &Connection, receipt_id: ReceiptId) -> Result<Vec<MessageTarget>> {
    let rest = "WHERE t.receipt_id = ?1 ORDER BY t.pipeline_id";
    select(connection, rest, [receipt_id.0.as_bytes()])
}

/// Which listeners of an earlier message still stand: their run goes on, or ended well, or is yet to be started.
fn standing(connection: &Connection, receipt_id: ReceiptId) -> Result<HashMap<PipelineId, bool>> {
    let sql = "SELECT t.pipeline_id, t.state, r.id IS NOT NULL, r.outcome FROM receipt_targets t \
         LEFT JOIN runs r ON r.id = t.run_id WHERE t.receipt_id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([receipt_id.0.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        let pipeline = columns.id(PipelineId)?;
        let state = columns.word(TargetState::parse)?;
        let exists: bool = columns.take()?;
        let outcome: Option<String> = columns.take()?;
        let stands = match state {
            TargetState::Pending | TargetState::Filtered => true,
            TargetState::Started => exists && dedup::stands(outcome.as_deref()),
            TargetState::Dropped => false,
        };
        Ok((pipeline, stands))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn store(
    connection: &Connection,
    receipt: Receipt,
    mut targets: Vec<MessageTarget>,
    key: Option<&DedupKey>,
    patience: Duration,
) -> Result<MessageStored> {
    let mut redelivery_of = None;
    if let Some(key) = key
        && let Some((claimed, again)) = dedup::again(connection, key)?
    {
        let first = claimed.first;
        if first.receipt_id == receipt.id {
            return Ok(MessageStored::Done(of(connection, receipt.id)?));
        }
        if again == Again::Conflict {
            return Ok(MessageStored::Conflict(first));
        }
        targets = MessageTarget::once_more(targets, &standing(connection, first.receipt_id)?);
        if targets.is_empty() {
            return Ok(MessageStored::Duplicate(First {
                run_id: None,
                ..first
            }));
        }
        redelivery_of = Some(first.receipt_id);
    }
    if !bodies::is_there(connection, receipt.body_place)? {
        return Ok(MessageStored::BodyGone);
    }
    receipts::insert(connection, &receipt, redelivery_of)?;
    let sql = "INSERT INTO receipt_targets (receipt_id, pipeline_id, run_id, state, reason, next_try_at) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM pipelines WHERE id = ?2) \
         ON CONFLICT DO NOTHING";
    for target in &targets {
        connection.prepare_cached(sql)?.execute(params![
            target.receipt_id.0.as_bytes(),
            target.pipeline_id.0.as_bytes(),
            target.run_id.0.as_bytes(),
            target.state.as_str(),
            target.reason,
            micros(now() + patience),
        ])?;
    }
    if let Some(key) = key {
        dedup::claim(connection, key, receipt.id, None)?;
    }
    Ok(MessageStored::Done(of(connection, receipt.id)?))
}

pub(super) fn due(
    connection: &Connection,
    limit: i64,
    patience: Duration,
) -> Result<Vec<MessageTarget>> {
    let rest = "JOIN pipelines p ON p.id = t.pipeline_id JOIN receipts c ON c.id = t.receipt_id \
         WHERE t.state = 'pending' AND t.next_try_at <= ?1 AND (NOT p.paused OR c.received_at < ?3) \
         ORDER BY t.next_try_at LIMIT ?2";
    let too_old = micros(now() - GIVE_UP_AFTER);
    let found = select(connection, rest, params![micros(now()), limit, too_old])?;
    let sql =
        "UPDATE receipt_targets SET next_try_at = ?3 WHERE receipt_id = ?1 AND pipeline_id = ?2";
    for target in &found {
        connection.prepare_cached(sql)?.execute(params![
            target.receipt_id.0.as_bytes(),
            target.pipeline_id.0.as_bytes(),
            micros(now() + patience),
        ])?;
    }
    Ok(found)
}

/// Makes what a pipeline missed while it was paused due now.
pub(super) fn unpause(connection: &Connection, id: PipelineId) -> Result<()> {
    let sql = "UPDATE receipt_targets SET next_try_at = min(next_try_at, ?2) \
         WHERE pipeline_id = ?1 AND state = 'pending'";
    connection
        .prepare_cached(sql)?
        .execute(params![id.0.as_bytes(), micros(now())])?;
    Ok(())
}

pub(super) fn settle(connection: &Connection, outcome: &TargetOutcome) -> Result<()> {
    let sql = "UPDATE receipt_targets SET state = ?3, reason = ?4, tries = tries + 1, next_try_at = ?5 \
         WHERE receipt_id = ?1 AND pipeline_id = ?2 AND state = 'pending'";
    connection.prepare_cached(sql)?.execute(params![
        outcome.receipt_id.0.as_bytes(),
        outcome.pipeline_id.0.as_bytes(),
        outcome.state.as_str(),
        outcome.reason,
        micros(now() + outcome.wait),
    ])?;
    Ok(())
}
