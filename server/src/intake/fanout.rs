//! Messages of events: one receipt, and a run for each listener, started by whoever gets to it.

use super::decide::{is_anonymous, passes};
use crate::model::dedup::DedupKey;
use crate::model::fanout::{GIVE_UP_AFTER, Listener, MessageTarget, TargetState, backoff, run_of};
use crate::model::pipeline::ContentType;
use crate::model::receipt::Receipt;
use crate::model::run::{Trigger, TriggerKind};
use crate::runs::{MAX_TRIES, NotStarted, ReplyWait, Runs, StartRun};
use crate::store::{MessageStored, Result, StoreError, TargetOutcome};
use futures_util::StreamExt;
use futures_util::stream;
use std::time::Duration;
use time::OffsetDateTime;

/// Most listeners of one event.
pub const MAX_LISTENERS: i64 = 1_000;
/// Listeners whose runs are started at the same time.
const AT_ONCE: usize = 16;
/// How long the server that took a message has to start its runs before others do.
const PATIENCE: Duration = Duration::from_secs(10);
/// Targets that the background duty takes at a time.
const BATCH: i64 = 50;

/// Whom a message is for, as the listeners are now; each with its filter's word.
pub(super) async fn targets(
    runs: &Runs,
    event: &str,
    receipt: &Receipt,
) -> Result<Vec<MessageTarget>> {
    let listeners = runs.store().listeners(event, MAX_LISTENERS).await?;
    if listeners.len() as i64 == MAX_LISTENERS {
        tracing::warn!(
            event,
            "more pipelines may listen to this event than can be told"
        );
    }
    let mut targets = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let refused = filtered(runs, &listener, receipt).await?;
        targets.push(MessageTarget {
            receipt_id: receipt.id,
            pipeline_id: listener.pipeline_id,
            run_id: run_of(receipt.received_at, receipt.id, listener.pipeline_id),
            state: match refused {
                None => TargetState::Pending,
                Some(_) => TargetState::Filtered,
            },
            reason: refused.unwrap_or_default(),
            tries: 0,
        });
    }
    Ok(targets)
}

/// Why none of the listener's filters lets the message through.
async fn filtered(runs: &Runs, listener: &Listener, receipt: &Receipt) -> Result<Option<String>> {
    let mut refused = None;
    for filter in &listener.filters {
        let Some(filter) = filter else {
            return Ok(None);
        };
        match passes(runs, filter, receipt).await? {
            Ok(()) => return Ok(None),
            Err(reason) => refused = Some(reason),
        }
    }
    Ok(refused)
}

/// Stores a message with its targets; others start what this server has not started in time.
pub(super) async fn store(
    runs: &Runs,
    receipt: Receipt,
    targets: Vec<MessageTarget>,
    key: Option<DedupKey>,
) -> Result<MessageStored> {
    runs.store()
        .store_message(receipt, targets, key, PATIENCE)
        .await
}

/// Starts the runs of a stored message, as far as they can be; returns what became of each listener and whom to wait
/// for. What fails is tried again by [`finish`].
pub(super) async fn start(
    runs: &Runs,
    receipt: &Receipt,
    targets: Vec<MessageTarget>,
    reply_within: Duration,
) -> Vec<(MessageTarget, Option<ReplyWait>)> {
    let start = |mut target: MessageTarget| async move {
        if target.state != TargetState::Pending {
            return (target, None);
        }
        match start_one(runs, receipt, &target, Some(reply_within)).await {
            Ok((state, reason, wait)) => {
                target.state = state;
                target.reason = reason;
                (target, wait)
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    pipeline = %target.pipeline_id,
                    "cannot start a listener's run now; it is tried again"
                );
                (target, None)
            }
        }
    };
    stream::iter(targets)
        .map(start)
        .buffered(AT_ONCE)
        .collect()
        .await
}

