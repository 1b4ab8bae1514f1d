//! A stored request once more: the same bytes, new runs. It is not verified again, and known keys do not stop it; filters
//! do. What was anonymous stays so.

use super::{MAX_TRIES, NotStarted, Refused, Runs, StartRun};
use crate::model::fanout::{MessageTarget, TargetState, run_of};
use crate::model::pipeline::Pipeline;
use crate::model::receipt::{BodyPlace, Receipt, Verdict};
use crate::model::run::{Trigger, TriggerKind};
use crate::model::{PipelineId, ReceiptId, RevisionId, RunId, derived};
use crate::store::{MessageStored, StoreError};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// Most listeners of one event that are considered.
const MAX_LISTENERS: i64 = 1_000;
/// How long others leave the runs of a replayed message to whoever replays it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a request is not done again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The body is needed, byte for byte.
    #[error(
        "the server did not keep the body of this request, so it cannot be done again: bodies of refused requests are not kept, others for as long and as many as --receipts-keep and --receipts-max-bytes say"
    )]
    BodyGone,
    /// It was refused, and doing it again would make it pass.
    #[error(
        "the request was not taken ({0}), so it cannot be done again: only accepted, filtered and unrouted ones can, and those for which the pipeline was paused or the queue full"
    )]
    NotTaken(&'static str),
    /// The pipeline was deleted.
    #[error("the pipeline that this request was for is gone")]
    NoPipeline,
    /// It takes nothing now.
    #[error("pipeline {0:?} is paused; unpause it first")]
    Paused(String),
    /// Too many queued jobs.
    #[error("too many jobs are queued; try again later")]
    QueueFull,
    /// Its program cannot take it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no such program of the pipeline.
    #[error("{0} is not a revision of the pipeline; `pocketci runs show` names the one of a run")]
    NoRevision(RevisionId),
    /// A revision is one pipeline's.
    #[error(
        "the request was a message of an event: there is no one pipeline to take a revision of"
    )]
    RevisionOfEvent,
    /// A request is being done again by somebody else at this moment.
    #[error("the pipeline changes faster than the request can be stored; try again")]
    Changing,
}

/// A request to do again.
pub struct Replay {
    /// As it is stored.
    pub receipt: Receipt,
    /// The same for the same wish: repeated, it starts nothing twice.
    pub wish: Uuid,
    /// With this program instead of the pipeline's newest.
    pub revision: Option<RevisionId>,
}

/// What became, or would become, of it for one pipeline.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Which.
    pub pipeline_id: PipelineId,
    /// Its name.
    pub pipeline: String,
    /// Its run; of a dry run, none.
    pub run_id: Option<RunId>,
    /// Why none is started; empty if one is.
    pub reason: String,
}

/// What became of a [`Replay`].
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The new receipt; of a dry run, none.
    pub receipt_id: Option<ReceiptId>,
    /// For each pipeline that it concerns.
    pub decisions: Vec<Decision>,
}

