//! Webhooks in: provider found, signature verified, then a receipt and a run in one transaction, before any answer.

pub mod admit;
mod body;
mod keep;
pub mod providers;
mod request;

pub use body::{Body, Collector, SpillError};
pub use keep::{KeepError, Kept};
pub use request::IncomingRequest;

use crate::model::pipeline::Pipeline;
use crate::model::receipt::{Receipt, Verdict};
use crate::model::run::{Trigger, TriggerKind};
use crate::model::{PipelineId, RunId};
use crate::runs::{ReplyWait, Runs, StartRun, Started};
use crate::store::StoreError;
use pocketci_pipeline::multipart::Fault;
use providers::{Binding, Rejected};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Tries to store a run of a pipeline that keeps changing meanwhile.
const MAX_DECISIONS: usize = 5;

/// What becomes of a webhook.
pub enum Received {
    /// The run is stored.
    Accepted {
        /// The run.
        run_id: RunId,
        /// Resolves with the reply.
        wait: Option<ReplyWait>,
    },
    /// No such pipeline.
    Unknown,
    /// Signature missing, wrong or stale.
    Unauthorized,
    /// The pipeline is paused.
    Paused,
    /// The queue is full.
    QueueFull,
    /// The body is not what its `Content-Type` says.
    Malformed(Fault),
}

/// Takes webhooks for all pipelines; clones are cheap.
#[derive(Clone)]
pub struct Intake {
    runs: Runs,
    reply_within: Duration,
}

impl Intake {
    /// Callers wait at most `reply_within` for `http.respond`.
    pub fn new(runs: Runs, reply_within: Duration) -> Self {
        Self { runs, reply_within }
    }

    /// Decides on a request and stores what was decided.
    pub async fn receive(
        &self,
        id: PipelineId,
        request: IncomingRequest,
    ) -> Result<Received, StoreError> {
        let Some(mut pipeline) = self.runs.pipeline(id).await? else {
            return Ok(Received::Unknown);
        };
        let mut fresh = false;
        let mut kept: Option<Kept> = None;
        for _ in 0..MAX_DECISIONS {
            let (current, asked) = (pipeline.clone(), request.clone());
            let deciding = request.body.look(move || decide(&current, &asked));
            let decided = deciding.await?;
            if request.body.is_unreadable() {
                let why = "a request's body cannot be read back from the temporary folder";
                return Err(StoreError::Unavailable(why.into()));
            }
            // What refuses may have changed since the copy was taken (secrets rotated, unpaused): look again first.
            if decided.is_err() && !fresh {
                match self.runs.reload_pipeline(id).await? {
                    Some(current) => pipeline = current,
                    None => return Ok(Received::Unknown),
                }
                fresh = true;
                continue;
            }
            if let Err(refusal) = decided {
                return self.refuse(&pipeline, request, refusal).await;
            }
            let keeping = match &kept {
                Some(kept) => kept.clone(),
                None => match Kept::of(&**self.runs.store(), &request).await {
                    Ok(kept) => kept,
                    Err(KeepError::Store(error)) => return Err(error),
                    Err(KeepError::Multipart(fault)) => {
                        let verdict = Verdict::Malformed;
                        let reason = "the multipart body cannot be read";
                        let refusal = Refusal { verdict, reason };
                        self.refuse(&pipeline, request, refusal).await?;
                        return Ok(Received::Malformed(fault));
                    }
                },
            };
            let keeping = kept.insert(keeping);
            match self.start(&pipeline, &request, keeping).await? {
                Started::Stored { run_id, wait } => return Ok(Received::Accepted { run_id, wait }),
                Started::QueueFull => {
                    let refusal = Refusal {
                        verdict: Verdict::QueueFull,
                        reason: "too many queued jobs",
                    };
                    return self.refuse(&pipeline, request, refusal).await;
                }
                // A webhook asks for no job, so only this is left: the program cannot be read.
                Started::Refused(_) => {
                    let refusal = Refusal {
                        verdict: Verdict::Paused,
                        reason: "the stored program has faults",
                    };
                    return self.refuse(&pipeline, request, refusal).await;
                }
                Started::Stale | Started::Duplicate(_) | Started::Conflict(_) => {
                    match self.runs.reload_pipeline(id).await? {
                        Some(current) => pipeline = current,
                        None => return Ok(Received::Unknown),
                    }
                }
            }
        }
        Err(StoreError::Unavailable(
            "the pipeline changes faster than a webhook can be stored".into(),
        ))
    }

    async fn start(
        &self,
        pipeline: &Arc<Pipeline>,
        request: &IncomingRequest,
        kept: &Kept,
    ) -> Result<Started, StoreError> {
        let mut receipt = request.receipt(pipeline.id, Verdict::Accepted, "");
        kept.tell(&mut receipt);
        self.runs
            .start(StartRun {
                pipeline: pipeline.clone(),
                trigger: Trigger::new(TriggerKind::Webhook),
                receipt: Some(receipt),
                reply_within: Some(self.reply_within),
                id: None,
                rerun_of: None,
                dedup: None,
            })
            .await
    }

    async fn refuse(
        &self,
        pipeline: &Pipeline,
        request: IncomingRequest,
        refusal: Refusal,
    ) -> Result<Received, StoreError> {
        tracing::info!(
            pipeline = %pipeline.name,
            provider = providers::guess(&request).as_str(),
            reason = refusal.reason,
            "webhook refused"
        );
        let mut receipt = request.receipt(pipeline.id, refusal.verdict, refusal.reason);
        // Anyone can send these: length and digest are kept, not the bytes.
        receipt.body = bytes::Bytes::new();
        receipt.body_place = crate::model::receipt::BodyPlace::None;
        self.runs.store().record_refusal(receipt).await?;
        Ok(match refusal.verdict {
            Verdict::Unauthorized => Received::Unauthorized,
            Verdict::Paused => Received::Paused,
            _ => Received::QueueFull,
        })
    }
}

struct Refusal {
    verdict: Verdict,
    /// For the operator; the caller is not told which check failed.
    reason: &'static str,
}

fn decide(pipeline: &Pipeline, request: &IncomingRequest) -> Result<(), Refusal> {
    providers::verify(
        &Binding::default(),
        request,
        &pipeline.webhook_secrets,
        OffsetDateTime::now_utc().unix_timestamp(),
    )
    .map_err(|Rejected(reason)| Refusal {
        verdict: Verdict::Unauthorized,
        reason,
    })?;
    if pipeline.paused {
        return Err(Refusal {
            verdict: Verdict::Paused,
            reason: "the pipeline is paused",
        });
    }
    Ok(())
}

/// A receipt of a webhook that a user pretends (a manual trigger): detected, not verified.
pub fn simulated(pipeline: &Pipeline, request: &IncomingRequest) -> Receipt {
    request.receipt(pipeline.id, Verdict::Accepted, "simulated")
}
