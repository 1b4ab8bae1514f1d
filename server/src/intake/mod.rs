//! Webhooks in: the receiving point found, the request checked, then a receipt and what follows from it in one
//! transaction, before any answer. Every request to a known receiving point leaves a receipt.

pub mod accepted;
pub mod admit;
mod body;
mod decide;
mod dedup;
pub mod fanout;
mod find;
pub mod hook;
mod keep;
mod learn;
pub mod providers;
mod rate;
pub mod redact;
mod request;
mod start;
mod strangers;

pub use body::{Body, Collector, SpillError};
pub use find::Address;
pub use hook::Hook;
pub use keep::{KeepError, Kept};
pub use request::IncomingRequest;

use crate::model::dedup::First;
use crate::model::endpoint::Target;
use crate::model::fanout::TargetState;
use crate::model::pipeline::Pipeline;
use crate::model::receipt::{Answer, BodyPlace, Receipt, Verdict};
use crate::model::run::Outcome;
use crate::model::{PipelineId, ReceiptId, RunId};
use crate::runs::{ReplyWait, Runs};
use crate::store::StoreError;
use accepted::Accepted;
use decide::{Refusal, Sender};
use find::Endpoints;
use http::Method;
use pocketci_pipeline::multipart::Fault;
use providers::{Binding, Facts, Handshake, ProviderKind};
use rate::Rates;
use std::sync::Arc;
use std::time::{Duration, Instant};
use strangers::{Later, RECEIPTS_PER_MINUTE, shorten};

/// What becomes of a request to a known receiving point.
pub struct Received {
    /// Its receipt, to which the answer belongs.
    pub receipt_id: ReceiptId,
    /// The provider's id of the delivery.
    pub delivery_id: Option<String>,
    /// What follows.
    pub what: What,
}

/// See [`Received::what`].
pub enum What {
    /// A run is stored.
    Run {
        /// The run.
        run_id: RunId,
        /// Of which pipeline.
        pipeline_id: PipelineId,
        /// Resolves with the reply.
        wait: Option<ReplyWait>,
    },
    /// A run is stored for which nobody waits; its receipt has the answer already.
    Accepted(Accepted),
    /// A message is stored.
    Message {
        /// Of which event.
        event: String,
        /// What became of it for each listener.
        listeners: Vec<(PipelineId, RunId, TargetState)>,
        /// Resolve with the listeners' replies.
        waits: Vec<ReplyWait>,
    },
    /// It came before.
    Duplicate(First),
    /// The sender asked whether somebody is there.
    Handshake(Handshake),
    /// It starts nothing.
    Refused(Verdict),
    /// The body is not what its `Content-Type` says.
    Malformed(Fault),
    /// A method that only looks (HEAD, OPTIONS), or that starts nothing here; those that do.
    Method {
        /// What the caller used.
        used: Method,
        /// What starts something; `None` for any.
        allowed: Option<Vec<Method>>,
    },
    /// It comes too often; how long until the next one.
    TooOften(Duration),
    /// The same without a receipt: there are enough of its kind, or it is written without being waited for.
    Unrecorded(Box<What>),
}

impl Received {
    /// Whether there is a receipt which the answer can be noted in.
    pub fn is_recorded(&self) -> bool {
        !matches!(self.what, What::Unrecorded(_))
    }
}

/// Takes webhooks for all pipelines and endpoints; clones are cheap.
#[derive(Clone)]
pub struct Intake {
    runs: Runs,
    reply_within: Duration,
    endpoints: Arc<Endpoints>,
    /// Of requests that may start something.
    rates: Arc<Rates>,
    /// Of receipts of those that may not: strangers cannot use up what others need.
    strangers: Arc<Rates>,
    later: Arc<Later>,
}

impl Intake {
    /// Callers wait at most `reply_within` for `http.respond`.
    pub fn new(runs: Runs, reply_within: Duration) -> Self {
        Self {
            runs,
            reply_within,
            endpoints: Arc::default(),
            rates: Arc::default(),
            strangers: Arc::default(),
            later: Arc::default(),
        }
    }

    /// Decides on what is known before the body is read; `None` if the body is wanted.
    pub async fn receive_head(
        &self,
        hook: &Hook,
        head: &IncomingRequest,
    ) -> Result<Option<Received>, StoreError> {
        let provider = hook.binding.kind.unwrap_or_else(|| providers::guess(head));
        if !hook.enabled {
            let refusal = Refusal::new(Verdict::Disabled, "the endpoint is disabled");
            return Ok(Some(self.refuse_unseen(hook, head, provider, refusal)));
        }
        let allowed = hook.methods(provider);
        let looks = matches!(
            head.method,
            Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT
        );
        let starts = allowed
            .as_ref()
            .is_none_or(|methods| methods.contains(&head.method));
        if looks || !starts {
            let what = What::Method {
                used: head.method.clone(),
                allowed,
            };
            let refusal = Refusal::new(Verdict::Method, "the method starts nothing");
            let refused = self.refuse(hook, head, provider, refusal, what).await;
            return refused.map(Some);
        }
        Ok(None)
    }

    /// Whether a request that passed comes more often than its receiving point allows: no receipt is written then.
    fn too_often(&self, hook: &Hook, sender: &Sender) -> Option<Received> {
        let limit = hook.settings.rate_per_minute?;
        let wait = self.rates.take(hook.id, limit, Instant::now()).err()?;
        Some(Received {
            receipt_id: ReceiptId::new(),
            delivery_id: sender.facts.delivery_id.clone(),
            what: What::Unrecorded(Box::new(What::TooOften(wait))),
        })
    }

