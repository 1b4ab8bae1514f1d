//! From a complete request to what it starts: verified, looked at, stored.

use super::accepted::Accepted;
use super::decide::{Refusal, Sender, is_anonymous, passes, verify};
use super::find::Address;
use super::{
    Hook, IncomingRequest, Intake, KeepError, Kept, Received, What, dedup, fanout, providers,
};
use crate::model::endpoint::Target;
use crate::model::fanout::TargetState;
use crate::model::pipeline::{ContentType, Pipeline};
use crate::model::receipt::{Receipt, Verdict};
use crate::model::run::{Trigger, TriggerKind};
use crate::model::{PipelineId, ReceiptId, RunId};
use crate::runs::{StartRun, Started};
use crate::store::{MessageStored, StoreError};
use pocketci_proto::api::Handshakes;
use std::sync::Arc;
use std::time::Duration;

/// Tries to store a run of a pipeline that keeps changing meanwhile.
const MAX_DECISIONS: usize = 5;

/// What is the same however often it is decided about a request, and whether it is decided again.
#[derive(Clone, Copy)]
struct Ids {
    receipt: ReceiptId,
    run: RunId,
    again: bool,
}

/// How one decision ended.
enum Tried {
    /// Stored; `None` if the receiving point is gone.
    Done(Option<Received>),
    /// The pipeline is not what it was decided on any more; nothing was stored.
    Changed,
}

impl Intake {
    /// Decides on a complete request and stores what was decided; `None` if the receiving point is gone meanwhile.
    pub async fn receive(
        &self,
        address: Address,
        hook: Arc<Hook>,
        request: IncomingRequest,
    ) -> Result<Option<Received>, StoreError> {
        let mut kept = None;
        let received = self.decide(address, hook, &request, &mut kept).await?;
        let starts = matches!(
            received.as_ref().map(|received| &received.what),
            Some(What::Run { .. } | What::Accepted(_) | What::Message { .. })
        );
        if let Some(kept) = kept.filter(|_| !starts) {
            kept.discard(&**self.runs.store()).await;
        }
        Ok(received)
    }

    /// Decides until what it was decided on is still so when it is stored.
    async fn decide(
        &self,
        address: Address,
        mut hook: Arc<Hook>,
        request: &IncomingRequest,
        kept: &mut Option<Kept>,
    ) -> Result<Option<Received>, StoreError> {
        let mut ids = Ids {
            receipt: ReceiptId::new(),
            run: RunId::new(),
            again: false,
        };
        for _ in 0..MAX_DECISIONS {
            let mut verified = self::verified(&hook, request).await?;
            if verified.is_err() && !ids.again {
                // The secrets may have been rotated since the copy was taken: look again first.
                match self.find_again(address).await? {
                    Some(current) => hook = Arc::new(current),
                    None => return Ok(None),
                }
                verified = self::verified(&hook, request).await?;
            }
            if !hook.enabled {
                let reason = "the endpoint is disabled";
                verified = Err(Refusal::new(Verdict::Disabled, reason));
            }
            let sender = match verified {
                Ok(sender) => sender,
                Err(refusal) => {
                    let provider = hook
                        .binding
                        .kind
                        .unwrap_or_else(|| providers::guess(request));
                    let what = What::Refused(refusal.verdict);
                    return self
                        .refuse(&hook, request, provider, refusal, what)
                        .await
                        .map(Some);
                }
            };
            match self.try_once(&hook, request, sender, kept, ids).await? {
                Tried::Done(received) => return Ok(received),
                // Its secrets, its binding and its filter may be others now: all is asked again.
                Tried::Changed => match self.find_again(address).await? {
                    Some(current) => hook = Arc::new(current),
                    None => return Ok(None),
                },
            }
            ids.again = true;
        }
        Err(StoreError::Unavailable(
            "the pipeline changes faster than a webhook can be stored".into(),
        ))
    }

