//! `pipeline`: the run as what was triggered, by whom, for which commit.

use super::facts::Facts;
use super::instant::iso_ms;
use super::project::NAMESPACE;
use super::trigger_parameters::TriggerParameters;
use super::vcs::Vcs;
use crate::model::RunId;
use crate::model::receipt::Receipt;
use crate::model::run::TriggerKind;
use crate::store::RunView;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

/// 2020-01-01T00:00:00Z in milliseconds since 1970: what numbers count from.
const NUMBERS_BEGIN_MS: i128 = 1_577_836_800_000;
/// Bits of a number that tell runs of one millisecond apart; with 41 bits of time a number stays below 2^53, which
/// JavaScript holds exactly.
const TELLING_BITS: u32 = 12;

/// One run, as CircleCI speaks of pipelines.
#[derive(Debug, Clone, Serialize)]
pub struct Pipeline {
    /// The run's id.
    pub id: Uuid,
    /// See [`number`].
    pub number: u64,
    /// When it was stored.
    pub created_at: String,
    /// What caused it.
    pub trigger: Trigger,
    /// More about a webhook of other providers than GitHub and Bitbucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_parameters: Option<TriggerParameters>,
    /// The commit, if the webhook tells of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcs: Option<Vcs>,
}

/// What caused a run.
#[derive(Debug, Clone, Serialize)]
pub struct Trigger {
    /// `webhook`, `gitlab`, `api`, `schedule`, `pipeline`, `version`…: an open list.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Who, if the webhook tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
}

/// Somebody at a provider.
#[derive(Debug, Clone, Serialize)]
pub struct Actor {
    /// UUIDv5 of provider and the provider's id of the person.
    pub id: Uuid,
}

impl Actor {
    /// The person that this provider knows under this id.
    pub fn of(provider: &str, id: &str) -> Self {
        let name = format!("actor:{provider}:{id}");
        Self {
            id: Uuid::new_v5(&NAMESPACE, name.as_bytes()),
        }
    }
}

impl Pipeline {
    /// Of this run and the webhook that started it.
    pub fn of(view: &RunView, receipt: Option<&Receipt>) -> Self {
        let run = &view.run;
        let facts = receipt.and_then(Facts::of);
        let actor = facts.as_ref().and_then(|facts| facts.actor.clone());
        Self {
            id: run.id.0,
            number: number(run.id, run.created_at),
            created_at: iso_ms(run.created_at),
            trigger: Trigger {
                kind: trigger_type(run.trigger.kind, receipt),
                actor,
            },
            trigger_parameters: receipt
                .and_then(|receipt| TriggerParameters::of(receipt, facts.as_ref())),
            vcs: facts.and_then(|facts| facts.vcs),
        }
    }
}

fn trigger_type(kind: TriggerKind, receipt: Option<&Receipt>) -> &'static str {
    match kind {
        // GitLab is the one provider that CircleCI's samples name here.
        TriggerKind::Webhook if receipt.is_some_and(|one| one.provider == "gitlab") => "gitlab",
        TriggerKind::Webhook => "webhook",
        TriggerKind::Manual => "api",
        TriggerKind::Schedule => "schedule",
        TriggerKind::Pipeline => "pipeline",
        TriggerKind::Version => "version",
        TriggerKind::Check => "check",
    }
}

/// A number that grows from run to run of a pipeline and stays the same for ever: the milliseconds from 2020 to the
/// run's creation, and twelve bits of its id. The store counts no runs, and counting them when an event is sent would
/// give the same run another number as soon as an older one is committed late.
pub fn number(run: RunId, created_at: OffsetDateTime) -> u64 {
    let millis = created_at.unix_timestamp_nanos().div_euclid(1_000_000);
    let millis = u64::try_from(millis - NUMBERS_BEGIN_MS).unwrap_or(0);
    let telling = run.0.as_u128() & ((1 << TELLING_BITS) - 1);
    (millis << TELLING_BITS) | u64::try_from(telling).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn numbers_grow_with_time_and_javascript_holds_them() {
        let run = RunId::new();
        let early = number(run, datetime!(2026-01-01 00:00 UTC));
        let late = number(RunId::new(), datetime!(2026-01-01 00:00:00.001 UTC));
        assert!(early < late);
        assert_eq!(early, number(run, datetime!(2026-01-01 00:00 UTC)));
        assert!(number(run, datetime!(2089-01-01 00:00 UTC)) < 1 << 53);
        assert_ne!(
            early,
            number(
                RunId(Uuid::from_u128(run.0.as_u128() ^ 1)),
                datetime!(2026-01-01 00:00 UTC)
            )
        );
    }
}
