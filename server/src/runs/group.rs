//! Concurrency groups: which one a run belongs to, and carrying out what is decided on a group.

use super::Runs;
use crate::model::PipelineId;
use crate::model::receipt::Receipt;
use crate::model::run::{CancelReason, Cancelled};
use crate::model::transition::Change;
use crate::store::Result;
use pocketci_pipeline::expression::{ExpressionCache, WebhookVars};
use pocketci_proto::api::ConcurrencySettings;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Longest name of a group, in bytes; a longer value is told apart by its hash.
const MAX_GROUP_BYTES: usize = 200;
/// The group of runs whose expression failed: they are kept apart from each other rather than let loose.
const FAILED: &str = "(the group's expression failed)";
/// Groups listed in one go by the tick.
const BATCH: i64 = 200;

impl Runs {
    /// The group of a run that `receipt` (if any) starts.
    pub(super) async fn group_of(
        &self,
        rule: &ConcurrencySettings,
        receipt: Option<&Receipt>,
    ) -> Result<String> {
        let Some(text) = rule.group.clone() else {
            return Ok(String::new());
        };
        let vars = match receipt {
            Some(receipt) => self.vars(receipt).await?,
            None => WebhookVars::default(),
        };
        let expressions = self.inner.expressions.clone();
        // Somebody's expression is no work for the threads that serve webhooks.
        let named = tokio::task::spawn_blocking(move || name(&expressions, &text, &vars)).await;
        Ok(named.unwrap_or_else(|_| FAILED.to_owned()))
    }

    /// Decides on a group and carries the decision out. May be repeated, by several servers at once.
    pub async fn settle_group(&self, pipeline_id: PipelineId, group: &str) -> Result<()> {
        let ruling = self.store().admit(pipeline_id, group).await?;
        for (run_id, by) in ruling.supersede {
            let wish = Cancelled {
                actor: format!("run {by}"),
                reason: CancelReason::Superseded,
            };
            self.store().submit(run_id, Change::Cancel(wish)).await?;
        }
        for (run_id, for_run) in ruling.skip {
            self.store()
                .submit(run_id, Change::Skip { for_run })
                .await?;
        }
        Ok(())
    }

    /// Settles every group in which something waits: what a server that died had begun. A group that cannot be settled
    /// does not keep the others waiting.
    pub async fn settle_groups(&self) -> Result<()> {
        let mut after = None;
        let mut failed = None;
        loop {
            let groups = self.store().held_groups(after, BATCH).await?;
            after = groups.last().cloned();
            for (pipeline_id, group) in groups {
                if let Err(error) = self.settle_group(pipeline_id, &group).await {
                    failed = Some(error);
                }
            }
            if after.is_none() {
                return failed.map_or(Ok(()), Err);
            }
        }
    }
}

fn name(expressions: &Arc<ExpressionCache>, text: &str, vars: &WebhookVars) -> String {
    let value = expressions
        .get(text)
        .and_then(|expression| expression.evaluate(vars));
    let name = match value {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => {
            tracing::debug!(%error, "a concurrency group's expression failed");
            return FAILED.to_owned();
        }
    };
    // PostgreSQL's text holds no NUL, and an index no long text.
    if name.len() <= MAX_GROUP_BYTES && !name.contains('\0') {
        return name;
    }
    format!("sha256:{}", hex::encode(Sha256::digest(name.as_bytes())))
}

impl Runs {
    /// What an expression may look at.
    pub(super) async fn vars(&self, receipt: &Receipt) -> Result<WebhookVars> {
        let body = self.body_for_expressions(receipt).await?;
        Ok(vars(receipt, &body))
    }
}

/// What an expression may look at, from a stored request.
fn vars(receipt: &Receipt, body: &[u8]) -> WebhookVars {
    let query = receipt.url.split_once('?').map_or("", |(_, query)| query);
    WebhookVars {
        provider: receipt.provider.clone(),
        event_type: receipt.event_type.clone(),
        method: receipt.method.clone(),
        headers: receipt
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_ascii_lowercase(),
                    String::from_utf8_lossy(value).into_owned(),
                )
            })
            .collect(),
        query: url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        body: String::from_utf8_lossy(body).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_by_the_value_and_long_ones_by_their_hash() {
        let expressions = Arc::new(ExpressionCache::default());
        let vars = |body: &str| WebhookVars {
            body: body.to_owned(),
            ..WebhookVars::default()
        };
        let named = |text: &str, body: &str| name(&expressions, text, &vars(body));
        assert_eq!(named("payload.ref", r#"{"ref":"main"}"#), "main");
        assert_eq!(named("payload.number", r#"{"number":7}"#), "7");
        assert_eq!(named("payload.none", "{}"), "null");
        assert_eq!(named("1 / 0", "{}"), FAILED);
        let long = format!(r#"{{"ref":"{}"}}"#, "x".repeat(300));
        let other = format!(r#"{{"ref":"{}y"}}"#, "x".repeat(300));
        assert!(named("payload.ref", &long).starts_with("sha256:"));
        assert_ne!(named("payload.ref", &long), named("payload.ref", &other));
    }
}