    /// Records a request whose body was not taken, and why.
    pub async fn not_taken(
        &self,
        hook: &Hook,
        head: &IncomingRequest,
        verdict: Verdict,
        why: &str,
    ) -> Result<Received, StoreError> {
        let provider = hook.binding.kind.unwrap_or_else(|| providers::guess(head));
        let what = What::Refused(verdict);
        self.refuse(hook, head, provider, Refusal::new(verdict, why), what)
            .await
    }

    /// What was answered to a request, for its receipt; nobody waits for it.
    pub fn answered(&self, receipt_id: ReceiptId, answer: Answer) {
        self.runs.store().answered(receipt_id, answer);
    }

    /// How a run ended, if it has.
    pub async fn outcome(&self, run_id: RunId) -> Result<Option<Outcome>, StoreError> {
        self.runs.store().outcome(run_id).await
    }

    /// The receipt of a request, filled in with what its hook says.
    fn receipt(
        hook: &Hook,
        request: &IncomingRequest,
        provider: ProviderKind,
        facts: Facts,
    ) -> Receipt {
        Receipt {
            pipeline_id: hook.pipeline_id(),
            endpoint_id: hook.endpoint_id,
            event_key: match &hook.target {
                Target::Event(event) => Some(event.clone()),
                Target::Pipeline(_) => None,
            },
            ..request.receipt(provider, facts)
        }
    }

    /// Turns a stranger away: nobody has signed the request, so its body is not looked at and little of it is kept.
    async fn refuse(
        &self,
        hook: &Hook,
        request: &IncomingRequest,
        provider: ProviderKind,
        refusal: Refusal,
        what: What,
    ) -> Result<Received, StoreError> {
        let receipt = Self::strangers_receipt(hook, request, provider);
        let now = Instant::now();
        if let Err(wait) = self.strangers.take(hook.id, RECEIPTS_PER_MINUTE, now) {
            tracing::debug!(
                hook = %hook.name,
                verdict = refusal.verdict.as_str(),
                reason = refusal.reason,
                next_in_s = wait.as_secs(),
                "webhook starts nothing and leaves no receipt"
            );
            return Ok(Received {
                receipt_id: receipt.id,
                delivery_id: receipt.delivery_id,
                what: What::Unrecorded(Box::new(what)),
            });
        }
        self.record(hook, receipt, refusal, what).await
    }

    /// Turns a request to a disabled endpoint away, as fast as one to none.
    fn refuse_unseen(
        &self,
        hook: &Hook,
        request: &IncomingRequest,
        provider: ProviderKind,
        refusal: Refusal,
    ) -> Received {
        let mut receipt = Self::strangers_receipt(hook, request, provider);
        let received = Received {
            receipt_id: receipt.id,
            delivery_id: receipt.delivery_id.clone(),
            what: What::Unrecorded(Box::new(What::Refused(refusal.verdict))),
        };
        let now = Instant::now();
        if self
            .strangers
            .take(hook.id, RECEIPTS_PER_MINUTE, now)
            .is_ok()
        {
            receipt.verdict = refusal.verdict;
            receipt.reason = refusal.reason;
            receipt.answer = Some(Answer::new(404, b"pipeline_not_found", Duration::ZERO));
            self.later.record(self.runs.store().clone(), receipt);
        }
        received
    }

    fn strangers_receipt(
        hook: &Hook,
        request: &IncomingRequest,
        provider: ProviderKind,
    ) -> Receipt {
        let facts = providers::facts(&hook.binding, provider, &request.head());
        let mut receipt = Self::receipt(hook, request, provider, facts);
        receipt.body = bytes::Bytes::new();
        receipt.body_place = BodyPlace::None;
        shorten(&mut receipt);
        receipt
    }

    /// Stores the receipt of a request that starts nothing.
    async fn record(
        &self,
        hook: &Hook,
        mut receipt: Receipt,
        refusal: Refusal,
        what: What,
    ) -> Result<Received, StoreError> {
        tracing::info!(
            hook = %hook.name,
            provider = receipt.provider,
            verdict = refusal.verdict.as_str(),
            reason = refusal.reason,
            "webhook starts nothing"
        );
        receipt.verdict = refusal.verdict;
        receipt.reason = refusal.reason;
        if let What::Duplicate(first) = &what {
            receipt.redelivery_of = Some(first.receipt_id);
        }
        if !refusal.verdict.keeps_body(receipt.verified) {
            receipt.body = bytes::Bytes::new();
            receipt.body_place = BodyPlace::None;
        }
        let received = Received {
            receipt_id: receipt.id,
            delivery_id: receipt.delivery_id.clone(),
            what,
        };
        self.runs.store().record_refusal(receipt).await?;
        Ok(received)
    }
}

/// A receipt of a webhook that a user pretends (a manual trigger): detected, not verified.
pub fn simulated(pipeline: &Pipeline, request: &IncomingRequest) -> Receipt {
    let provider = providers::guess(request);
    let facts = providers::facts(&Binding::default(), provider, request);
    Receipt {
        pipeline_id: Some(pipeline.id),
        reason: "simulated".to_owned(),
        ..request.receipt(provider, facts)
    }
}
