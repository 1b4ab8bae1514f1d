//! A new signing secret without a moment in which receivers trust none of those that sign.
//!
//! At once: the new one is the current one, the old ones sign beside it (in `webhook-signature`) until the overlap ends.
//! In two steps, for receivers that know `circleci-signature` only, which has room for one: first the new one is staged (it
//! signs beside the current one), then, when receivers know it, it is made the current one.

use super::{TermsError, refuse, sealed};
use crate::model::subscription::{MAX_SECRETS, SealedKey, Subscription, SubscriptionTerms};
use crate::model::vault::Vault;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pocketci_proto::api::RotateSubscription;
use std::time::Duration;
use time::OffsetDateTime;

/// How long old secrets sign beside a new one unless said otherwise.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// Longest overlap.
pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of a secret that the server makes.
const KEY_BYTES: usize = 32;

/// The subscription's terms after this rotation, and the secret that was made for it.
pub fn rotated(
    stored: &Subscription,
    wish: &RotateSubscription,
    vault: &Vault,
    now: OffsetDateTime,
) -> Result<(SubscriptionTerms, Option<String>), TermsError> {
    let overlap = wish.overlap_seconds.map_or(OVERLAP, Duration::from_secs);
    if overlap > MAX_OVERLAP {
        return refuse(format!(
            "overlap_seconds must be at most {}",
            MAX_OVERLAP.as_secs()
        ));
    }
    let mut terms = stored.terms.clone();
    terms
        .secrets
        .retain(|key| key.not_after.is_none_or(|end| end > now));
    let keys = std::mem::take(&mut terms.secrets);
    let end = now + overlap;
    if wish.cut_over {
        if wish.stage || wish.secret.is_some() {
            return refuse(
                "cut_over makes the staged secret the current one: give neither stage nor secret beside it",
            );
        }
        terms.secrets = cut_over(keys, end, now)?;
        return Ok((terms, None));
    }
    let made = match &wish.secret {
        Some(_) => None,
        None => Some(fresh()?),
    };
    let secret = wish
        .secret
        .as_deref()
        .or(made.as_deref())
        .unwrap_or_default();
    let new = sealed(stored.id, secret, vault)?;
    if keys.iter().any(|key| key.id == new.id) {
        return refuse("this secret signs already; rotate to another one");
    }
    terms.secrets = match wish.stage {
        true => staged(keys, new)?,
        false => std::iter::once(new).chain(ended(keys, end, now)).collect(),
    };
    if terms.secrets.len() > MAX_SECRETS {
        return refuse(format!(
            "{} secrets would sign at the same time; at most {MAX_SECRETS} can: wait for the end of an overlap, or rotate with \
             overlap_seconds 0",
            terms.secrets.len()
        ));
    }
    Ok((terms, made))
}

fn fresh() -> Result<String, TermsError> {
    let mut key = [0; KEY_BYTES];
    if getrandom::fill(&mut key).is_err() {
        return refuse("the server's machine gives no random numbers; give a secret yourself");
    }
    Ok(format!(
        "{}{}",
        super::STANDARD_PREFIX,
        STANDARD.encode(key)
    ))
}

/// These keys, each with an end; none if it is now.
fn ended(keys: Vec<SealedKey>, end: OffsetDateTime, now: OffsetDateTime) -> Vec<SealedKey> {
    if end <= now {
        return Vec::new();
    }
    let with_end = |key: SealedKey| SealedKey {
        not_after: Some(key.not_after.map_or(end, |earlier| earlier.min(end))),
        ..key
    };
    keys.into_iter().map(with_end).collect()
}

fn staged(mut keys: Vec<SealedKey>, new: SealedKey) -> Result<Vec<SealedKey>, TermsError> {
    if keys.is_empty() {
        return refuse(
            "nothing is signed yet, so there is nothing to stage beside: rotate without stage",
        );
    }
    if staged_at(&keys).is_some() {
        return refuse("another secret is staged already: cut over to it first");
    }
    keys.insert(1, new);
    Ok(keys)
}

/// Where the one is that signs without end and is not the current one.
fn staged_at(keys: &[SealedKey]) -> Option<usize> {
    let later = keys.iter().skip(1).position(|key| key.not_after.is_none());
    later.map(|at| at + 1)
}

fn cut_over(
    mut keys: Vec<SealedKey>,
    end: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<Vec<SealedKey>, TermsError> {
    let Some(at) = staged_at(&keys) else {
        return refuse("no secret is staged: rotate with stage first");
    };
    let new = keys.remove(at);
    Ok(std::iter::once(new).chain(ended(keys, end, now)).collect())
}
