//! `webhook.send`: a signed call of another system, tried again while it may help, each try told to the server's log.
//!
//! Signatures are those of [`pocketci_outside::signature`]. The id is the same for every try.

use super::Outside;
use super::fetch::{headers, method, parse};
use crate::attempt::Backend;
use crate::attempt::secrets::Secrets;
use crate::js::host::{Answer, Failure};
use crate::js::request::SendWebhook;
use crate::log::redact::Redactor;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use pocketci_outside::again::retry_after;
use pocketci_outside::client::Trust;
use pocketci_outside::exchange::{ExchangeError, Exchanged, Request, exchange};
use pocketci_outside::signature::{self, Signed};
use pocketci_proto::agent as pb;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::time::Duration;
use time::OffsetDateTime;

/// For each try unless said otherwise.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait before the second try; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait between two tries, also where the receiver asks for more.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How long the program waits for the server to note a try. What takes longer is missing in the log, and nowhere else.
const NOTE_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of an answer's headers that are told to the log.
const MAX_NOTED_HEADER_BYTES: usize = 16 * 1024;
/// What stands where the author set a header.
const HIDDEN: &str = "***";
/// Headers that [`sign`] sets; shown, but for the secrets of the attempt in them.
const OURS: &[&str] = &[
    signature::ID,
    signature::TIMESTAMP,
    signature::STANDARD_SIGNATURE,
    signature::PLAIN_SIGNATURE,
];

/// Where tries are noted, and what must not be in it.
pub(crate) struct Log<'a> {
    /// The server's side.
    pub(crate) backend: &'a dyn Backend,
    /// Hides secrets.
    pub(crate) redactor: &'a Redactor,
}

/// Delivers, or says why not.
pub(crate) async fn send(
    outside: &Outside,
    secrets: &Secrets,
    log: Log<'_>,
    mut request: SendWebhook,
) -> Result<Answer, Failure> {
    let texts = request.headers.values_mut().chain(&mut request.secret);
    secrets
        .fill(texts)
        .await
        .map_err(|error| Failure::from(format!("webhook.send: {error}")))?;
    let failed = |error: String| Failure::from(format!("webhook.send: {error}"));
    let mut exchanged_with = prepare(&request).map_err(failed)?;
    let timeout = request.timeout.map_or(TRY_TIMEOUT, |time| time.0);
    exchanged_with.within = timeout.min(outside.config().timeout);
    let mut number = 0;
    loop {
        number += 1;
        sign(&mut exchanged_with, &request);
        let began = OffsetDateTime::now_utc();
        let exchanged = exchange(outside.clients(), &exchanged_with).await;
        let next = next(&exchanged, number, &request);
        let noted = Noted {
            log: &log,
            request: &exchanged_with,
            exchanged: &exchanged,
            id: &request.id,
            number,
            began,
            last: !matches!(next, Next::Again(_)),
        };
        match next {
            Next::Done(answer) => {
                noted.tell().await;
                return Ok(Answer::Json(answer));
            }
            Next::Failed(failure) => {
                noted.tell().await;
                return Err(failure);
            }
            Next::Again(wait) => {
                tokio::join!(noted.tell(), tokio::time::sleep(wait));
            }
        }
    }
}

/// What follows a try.
enum Next {
    Done(serde_json::Value),
    Failed(Failure),
    Again(Duration),
}

fn next(exchanged: &Exchanged, tries: u32, request: &SendWebhook) -> Next {
    let failed = |error: String| Next::Failed(Failure::from(format!("webhook.send: {error}")));
    let usual = FIRST_WAIT.saturating_mul(1 << (tries - 1).min(10));
    let usual = usual.mul_f64(0.75 + 0.5 * rand::random::<f64>());
    let wait = match (&exchanged.error, &exchanged.answer) {
        (Some(ExchangeError::Blocked(told)), _) => return failed(told.clone()),
        (Some(error), _) if tries > request.retries => {
            return failed(format!("{error} (tries: {tries})"));
        }
        (Some(_), _) | (None, None) => usual,
        (None, Some(answered)) => {
            let status = answered.status;
            let body = String::from_utf8_lossy(&answered.body);
            let answer =
                json!({ "id": request.id, "status": status, "attempts": tries, "body": body });
            if exchanged.is_success() {
                return Next::Done(answer);
            }
            let told = format!("the receiver answered with status {status}");
            if !matches!(status, 408 | 425 | 429 | 500..=599) {
                return Next::Failed(refused(told, answer));
            }
            if tries > request.retries {
                return Next::Failed(refused(format!("{told} after {tries} tries"), answer));
            }
            let asked = answered.header("retry-after");
            let asked = asked.and_then(|asked| retry_after(asked, OffsetDateTime::now_utc()));
            asked.unwrap_or(usual)
        }
    };
    Next::Again(wait.min(MAX_WAIT))
}

