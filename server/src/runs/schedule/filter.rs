//! Whether a webhook is meant for a job, and what it tells it: `webhook_trigger`, `triggers.webhook`.

use super::super::Runs;
use crate::model::pipeline::Pipeline;
use crate::model::receipt::Receipt;
use crate::model::run::{Trigger, TriggerKind};
use crate::model::{PipelineId, RunId};
use crate::store::{Result, Sighting};
use pocketci_pipeline::config::Job;
use pocketci_pipeline::expression::{ExpressionCache, WebhookVars};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long a key that was seen is remembered.
const SEEN_FOR: Duration = Duration::from_secs(7 * 86_400);

/// The job's `triggers` do not name webhooks.
pub const NOT_TRIGGERED: &str = "trigger_kind";
/// The job's filter said no.
pub const FILTERED: &str = "webhook_filter";
/// The job has seen this delivery before.
pub const DUPLICATE: &str = "webhook_duplicate";

/// Whether a job that was skipped for this reason counts as passed for those after it (seed 000).
pub fn lets_pass(reason: &str) -> bool {
    [NOT_TRIGGERED, FILTERED, DUPLICATE].contains(&reason)
}

/// A value, or why there is none.
pub type Evaluated = std::result::Result<Value, String>;

/// Why a job has nothing to do: a stable word, and one for people.
pub type Refusal = (&'static str, String);

/// A request that expressions may look at; its body, which may be large, is read when the first one does, once.
struct Looked<'a> {
    runs: &'a Runs,
    receipt: &'a Receipt,
    vars: OnceCell<WebhookVars>,
}

impl<'a> Looked<'a> {
    fn new(runs: &'a Runs, receipt: &'a Receipt) -> Self {
        Self {
            runs,
            receipt,
            vars: OnceCell::new(),
        }
    }

    async fn evaluate(&self, text: &str) -> Result<Evaluated> {
        let load = || self.runs.vars(self.receipt);
        let vars = self.vars.get_or_try_init(load).await?;
        Ok(self.runs.evaluate(text, vars).await)
    }
}

/// Whether what the job says of webhooks turns this one away.
async fn filters(looked: &Looked<'_>, job: &Job) -> Result<Option<Refusal>> {
    let filter = job.webhook_filter();
    if let Some(triggers) = &job.triggers
        && triggers.webhook.is_none()
        // A job that follows others is started by them.
        && triggers.passed.is_empty()
        && filter.is_none()
    {
        let message = "its triggers do not name webhooks".to_owned();
        return Ok(Some((NOT_TRIGGERED, message)));
    }
    let Some(filter) = filter else {
        return Ok(None);
    };
    let message = match looked.evaluate(filter).await? {
        Ok(Value::Bool(true)) => return Ok(None),
        Ok(Value::Bool(false)) => "its filter does not match the webhook".to_owned(),
        Ok(other) => {
            format!("its filter gives {other} for this webhook instead of true or false")
        }
        Err(error) => format!("its filter cannot be evaluated: {error}"),
    };
    Ok(Some((FILTERED, message)))
}

impl Runs {
    /// Whether the filters of all jobs turn the webhook away; asking changes nothing.
    pub async fn is_filtered(&self, pipeline: &Pipeline, receipt: &Receipt) -> Result<bool> {
        let Some(program) = self.program(pipeline.revision_id).await? else {
            return Ok(false);
        };
        let looked = Looked::new(self, receipt);
        for job in &program.config.jobs {
            if filters(&looked, job).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(!program.config.jobs.is_empty())
    }

    /// Whether the webhook that started the run is meant for the job; only a stored run may ask, for what it asks about
    /// was seen then. Asked again it says the same.
    pub(super) async fn refuses(
        &self,
        pipeline_id: PipelineId,
        run_id: RunId,
        receipt: &Receipt,
        job: &Job,
    ) -> Result<Option<Refusal>> {
        let looked = Looked::new(self, receipt);
        if let Some(refusal) = filters(&looked, job).await? {
            return Ok(Some(refusal));
        }
        let triggers = job.triggers.as_ref();
        let webhook = triggers.and_then(|triggers| triggers.webhook.as_ref());
        let key = webhook.map_or("", |webhook| webhook.dedup_key.as_str());
        // Whoever asks for it again means it, and so does a sender whose first delivery failed.
        let again = receipt.is_rerun() || receipt.redelivery_of.is_some();
        if key.is_empty() || again {
            return Ok(None);
        }
        // A key that cannot be had keeps nothing away.
        let key = match looked.evaluate(key).await? {
            Ok(Value::String(text)) if !text.is_empty() => text,
            Ok(Value::String(_) | Value::Null) | Err(_) => return Ok(None),
            Ok(other) => other.to_string(),
        };
        let mut hash = Sha256::new();
        hash.update(job.name.as_bytes());
        hash.update([0]);
        hash.update(key.as_bytes());
        let sighting = Sighting {
            pipeline_id,
            hash: hash.finalize().into(),
            run_id,
            call: 0,
        };
        let seen = self.store().seen_before(sighting, SEEN_FOR).await?;
        Ok(seen.then(|| {
            let message = "a webhook with the same dedup_key was seen before".to_owned();
            (DUPLICATE, message)
        }))
    }

    /// Whether what a run is started by is a webhook that the filters of all jobs turn away; asking changes nothing.
    pub async fn is_for_nobody(
        &self,
        pipeline: &Pipeline,
        trigger: &Trigger,
        receipt: Option<&Receipt>,
    ) -> Result<bool> {
        match receipt.filter(|_| trigger.kind == TriggerKind::Webhook) {
            Some(receipt) => self.is_filtered(pipeline, receipt).await,
            None => Ok(false),
        }
    }

    /// `triggers.webhook.params` as environment: an expression that fails is left out.
    pub async fn webhook_params(
        &self,
        receipt: &Receipt,
        job: &Job,
    ) -> Result<BTreeMap<String, String>> {
        let triggers = job.triggers.as_ref();
        let Some(webhook) = triggers.and_then(|triggers| triggers.webhook.as_ref()) else {
            return Ok(BTreeMap::new());
        };
        let vars = self.vars(receipt).await?;
        let mut params = BTreeMap::new();
        for (name, text) in &webhook.params {
            match self.evaluate(text, &vars).await {
                Ok(Value::Null) => {}
                Ok(Value::String(value)) => {
                    params.insert(name.clone(), value);
                }
                Ok(other) => {
                    params.insert(name.clone(), other.to_string());
                }
                Err(error) => {
                    tracing::debug!(job = %job.name, param = %name, %error, "a webhook param is left out");
                }
            }
        }
        Ok(params)
    }

    /// What an expression gives for a request, or why it gives nothing.
    pub async fn value_of(&self, text: &str, receipt: &Receipt) -> Result<Evaluated> {
        let vars = self.vars(receipt).await?;
        Ok(self.evaluate(text, &vars).await)
    }

    async fn evaluate(&self, text: &str, vars: &WebhookVars) -> Evaluated {
        let (expressions, text, vars) = (
            self.inner.expressions.clone(),
            text.to_owned(),
            vars.clone(),
        );
        // Somebody's expression is no work for the threads that serve webhooks.
        let evaluated =
            tokio::task::spawn_blocking(move || evaluate(&expressions, &text, &vars)).await;
        evaluated.unwrap_or_else(|_| Err("the evaluation failed".to_owned()))
    }
}

fn evaluate(expressions: &Arc<ExpressionCache>, text: &str, vars: &WebhookVars) -> Evaluated {
    expressions
        .get(text)
        .and_then(|expression| expression.evaluate(vars))
        .map_err(|error| error.to_string())
}
