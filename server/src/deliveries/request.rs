//! A request as it is sent, and as it is kept: without secrets.

use super::payload::{Head, body};
use crate::model::delivery::{DueDelivery, TryRequest};
use crate::model::subscription::{Subscription, SubscriptionTerms, header_place, secret_place};
use crate::model::vault::{Vault, VaultError};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pocketci_outside::client::Trust;
use pocketci_outside::exchange::Request;
use pocketci_outside::signature::{self, Signed};
use sha2::{Digest, Sha256};
use std::time::Duration;
use time::OffsetDateTime;
use url::Url;

/// CircleCI's name of the event's name.
const EVENT_TYPE: &str = "circleci-event-type";
/// The try's number.
const ATTEMPT: &str = "webhook-attempt";
/// What stands where a secret was.
pub(super) const HIDDEN: &str = "***";

/// Shortest part of a URL's path that may be a secret; what is shorter is a word.
const MIN_SECRET_SEGMENT_BYTES: usize = 16;

/// What a subscription's receiver is not to be told back, and what signs.
pub(super) struct Opened {
    /// Active secrets, the current one first.
    pub(super) secrets: Vec<String>,
    /// Custom headers.
    pub(super) headers: Vec<(String, String)>,
    /// Parts of the URL that may be what lets one in.
    in_url: Vec<String>,
}

impl Opened {
    /// Opens what is sealed; secrets that have ended are left out.
    pub(super) fn of(
        subscription: &Subscription,
        vault: &Vault,
        now: OffsetDateTime,
    ) -> Result<Self, VaultError> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| VaultError::Damaged);
        let place = secret_place(subscription.id);
        let active = subscription.terms.secrets.iter();
        let active = active.filter(|key| key.not_after.is_none_or(|until| until > now));
        let secrets = active.map(|key| text(vault.open(&place, &key.sealed)?));
        let headers = subscription.terms.headers.iter().map(|header| {
            let place = header_place(subscription.id, &header.name);
            let value = text(vault.open(&place, &header.sealed)?)?;
            Ok((header.name.clone(), value))
        });
        Ok(Self {
            secrets: secrets.collect::<Result<_, VaultError>>()?,
            headers: headers.collect::<Result<_, VaultError>>()?,
            in_url: secret_parts(&subscription.terms.url),
        })
    }

    /// Every text that must not be kept.
    pub(super) fn hidden(&self) -> impl Iterator<Item = &str> {
        let values = self.headers.iter().map(|(_, value)| value.as_str());
        let in_url = self.in_url.iter().map(String::as_str);
        let secrets = self.secrets.iter().map(String::as_str);
        secrets.chain(values).chain(in_url)
    }
}

/// Values of a URL's query and long parts of its path, as they are written and decoded; the longest first, so that none
/// leaves a rest of another.
fn secret_parts(url: &str) -> Vec<String> {
    let Ok(url) = Url::parse(url) else {
        return Vec::new();
    };
    let written = url.query().unwrap_or_default().split('&');
    let written = written.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let mut parts: Vec<String> = written.map(str::to_owned).collect();
    parts.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    for segment in url.path_segments().into_iter().flatten() {
        if segment.len() >= MIN_SECRET_SEGMENT_BYTES {
            parts.push(segment.to_owned());
            // What a query gives another meaning has none in a path.
            let as_name = segment
                .replace('+', "%2B")
                .replace('&', "%26")
                .replace('=', "%3D");
            let decoded = url::form_urlencoded::parse(as_name.as_bytes());
            parts.extend(decoded.map(|(name, _)| name.into_owned()));
        }
    }
    parts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    parts.dedup();
    parts
}