impl Runs {
    /// What would become of it; changes nothing.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub async fn rehearse(&self, replay: &Replay) -> Result<Replayed, ReplayError> {
        let mut decisions = Vec::new();
        for (pipeline, reason) in self.concerned(replay).await? {
            let reason = match (reason.is_empty(), pipeline.paused) {
                (true, true) => "the pipeline is paused".to_owned(),
                (true, false) => self.nobody(&pipeline, &replay.receipt).await?,
                (false, _) => reason,
            };
            decisions.push(decision(&pipeline, None, reason));
        }
        Ok(Replayed {
            receipt_id: None,
            decisions,
        })
    }

    /// Does it; durable when this returns.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub async fn replay(&self, replay: Replay) -> Result<Replayed, ReplayError> {
        let now = OffsetDateTime::now_utc();
        let original = replay.receipt.id;
        let part = |what: &str| {
            let parts = [
                what.as_bytes(),
                replay.wish.as_bytes(),
                original.0.as_bytes(),
            ];
            // Of the wish's time, if it has one: the same whenever it is repeated.
            derived::run_id(derived::made_at(RunId(replay.wish)), &parts)
        };
        let receipt = Receipt {
            id: ReceiptId(part("replay").0),
            verdict: Verdict::Accepted,
            reason: String::new(),
            received_at: now,
            run_id: None,
            redelivery_of: None,
            replay_of: Some(original),
            answer: None,
            ..replay.receipt.clone()
        };
        let concerned = self.concerned(&replay).await?;
        if replay.receipt.event_key.is_some() {
            return self.replay_message(&replay, receipt, concerned).await;
        }
        let Some((pipeline, reason)) = concerned.into_iter().next() else {
            return Err(ReplayError::NoPipeline);
        };
        if !reason.is_empty() {
            return Ok(Replayed {
                receipt_id: None,
                decisions: vec![decision(&pipeline, None, reason)],
            });
        }
        let run_id = part("run");
        let receipt_id = receipt.id;
        self.start_again(pipeline.clone(), &replay, receipt, run_id)
            .await?;
        Ok(Replayed {
            receipt_id: Some(receipt_id),
            decisions: vec![decision(&pipeline, Some(run_id), String::new())],
        })
    }

    /// The pipelines that it is for now, each with why nothing is started of it, or an empty text.
    async fn concerned(
        &self,
        replay: &Replay,
    ) -> Result<Vec<(Arc<Pipeline>, String)>, ReplayError> {
        let receipt = &replay.receipt;
        // Nobody looks at signatures again: what was not let in then is not let in now.
        if !matches!(
            receipt.verdict,
            Verdict::Accepted
                | Verdict::Filtered
                | Verdict::Unrouted
                | Verdict::Paused
                | Verdict::QueueFull
        ) {
            return Err(ReplayError::NotTaken(receipt.verdict.as_str()));
        }
        if receipt.body_place == BodyPlace::None && receipt.body_bytes > 0 {
            return Err(ReplayError::BodyGone);
        }
        let endpoint = match receipt.endpoint_id {
            Some(id) => self.store().endpoint(id).await?,
            None => None,
        };
        let own = endpoint.and_then(|endpoint| endpoint.settings.filter);
        let own = match own {
            Some(filter) => self.kept_out(&filter, receipt).await?,
            None => String::new(),
        };
        if let Some(event) = &receipt.event_key {
            if replay.revision.is_some() {
                return Err(ReplayError::RevisionOfEvent);
            }
            let listeners = self.store().listeners(event, MAX_LISTENERS).await?;
            let mut concerned = Vec::new();
            for listener in listeners {
                let Some(pipeline) = self.reload_pipeline(listener.pipeline_id).await? else {
                    continue;
                };
                let mut reason = own.clone();
                for filter in listener.filters.iter().filter(|_| own.is_empty()) {
                    reason = match filter {
                        Some(filter) => self.kept_out(filter, receipt).await?,
                        None => String::new(),
                    };
                    if reason.is_empty() {
                        break;
                    }
                }
                concerned.push((pipeline, reason));
            }
            return Ok(concerned);
        }
        let id = receipt.pipeline_id.ok_or(ReplayError::NoPipeline)?;
        let pipeline = self.reload_pipeline(id).await?;
        let pipeline = pipeline.ok_or(ReplayError::NoPipeline)?;
        let pipeline = self.with_revision(pipeline, replay.revision).await?;
        // An endpoint has a filter of its own instead of the pipeline's.
        let settings = pipeline.settings.webhook.as_ref();
        let filter = settings.and_then(|settings| settings.filter.clone());
        let reason = match filter.filter(|_| receipt.endpoint_id.is_none()) {
            Some(filter) => self.kept_out(&filter, receipt).await?,
            None => own,
        };
        Ok(vec![(pipeline, reason)])
    }

    async fn with_revision(
        &self,
        pipeline: Arc<Pipeline>,
        revision: Option<RevisionId>,
    ) -> Result<Arc<Pipeline>, ReplayError> {
        let Some(id) = revision else {
            return Ok(pipeline);
        };
        let found = self.revision(id).await?;
        let found = found.filter(|found| found.pipeline_id == pipeline.id);
        let found = found.ok_or(ReplayError::NoRevision(id))?;
        Ok(Arc::new(Pipeline {
            revision_id: id,
            revision: found.number,
            content_type: found.content_type,
            ..(*pipeline).clone()
        }))
    }

    /// Why a filter lets it not through; empty if it does.
    async fn kept_out(&self, filter: &str, receipt: &Receipt) -> Result<String, ReplayError> {
        Ok(match self.value_of(filter, receipt).await? {
            Ok(serde_json::Value::Bool(true)) => String::new(),
            Ok(other) => format!("its filter gives {other} for this request"),
            Err(error) => format!("its filter cannot be evaluated: {error}"),
        })
    }

    /// Why no job of a YAML pipeline is meant; empty if one is.
    async fn nobody(&self, pipeline: &Pipeline, receipt: &Receipt) -> Result<String, ReplayError> {
        let again = Receipt {
            replay_of: Some(receipt.id),
            ..receipt.clone()
        };
        let trigger = Trigger::new(TriggerKind::Webhook);
        let nobody = self.is_for_nobody(pipeline, &trigger, Some(&again)).await?;
        Ok(match nobody {
            true => "no job of the pipeline is meant by this request".to_owned(),
            false => String::new(),
        })
    }

    /// Whether the new run has no rights: what the earlier one was, or else what an unverified request is.
    async fn is_anonymous(
        &self,
        pipeline: &Pipeline,
        receipt: &Receipt,
        earlier: Option<RunId>,
    ) -> Result<bool, ReplayError> {
        let earlier = match earlier {
            Some(run_id) => self.store().run(run_id).await?,
            None => None,
        };
        if let Some(earlier) = earlier {
            return Ok(earlier.run.trigger.anonymous);
        }
        Ok(!receipt.verified && !pipeline.lends_rights())
    }

    async fn start_again(
        &self,
        mut pipeline: Arc<Pipeline>,
        replay: &Replay,
        receipt: Receipt,
        run_id: RunId,
    ) -> Result<(), ReplayError> {
        for _ in 0..MAX_TRIES {
            if pipeline.paused {
                return Err(ReplayError::Paused(pipeline.name.clone()));
            }
            let earlier = replay.receipt.run_id;
            let trigger = Trigger {
                anonymous: self.is_anonymous(&pipeline, &receipt, earlier).await?,
                ..Trigger::new(TriggerKind::Webhook)
            };
            let start = StartRun {
                receipt: Some(receipt.clone()),
                id: Some(run_id),
                ..StartRun::new(pipeline.clone(), trigger)
            };
            match self.start(start).await?.settled() {
                Some(Ok(_)) => return Ok(()),
                Some(Err(NotStarted::QueueFull)) => return Err(ReplayError::QueueFull),
                Some(Err(NotStarted::Refused(refused))) => return Err(refused.into()),
                None => {
                    let current = self.reload_pipeline(pipeline.id).await?;
                    let current = current.ok_or(ReplayError::NoPipeline)?;
                    pipeline = self.with_revision(current, replay.revision).await?;
                }
            }
        }
        Err(ReplayError::Changing)
    }

    /// A message is stored with those who listen now; what cannot be started at once is started later.
    async fn replay_message(
        &self,
        replay: &Replay,
        receipt: Receipt,
        concerned: Vec<(Arc<Pipeline>, String)>,
    ) -> Result<Replayed, ReplayError> {
        // Of the first wish's receipt, whose time the ids of its runs have.
        let receipt = match self.store().receipt(receipt.id).await? {
            Some(stored) => stored,
            None => receipt,
        };
        let target = |(pipeline, reason): &(Arc<Pipeline>, String)| MessageTarget {
            receipt_id: receipt.id,
            pipeline_id: pipeline.id,
            run_id: run_of(receipt.received_at, receipt.id, pipeline.id),
            state: match reason.is_empty() {
                true => TargetState::Pending,
                false => TargetState::Filtered,
            },
            reason: reason.clone(),
            tries: 0,
        };
        let targets = concerned.iter().map(target).collect();
        let storing = self
            .store()
            .store_message(receipt.clone(), targets, None, PATIENCE);
        let targets = match storing.await? {
            MessageStored::Done(targets) => targets,
            MessageStored::Duplicate(_) | MessageStored::Conflict(_) => Vec::new(),
            MessageStored::BodyGone => return Err(ReplayError::BodyGone),
        };
        let earlier = self.store().message_targets(replay.receipt.id).await?;
        let mut decisions = Vec::new();
        for (pipeline, reason) in concerned {
            let of = |targets: &[MessageTarget]| {
                let found = targets
                    .iter()
                    .find(|target| target.pipeline_id == pipeline.id);
                found.map(|target| target.run_id)
            };
            let run_id = of(&targets).filter(|_| reason.is_empty());
            let Some(run_id) = run_id else {
                decisions.push(decision(&pipeline, None, reason));
                continue;
            };
            let mut once = Replay {
                receipt: replay.receipt.clone(),
                wish: replay.wish,
                revision: None,
            };
            once.receipt.run_id = of(&earlier);
            let started = self
                .start_again(pipeline.clone(), &once, receipt.clone(), run_id)
                .await;
            let reason = match started {
                Ok(()) => String::new(),
                Err(ReplayError::Store(error)) => return Err(error.into()),
                Err(error) => format!("{error}; it is started later"),
            };
            self.settle_replayed(&receipt, &pipeline, &reason).await?;
            decisions.push(decision(&pipeline, Some(run_id), reason));
        }
        Ok(Replayed {
            receipt_id: Some(receipt.id),
            decisions,
        })
    }

    /// Tells the message what became of it for this listener, so that nobody starts it again.
    async fn settle_replayed(
        &self,
        receipt: &Receipt,
        pipeline: &Pipeline,
        reason: &str,
    ) -> Result<(), StoreError> {
        if !reason.is_empty() {
            return Ok(());
        }
        let outcome = crate::store::TargetOutcome {
            receipt_id: receipt.id,
            pipeline_id: pipeline.id,
            state: TargetState::Started,
            reason: String::new(),
            wait: Duration::ZERO,
        };
        self.store().settle_target(outcome).await
    }
}

fn decision(pipeline: &Pipeline, run_id: Option<RunId>, reason: String) -> Decision {
    Decision {
        pipeline_id: pipeline.id,
        pipeline: pipeline.name.clone(),
        run_id,
        reason,
    }
}
