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

/// What a subscription's receiver is not to be told back, and what signs.
pub(super) struct Opened {
    /// Active secrets, the current one first.
    pub(super) secrets: Vec<String>,
    /// Custom headers.
    pub(super) headers: Vec<(String, String)>,
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
        })
    }

    /// Every text that must not be kept.
    pub(super) fn hidden(&self) -> impl Iterator<Item = &str> {
        let values = self.headers.iter().map(|(_, value)| value.as_str());
        self.secrets.iter().map(String::as_str).chain(values)
    }
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
