//! What people say about a subscription, checked and sealed before it is stored.

mod rotate;
mod url;

pub use rotate::{MAX_OVERLAP, rotated};
pub use url::checked_url;

use crate::model::subscription::{
    DEFAULT_CONCURRENCY, EventName, MAX_CA_BYTES, MAX_CONCURRENCY, MAX_HEADER_BYTES, MAX_HEADERS,
    MAX_NAME_BYTES, MAX_RATE, MAX_SECRET_BYTES, MAX_WAIT, MAX_WAITS, SealedHeader, SealedKey,
    Subscription, SubscriptionTerms, header_place, secret_place,
};
use crate::model::vault::Vault;
use crate::model::{PipelineId, SubscriptionId};
use ::url::Url;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use pocketci_outside::client::Trust;
use pocketci_outside::guard::Guard;
use pocketci_outside::signature;
use pocketci_pipeline::expression::Expression;
use pocketci_proto::api::PutSubscription;
use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::Uuid;

/// How Standard Webhooks writes secrets: this, then Base64.
pub const STANDARD_PREFIX: &str = "whsec_";
/// Bytes of a key after [`STANDARD_PREFIX`], by Standard Webhooks.
const STANDARD_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Headers that the sender or the protocol sets.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    signature::PLAIN_SIGNATURE,
];
/// What headers of a delivery's own begin with.
const OWN_PREFIXES: &[&str] = &["circleci-", "webhook-"];
/// Digits of a secret's fingerprint.
const FINGERPRINT_DIGITS: usize = 12;

/// The terms cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TermsError(String);

fn refuse<T>(why: impl Into<String>) -> Result<T, TermsError> {
    Err(TermsError(why.into()))
}

/// A wish that was resolved: names of pipelines are ids.
pub struct Wanted<'a> {
    /// What was asked for.
    pub put: &'a PutSubscription,
    /// `put.pipeline`, found.
    pub pipeline: Option<Option<PipelineId>>,
    /// The name of a new subscription.
    pub name: &'a str,
}

/// Terms, and what is odd about them.
pub struct Agreed {
    /// To store.
    pub terms: SubscriptionTerms,
    /// For people.
    pub warnings: Vec<String>,
}

/// What `wanted` makes of what is stored (nothing for a new one), for the subscription of this id; `guard` is this
/// server's.
pub fn agreed(
    id: SubscriptionId,
    stored: Option<&Subscription>,
    wanted: &Wanted<'_>,
    vault: &Vault,
    guard: &Guard,
) -> Result<Agreed, TermsError> {
    let put = wanted.put;
    let mut terms = match stored {
        Some(stored) => stored.terms.clone(),
        None => blank(wanted.name),
    };
    if let Some(name) = &put.name {
        terms.name.clone_from(name);
    }
    check_name(&terms.name)?;
    if let Some(url) = &put.url {
        terms.url.clone_from(url);
    }
    let mut warnings = checked_url(&terms.url, guard)?;
    if let Some(names) = &put.events {
        terms.events = events(names)?;
    }
    if terms.events.is_empty() {
        return refuse(
            "events is missing: say what the subscription is told, for example [\"workflow-completed\"]",
        );
    }
    if let Some(pipeline) = wanted.pipeline {
        terms.pipeline_id = pipeline;
    }
    if let Some(secret) = &put.secret {
        let sealed = secret.as_deref().map(|secret| sealed(id, secret, vault));
        terms.secrets = sealed.transpose()?.into_iter().collect();
    }
    merge_headers(id, &mut terms, put, vault)?;
    check_clear(&terms, guard)?;
    merge_tls(&mut terms, put)?;
    merge_pace(&mut terms, put)?;
    if let Some(filter) = &put.filter {
        terms.filter = filter.as_deref().map(checked_filter).transpose()?;
    }
    warnings.extend(oddities(&terms));
    Ok(Agreed { terms, warnings })
}

fn blank(name: &str) -> SubscriptionTerms {
    SubscriptionTerms {
        name: name.to_owned(),
        url: String::new(),
        events: Vec::new(),
        pipeline_id: None,
        secrets: Vec::new(),
        verify_tls: true,
        ca_pem: None,
        headers: Vec::new(),
        filter: None,
        concurrency: DEFAULT_CONCURRENCY,
        rate_per_second: None,
        schedule: None,
        ordered: false,
    }
}