    /// What follows from a verified request, as the receiving point is now.
    async fn try_once(
        &self,
        hook: &Hook,
        request: &IncomingRequest,
        sender: Sender,
        kept: &mut Option<Kept>,
        ids: Ids,
    ) -> Result<Tried, StoreError> {
        if !ids.again
            && let Some(refused) = self.too_often(hook, &sender)
        {
            return Ok(Tried::Done(Some(refused)));
        }
        if self.learn(hook, &sender).await? {
            return Ok(Tried::Changed);
        }
        let provider = sender.provider;
        let mut receipt = Receipt {
            id: ids.receipt,
            ..verified_receipt(hook, request, sender)
        };
        if hook.settings.handshake != Some(Handshakes::Pipeline)
            && let Some(handshake) = providers::handshake(provider, request)
        {
            let refusal = Refusal::new(Verdict::Handshake, "");
            let what = What::Handshake(handshake);
            let recorded = self.record(hook, receipt, refusal, what).await?;
            return Ok(Tried::Done(Some(recorded)));
        }
        if kept.is_none() {
            match Kept::of(&**self.runs.store(), request).await {
                Ok(new) => *kept = Some(new),
                Err(KeepError::Store(error)) => return Err(error),
                Err(KeepError::Multipart(fault)) => {
                    let reason = "the multipart body cannot be read";
                    let refusal = Refusal::new(Verdict::Malformed, reason);
                    let what = What::Malformed(fault);
                    let recorded = self.record(hook, receipt, refusal, what).await?;
                    return Ok(Tried::Done(Some(recorded)));
                }
            }
        }
        if let Some(kept) = kept {
            kept.tell(&mut receipt);
        }
        if let Some(filter) = &hook.settings.filter
            && let Err(reason) = passes(&self.runs, filter, &receipt).await?
        {
            let refusal = Refusal::new(Verdict::Filtered, reason);
            return self.turn_away(hook, receipt, refusal).await;
        }
        let within = hook.reply_within(provider, self.reply_within);
        match hook.target.clone() {
            Target::Pipeline(id) => self.start_run(hook, id, receipt, within, ids).await,
            Target::Event(event) => {
                let received = self.spread(hook, event, receipt, within).await?;
                Ok(Tried::Done(Some(received)))
            }
        }
    }

    async fn turn_away(
        &self,
        hook: &Hook,
        receipt: Receipt,
        refusal: Refusal,
    ) -> Result<Tried, StoreError> {
        let what = What::Refused(refusal.verdict);
        let recorded = self.record(hook, receipt, refusal, what).await?;
        Ok(Tried::Done(Some(recorded)))
    }

    async fn start_run(
        &self,
        hook: &Hook,
        id: PipelineId,
        mut receipt: Receipt,
        within: Duration,
        ids: Ids,
    ) -> Result<Tried, StoreError> {
        let found = match ids.again {
            true => self.runs.reload_pipeline(id).await?,
            false => self.runs.pipeline(id).await?,
        };
        let Some(pipeline) = found else {
            return Ok(Tried::Done(None));
        };
        let verified_by_another = hook.version.is_some_and(|seen| seen != pipeline.version);
        if verified_by_another || (pipeline.paused && !ids.again) {
            return Ok(Tried::Changed);
        }
        if let Some(refusal) = self.unwanted(hook, &pipeline, &receipt).await? {
            return self.turn_away(hook, receipt, refusal).await;
        }
        // Nobody waits for the pipeline where it may not answer, or does not run.
        let at_once = (pipeline.paused || within.is_zero()).then(|| Accepted {
            receipt_id: receipt.id,
            delivery_id: receipt.delivery_id.clone(),
            run_id: ids.run,
            pipeline_id: id,
        });
        receipt.answer = at_once.as_ref().map(|told| told.answer(&receipt));
        let started = self
            .runs
            .start(StartRun {
                trigger: Trigger {
                    anonymous: is_anonymous(&receipt, &pipeline),
                    ..Trigger::new(TriggerKind::Webhook)
                },
                reply_within: at_once.is_none().then_some(within),
                may_wait: true,
                is_answered: at_once.is_some(),
                pipeline,
                receipt: Some(receipt.clone()),
                id: Some(ids.run),
                rerun_of: None,
                dedup: dedup::key(&self.runs, hook, &receipt).await?,
            })
            .await?;
        // That of what follows instead is noted when it is given.
        receipt.answer = None;
        let refusal = match started {
            Started::Stored { run_id, wait } => {
                return Ok(Tried::Done(Some(Received {
                    receipt_id: receipt.id,
                    delivery_id: receipt.delivery_id,
                    what: match at_once {
                        Some(accepted) => What::Accepted(accepted),
                        None => What::Run {
                            run_id,
                            pipeline_id: id,
                            wait,
                        },
                    },
                })));
            }
            Started::Stale => return Ok(Tried::Changed),
            Started::Duplicate(first) => {
                let refusal = Refusal::new(Verdict::Duplicate, "the delivery came before");
                let what = What::Duplicate(first);
                let recorded = self.record(hook, receipt, refusal, what).await?;
                return Ok(Tried::Done(Some(recorded)));
            }
            Started::Conflict(_) => Refusal::new(
                Verdict::Conflict,
                "the delivery came before with another body",
            ),
            Started::QueueFull => Refusal::new(Verdict::QueueFull, "too many queued jobs"),
            // A webhook asks for no job and its body has just come, so only this is left: the program cannot be read.
            Started::Refused(_) => Refusal::new(Verdict::Paused, "the stored program has faults"),
        };
        self.turn_away(hook, receipt, refusal).await
    }