/// The terms with everything sealed by the primary key; `None` if it is already.
///
/// # Errors
/// Something cannot be opened.
pub fn resealed(
    subscription: &Subscription,
    vault: &Vault,
) -> Result<Option<SubscriptionTerms>, VaultError> {
    let mut terms = subscription.terms.clone();
    let mut changed = false;
    let mut again = |place: String, sealed: &mut Vec<u8>| {
        if vault.is_old(sealed) {
            *sealed = vault.seal(&place, &vault.open(&place, sealed)?);
            changed = true;
        }
        Ok(())
    };
    for key in &mut terms.secrets {
        again(secret_place(subscription.id), &mut key.sealed)?;
    }
    for header in &mut terms.headers {
        again(
            header_place(subscription.id, &header.name),
            &mut header.sealed,
        )?;
    }
    Ok(changed.then_some(terms))
}

/// The body: the same bytes for every try.
pub(super) fn body_of(due: &DueDelivery, entities: &str) -> Bytes {
    let head = Head {
        id: due.event.id.0,
        kind: due.event.told_as().as_str(),
        happened_at: due.event.at,
        webhook_id: due.subscription.id.0,
        webhook_name: &due.delivery.receiver,
    };
    Bytes::from(body(&head, entities))
}

/// A request to send, and what is kept of it.
pub(super) struct Prepared {
    pub(super) request: Request,
    pub(super) kept: TryRequest,
}

/// Signs and addresses the next try of a delivery.
///
/// # Errors
/// The URL is none; for people.
pub(super) fn prepare(
    due: &DueDelivery,
    opened: &Opened,
    body: Bytes,
    now: OffsetDateTime,
    within: Duration,
) -> Result<Prepared, String> {
    let terms = &due.subscription.terms;
    let url = Url::parse(&terms.url).map_err(|error| format!("the URL is none: {error}"))?;
    let signed = Signed {
        id: &due.delivery.webhook_id,
        timestamp: now.unix_timestamp(),
        body: &body,
    };
    let mut lines = vec![
        (CONTENT_TYPE.as_str(), "application/json".to_owned()),
        (EVENT_TYPE, due.event.told_as().as_str().to_owned()),
        (ATTEMPT, (due.delivery.tries + 1).to_string()),
    ];
    lines.extend(signature::headers(signed, &opened.secrets));
    let mut headers = HeaderMap::new();
    let mut kept = Vec::new();
    for (name, value) in lines {
        if let Ok(header) = HeaderValue::from_str(&value) {
            headers.insert(name, header);
            kept.push((name.to_owned(), value));
        }
    }
    for (name, value) in &opened.headers {
        let line = (HeaderName::try_from(name), HeaderValue::from_str(value));
        if let (Ok(known), Ok(mut header)) = line {
            header.set_sensitive(true);
            headers.append(known, header);
            kept.push((name.clone(), HIDDEN.to_owned()));
        }
    }
    let trust = match (&terms.ca_pem, terms.verify_tls) {
        (_, false) => Trust::Anyone,
        (Some(pem), true) => Trust::Only(pem.clone()),
        (None, true) => Trust::System,
    };
    let kept = TryRequest {
        url: shown(&url),
        method: Method::POST.as_str().to_owned(),
        headers: kept,
        body_bytes: i64::try_from(body.len()).unwrap_or(i64::MAX),
        body_sha256: hex::encode(Sha256::digest(&body)),
    };
    let request = Request {
        url,
        method: Method::POST,
        headers,
        body,
        trust,
        within,
    };
    Ok(Prepared { request, kept })
}

/// Without what may be secret.
fn shown(url: &Url) -> String {
    let text = url.as_str();
    let end = text.find(['?', '#']).unwrap_or(text.len());
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_in_a_url_is_its_querys_values_and_long_parts_of_its_path() {
        let url = "https://a.example/hooks/T0123456789abcdef%2F?key=s3%2Bcret&empty=&bare1#frag";
        let parts = secret_parts(url);
        for secret in [
            "T0123456789abcdef%2F",
            "T0123456789abcdef/",
            "s3%2Bcret",
            "s3+cret",
            "bare1",
        ] {
            assert!(
                parts.iter().any(|part| part == secret),
                "{secret}: {parts:?}"
            );
        }
        assert!(!parts.iter().any(|part| part == "hooks"));
    }
}