fn check_name(name: &str) -> Result<(), TermsError> {
    let odd = name.is_empty() || name.len() > MAX_NAME_BYTES || name.trim() != name;
    if odd || name.chars().any(char::is_control) || Uuid::parse_str(name).is_ok() {
        return refuse(format!(
            "{name:?} cannot be a subscription's name: use 1 to {MAX_NAME_BYTES} printable characters without space around \
             them, and no UUID"
        ));
    }
    Ok(())
}

/// Names of events, sorted and each once.
pub fn events(names: &[String]) -> Result<Vec<EventName>, TermsError> {
    let mut events = Vec::new();
    for name in names {
        match EventName::parse(name).filter(|event| event.is_subscribable()) {
            Some(event) => events.push(event),
            None => {
                let known: Vec<&str> = EventName::ALL
                    .iter()
                    .filter(|event| event.is_subscribable())
                    .map(|event| event.as_str())
                    .collect();
                return refuse(format!(
                    "there is no event {name:?} to subscribe to; there are {}",
                    known.join(", ")
                ));
            }
        }
    }
    events.sort_unstable();
    events.dedup();
    if events.is_empty() {
        return refuse(
            "events is empty: name at least one; to be told nothing, disable the subscription",
        );
    }
    Ok(events)
}

/// A secret as it is stored: it signs from now on, without end.
fn sealed(id: SubscriptionId, secret: &str, vault: &Vault) -> Result<SealedKey, TermsError> {
    if secret.is_empty() {
        return refuse(
            "the secret is empty: leave it out to keep the stored one, or give null to sign nothing",
        );
    }
    if secret.len() > MAX_SECRET_BYTES {
        return refuse(format!(
            "the secret has {} bytes; at most {MAX_SECRET_BYTES} are possible",
            secret.len()
        ));
    }
    // Whoever sends back what was shown means the secret that is stored.
    if secret.bytes().all(|byte| byte == b'*') {
        return refuse(
            "the secret is what is shown instead of one: leave it out to keep the stored one",
        );
    }
    if let Err(why) = signature::check_secret(secret) {
        return refuse(why);
    }
    if let Some(encoded) = secret.strip_prefix(STANDARD_PREFIX) {
        let bytes = STANDARD.decode(encoded).ok().map(|key| key.len());
        if !bytes.is_some_and(|bytes| STANDARD_KEY_BYTES.contains(&bytes)) {
            return refuse(format!(
                "a secret that begins with {STANDARD_PREFIX} goes on with the Base64 of 24 to 64 bytes; leave the secret to \
                 `rotate`, or give one that begins otherwise"
            ));
        }
    }
    Ok(SealedKey {
        id: fingerprint(secret),
        sealed: vault.seal(&secret_place(id), secret.as_bytes()),
        not_after: None,
    })
}

fn fingerprint(secret: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(secret.as_bytes()));
    digits.truncate(FINGERPRINT_DIGITS);
    digits
}

fn merge_headers(
    id: SubscriptionId,
    terms: &mut SubscriptionTerms,
    put: &PutSubscription,
    vault: &Vault,
) -> Result<(), TermsError> {
    for (name, value) in &put.headers {
        terms
            .headers
            .retain(|known| !known.name.eq_ignore_ascii_case(name));
        let Some(value) = value else { continue };
        check_header(name, value)?;
        terms.headers.push(SealedHeader {
            name: name.clone(),
            sealed: vault.seal(&header_place(id, name), value.as_bytes()),
        });
    }
    terms.headers.sort_by(|a, b| a.name.cmp(&b.name));
    if terms.headers.len() > MAX_HEADERS {
        return refuse(format!(
            "there are {} headers; at most {MAX_HEADERS} are possible",
            terms.headers.len()
        ));
    }
    Ok(())
}

/// Headers are secrets mostly: `Authorization`.
fn check_clear(terms: &SubscriptionTerms, guard: &Guard) -> Result<(), TermsError> {
    let url = Url::parse(&terms.url).ok();
    let in_clear = url.is_some_and(|url| url.scheme() == "http" && !guard.trusts_plain(&url));
    if in_clear && !terms.headers.is_empty() {
        return refuse(
            "headers cannot go to an http URL, where anybody on the way could read them: use https, or let the server's \
             operator allow the receiver's host with --delivery-allow",
        );
    }
    Ok(())
}