    /// Why the pipeline does not want the request, as far as the server can tell.
    async fn unwanted(
        &self,
        hook: &Hook,
        pipeline: &Arc<Pipeline>,
        receipt: &Receipt,
    ) -> Result<Option<Refusal>, StoreError> {
        if pipeline.paused && hook.settings.on_paused == Some(409) {
            let refusal = Refusal::new(Verdict::Paused, "the pipeline is paused");
            return Ok(Some(refusal));
        }
        if pipeline.content_type != ContentType::Yaml {
            return Ok(None);
        }
        let nobody = self.runs.is_filtered(pipeline, receipt).await?;
        Ok(nobody.then(|| Refusal::new(Verdict::Filtered, "no job is meant")))
    }

    /// Tells the listeners of an event.
    async fn spread(
        &self,
        hook: &Hook,
        event: String,
        receipt: Receipt,
        within: Duration,
    ) -> Result<Received, StoreError> {
        let targets = fanout::targets(&self.runs, &event, &receipt).await?;
        let unwanted = match targets.is_empty() {
            true => Some(Refusal::new(Verdict::Unrouted, "nobody listens")),
            false => targets
                .iter()
                .all(|target| target.state == TargetState::Filtered)
                .then(|| Refusal::new(Verdict::Filtered, "no listener's filter matches")),
        };
        if let Some(refusal) = unwanted {
            let what = What::Refused(refusal.verdict);
            return self.record(hook, receipt, refusal, what).await;
        }
        let key = dedup::key(&self.runs, hook, &receipt).await?;
        let stored = fanout::store(&self.runs, receipt.clone(), targets, key).await?;
        let targets = match stored {
            MessageStored::Done(targets) => targets,
            MessageStored::Duplicate(first) => {
                let refusal = Refusal::new(Verdict::Duplicate, "the delivery came before");
                return self
                    .record(hook, receipt, refusal, What::Duplicate(first))
                    .await;
            }
            MessageStored::Conflict(_) => {
                let reason = "the delivery came before with another body";
                let refusal = Refusal::new(Verdict::Conflict, reason);
                let what = What::Refused(refusal.verdict);
                return self.record(hook, receipt, refusal, what).await;
            }
            MessageStored::BodyGone => {
                let why = "a request's body was forgotten before it was stored";
                return Err(StoreError::Unavailable(why.into()));
            }
        };
        let mut listeners = Vec::with_capacity(targets.len());
        let mut waits = Vec::new();
        for (target, wait) in fanout::start(&self.runs, &receipt, targets, within).await {
            listeners.push((target.pipeline_id, target.run_id, target.state));
            waits.extend(wait);
        }
        Ok(Received {
            receipt_id: receipt.id,
            delivery_id: receipt.delivery_id,
            what: What::Message {
                event,
                listeners,
                waits,
            },
        })
    }
}

/// Checks the signature, away from the threads that serve if the body is on disk.
async fn verified(
    hook: &Arc<Hook>,
    request: &IncomingRequest,
) -> Result<Result<Sender, Refusal>, StoreError> {
    let (current, asked) = (hook.clone(), request.clone());
    let checked = request.body.look(move || verify(&current, &asked)).await?;
    if request.body.is_unreadable() {
        let why = "a request's body cannot be read back from the temporary folder";
        return Err(StoreError::Unavailable(why.into()));
    }
    Ok(checked)
}

fn verified_receipt(hook: &Hook, request: &IncomingRequest, sender: Sender) -> Receipt {
    Receipt {
        verified: sender.verified,
        secret_id: sender.secret_id,
        ..Intake::receipt(hook, request, sender.provider, sender.facts)
    }
}