/// Starts what is due: what a server that died had begun, and what was paused or found the queue full. May run twice,
/// and at several servers: a listener's run has one id, whoever starts it. A target that fails waits longer each time and
/// stops no other one, unless the storage is unavailable.
pub async fn finish(runs: &Runs) -> Result<()> {
    loop {
        let due = runs.store().due_targets(BATCH, PATIENCE).await?;
        let full = due.len() as i64 == BATCH;
        for target in due {
            match finish_one(runs, &target).await {
                Ok(()) => {}
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => postpone(runs, &target, &error).await?,
            }
        }
        if !full {
            return Ok(());
        }
    }
}

async fn finish_one(runs: &Runs, target: &MessageTarget) -> Result<()> {
    // The receipt keeps its targets: it cannot be gone unless they are.
    if let Some(receipt) = runs.store().receipt(target.receipt_id).await? {
        start_one(runs, &receipt, target, None).await?;
    }
    Ok(())
}

/// Writes down that a try failed; the error itself is for the log.
async fn postpone(runs: &Runs, target: &MessageTarget, error: &StoreError) -> Result<()> {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        pipeline = %target.pipeline_id,
        receipt = %target.receipt_id,
        "cannot start a listener's run; it is tried again"
    );
    let settled = runs.store().settle_target(TargetOutcome {
        receipt_id: target.receipt_id,
        pipeline_id: target.pipeline_id,
        state: TargetState::Pending,
        reason: "the last try failed; the server's log says why".to_owned(),
        wait: backoff(target.tries),
    });
    match settled.await {
        Err(error @ StoreError::Unavailable(_)) => Err(error),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                receipt = %target.receipt_id,
                "cannot write down that a listener's run was not started"
            );
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

type Tried = (TargetState, String, Option<ReplyWait>);

/// One try for one listener, with what became of it written down.
async fn start_one(
    runs: &Runs,
    receipt: &Receipt,
    target: &MessageTarget,
    reply_within: Option<Duration>,
) -> Result<Tried> {
    let (mut state, mut reason, wait) = try_one(runs, receipt, target, reply_within).await?;
    let age = OffsetDateTime::now_utc() - receipt.received_at;
    if state == TargetState::Pending && age > GIVE_UP_AFTER {
        state = TargetState::Dropped;
        reason = format!("given up: {reason}");
    }
    runs.store()
        .settle_target(TargetOutcome {
            receipt_id: target.receipt_id,
            pipeline_id: target.pipeline_id,
            state,
            reason: reason.clone(),
            wait: backoff(target.tries),
        })
        .await?;
    Ok((state, reason, wait))
}

async fn try_one(
    runs: &Runs,
    receipt: &Receipt,
    target: &MessageTarget,
    reply_within: Option<Duration>,
) -> Result<Tried> {
    let not_yet = |reason: &str| Ok((TargetState::Pending, reason.to_owned(), None));
    for _ in 0..MAX_TRIES {
        let Some(pipeline) = runs.reload_pipeline(target.pipeline_id).await? else {
            return Ok((TargetState::Dropped, "the pipeline is gone".into(), None));
        };
        if pipeline.paused {
            return not_yet("paused");
        }
        let trigger = Trigger {
            anonymous: is_anonymous(receipt, &pipeline),
            ..Trigger::new(TriggerKind::Webhook)
        };
        if pipeline.content_type == ContentType::Yaml
            && runs.is_filtered(&pipeline, receipt).await?
        {
            let reason = "no job of it is meant".to_owned();
            return Ok((TargetState::Filtered, reason, None));
        }
        let start = StartRun {
            receipt: Some(receipt.clone()),
            reply_within,
            id: Some(target.run_id),
            ..StartRun::new(pipeline, trigger)
        };
        match runs.start(start).await?.settled() {
            Some(Ok((_, wait))) => return Ok((TargetState::Started, String::new(), wait)),
            Some(Err(NotStarted::QueueFull)) => return not_yet("queue_full"),
            Some(Err(NotStarted::Refused(refused))) => {
                return Ok((TargetState::Dropped, refused.to_string(), None));
            }
            None => {}
        }
    }
    not_yet("the pipeline keeps changing")
}