fn check_header(name: &str, value: &str) -> Result<(), TermsError> {
    let Ok(parsed) = HeaderName::try_from(name) else {
        return refuse(format!("{name:?} is not the name of a header"));
    };
    let own = OWN_HEADERS.contains(&parsed.as_str())
        || OWN_PREFIXES
            .iter()
            .any(|prefix| parsed.as_str().starts_with(prefix));
    if own {
        return refuse(format!(
            "the header {name} is the delivery's own and cannot be set"
        ));
    }
    if value.len() > MAX_HEADER_BYTES || HeaderValue::try_from(value).is_err() {
        return refuse(format!(
            "the value of the header {name} must have at most {MAX_HEADER_BYTES} printable characters"
        ));
    }
    Ok(())
}

fn merge_tls(terms: &mut SubscriptionTerms, put: &PutSubscription) -> Result<(), TermsError> {
    if let Some(verify) = put.verify_tls {
        terms.verify_tls = verify;
    }
    if let Some(pem) = &put.ca_pem {
        terms.ca_pem.clone_from(pem);
    }
    if let Some(pem) = &terms.ca_pem {
        if pem.len() > MAX_CA_BYTES {
            return refuse(format!(
                "ca_pem has {} bytes; at most {MAX_CA_BYTES} are possible",
                pem.len()
            ));
        }
        if let Err(why) = Trust::Only(pem.clone()).check() {
            return refuse(format!("ca_pem: {why}"));
        }
    }
    if !terms.verify_tls && !terms.headers.is_empty() {
        return refuse(
            "verify_tls cannot be false beside headers, which anybody on the way could read then; give the receiver's CA with \
             ca_pem instead",
        );
    }
    Ok(())
}

fn merge_pace(terms: &mut SubscriptionTerms, put: &PutSubscription) -> Result<(), TermsError> {
    if let Some(concurrency) = put.concurrency {
        terms.concurrency = concurrency.unwrap_or(DEFAULT_CONCURRENCY);
    }
    if !(1..=MAX_CONCURRENCY).contains(&terms.concurrency) {
        return refuse(format!(
            "concurrency {} is not in 1..={MAX_CONCURRENCY}",
            terms.concurrency
        ));
    }
    if let Some(rate) = put.rate_per_second {
        if rate.is_some_and(|rate| !(rate > 0.0 && rate <= MAX_RATE)) {
            return refuse(format!(
                "rate_per_second must be above 0 and at most {MAX_RATE}"
            ));
        }
        terms.rate_per_second = rate;
    }
    if let Some(ordered) = put.ordered {
        terms.ordered = ordered;
    }
    if let Some(schedule) = &put.schedule_seconds {
        terms.schedule = schedule.as_deref().map(waits).transpose()?;
    }
    Ok(())
}

fn waits(seconds: &[f64]) -> Result<Vec<Duration>, TermsError> {
    let wait = |seconds: &f64| {
        Duration::try_from_secs_f64(*seconds)
            .ok()
            .filter(|wait| *wait <= MAX_WAIT)
    };
    let waits: Option<Vec<Duration>> = seconds.iter().map(wait).collect();
    match waits {
        Some(waits) if waits.len() <= MAX_WAITS => Ok(waits),
        _ => refuse(format!(
            "schedule_seconds must have at most {MAX_WAITS} waits of 0 to {} seconds",
            MAX_WAIT.as_secs()
        )),
    }
}

fn checked_filter(text: &str) -> Result<String, TermsError> {
    match Expression::compile(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => refuse(format!("filter: {error}")),
    }
}

fn oddities(terms: &SubscriptionTerms) -> Vec<String> {
    let mut odd = Vec::new();
    if !terms.verify_tls {
        odd.push("the receiver's certificate is not verified: anybody on the way may read and answer; only for tests".to_owned());
    }
    if terms.secrets.is_empty() {
        odd.push("nothing is signed: the receiver cannot tell who calls; set a secret".to_owned());
    }
    odd
}

#[cfg(test)]
mod tests;