/// A try, to be told.
struct Noted<'a> {
    log: &'a Log<'a>,
    request: &'a Request,
    exchanged: &'a Exchanged,
    id: &'a str,
    number: u32,
    began: OffsetDateTime,
    last: bool,
}

impl Noted<'_> {
    /// A log that cannot be written is no reason to fail what was sent.
    async fn tell(&self) {
        let telling = self.log.backend.note_send(self.message());
        match tokio::time::timeout(NOTE_WITHIN, telling).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error, "a try of webhook.send was not noted"),
            Err(_) => tracing::debug!("a try of webhook.send was not noted in time"),
        }
    }

    fn message(&self) -> pb::NoteSend {
        let redact = |text: &str| self.log.redactor.text(text);
        let url = self.request.url.as_str();
        let url = &url[..url.find(['?', '#']).unwrap_or(url.len())];
        // What the author set may be anything; what `sign` sets is no secret, but the id in it is the author's.
        let headers = self.request.headers.iter().map(|(name, value)| {
            let shown = value
                .to_str()
                .ok()
                .filter(|_| OURS.contains(&name.as_str()));
            field(
                name.as_str(),
                &shown.map_or_else(|| HIDDEN.to_owned(), redact),
            )
        });
        let answer = self.exchanged.answer.as_ref();
        let mut room = MAX_NOTED_HEADER_BYTES;
        let answered = answer.iter().flat_map(|answer| &answer.headers);
        let response_headers = answered.map_while(|(name, value)| {
            room = room.checked_sub(name.len() + value.len())?;
            Some(field(name, &redact(value)))
        });
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let error = match (&self.exchanged.error, answer) {
            (Some(error), _) => error.to_string(),
            (None, Some(answer)) if !self.exchanged.is_success() => {
                format!("status {}", answer.status)
            }
            (None, _) => String::new(),
        };
        let millis = self.began.unix_timestamp_nanos() / 1_000_000;
        pb::NoteSend {
            webhook_id: self.id.to_owned(),
            number: self.number,
            began_at_unix_ms: u64::try_from(millis).unwrap_or(0),
            url: redact(url),
            method: self.request.method.to_string(),
            headers: headers.collect(),
            body_bytes: self.request.body.len() as u64,
            body_sha256: Sha256::digest(&self.request.body).to_vec().into(),
            delivered: self.exchanged.is_success(),
            status: answer.map_or(0, |answer| u32::from(answer.status)),
            response_headers: response_headers.collect(),
            response_body: answer.map_or_else(Default::default, |answer| {
                let mut body = self.log.redactor.bytes(&answer.body);
                body.truncate(pocketci_outside::exchange::MAX_BODY_BYTES);
                body
            }),
            error: redact(&error),
            duration_us: micros(self.exchanged.duration),
            first_byte_us: self.exchanged.first_byte.map(micros),
            peer: self
                .exchanged
                .peer
                .map_or_else(String::new, |peer| peer.to_string()),
            last: self.last,
        }
    }
}

fn field(name: &str, value: &str) -> pb::Field {
    pb::Field {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn refused(told: String, answer: serde_json::Value) -> Failure {
    Failure {
        name: "WebhookError",
        message: format!("webhook.send: {told}"),
        detail: answer,
    }
}

fn prepare(request: &SendWebhook) -> Result<Request, String> {
    let given: Vec<(String, String)> = request.headers.clone().into_iter().collect();
    let mut headers = headers(&given)?;
    if !request.content_type.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        let value = HeaderValue::from_str(&request.content_type)
            .map_err(|_| "the content type is no header value".to_owned())?;
        headers.insert(CONTENT_TYPE, value);
    }
    let name = match request.method.as_str() {
        "" => "POST".to_owned(),
        name => name.to_ascii_uppercase(),
    };
    Ok(Request {
        url: parse(&request.url)?,
        method: method(&name)?,
        headers,
        body: request.body.clone(),
        trust: Trust::System,
        within: TRY_TIMEOUT,
    })
}

fn sign(to: &mut Request, request: &SendWebhook) {
    let signed = Signed {
        id: &request.id,
        timestamp: OffsetDateTime::now_utc().unix_timestamp(),
        body: &request.body,
    };
    let secret = request.secret.as_deref();
    let secret = secret.filter(|secret| !secret.is_empty());
    let plain = secret.and_then(|secret| signature::plain(&request.body, secret));
    let mut lines = signature::headers(signed, secret.as_slice());
    lines.retain(|(name, _)| *name != signature::CIRCLECI_SIGNATURE);
    lines.extend(plain.map(|digest| (signature::PLAIN_SIGNATURE, digest)));
    for (name, value) in lines {
        // Hex, Base64 and digits are header values; the id is the author's.
        if let Ok(value) = HeaderValue::from_str(&value) {
            to.headers.insert(name, value);
        }
    }
}
