//! How composite values are written into columns, the same for every storage.

use crate::model::endpoint::EndpointSecret;
use crate::model::gate::Gate;
use crate::model::pipeline::{Labels, WebhookSecret};
use crate::model::receipt::Answer;
use crate::model::run::{EventBody, LogData};
use crate::model::subscription::{DisabledReason, EventName, Subscription};
use crate::model::{DeliveryId, RunId};
use bytes::Bytes;
use pocketci_proto::api::{Driver, Listen, RunEventKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;
use uuid::Uuid;

/// The stored text is not what this program wrote.
#[derive(Debug, thiserror::Error)]
#[error("unexpected content in column {column}: {detail}")]
pub(super) struct Corrupt {
    pub column: &'static str,
    pub detail: String,
}

/// A word of a closed vocabulary.
pub(super) fn word<T>(column: &'static str, text: &str, parsed: Option<T>) -> Result<T, Corrupt> {
    parsed.ok_or_else(|| Corrupt {
        column,
        detail: format!("unknown word {text:?}"),
    })
}

/// Any JSON value of a type that cannot fail to serialize.
pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

pub(super) fn from_json<'a, T: Deserialize<'a>>(
    column: &'static str,
    text: &'a str,
) -> Result<T, Corrupt> {
    serde_json::from_str(text).map_err(|error| Corrupt {
        column,
        detail: error.to_string(),
    })
}

/// A secret of an endpoint in its column: sealed, in hexadecimal digits; the end in microseconds since 1970.
#[derive(Serialize, Deserialize)]
struct StoredSecret {
    id: String,
    sealed: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_after: Option<i64>,
}

/// The secrets of an endpoint as JSON.
pub(super) fn secrets(secrets: &[EndpointSecret]) -> String {
    let stored: Vec<StoredSecret> = secrets
        .iter()
        .map(|secret| StoredSecret {
            id: secret.id.clone(),
            sealed: hex::encode(secret.secret.expose()),
            not_after: secret
                .not_after
                .map(|end| i64::try_from(end.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)),
        })
        .collect();
    json(&stored)
}

/// Reads what [`secrets`] wrote.
pub(super) fn secrets_from(text: &str) -> Result<Vec<EndpointSecret>, Corrupt> {
    let corrupt = |detail: &str| Corrupt {
        column: "endpoints.secrets",
        detail: detail.to_owned(),
    };
    let stored: Vec<StoredSecret> = from_json("endpoints.secrets", text)?;
    stored
        .into_iter()
        .map(|stored| {
            let sealed = hex::decode(stored.sealed).ok().and_then(WebhookSecret::new);
            let end = |micros: i64| {
                OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
                    .map_err(|_| corrupt("a time out of range"))
            };
            Ok(EndpointSecret {
                secret: sealed.ok_or_else(|| corrupt("a secret that is no hex"))?,
                id: stored.id,
                not_after: stored.not_after.map(end).transpose()?,
            })
        })
        .collect()
}

/// What a pipeline listens to, by event: each with its filters, none twice.
pub(super) fn filters_by_event(listens: &[Listen]) -> BTreeMap<&str, Vec<Option<&str>>> {
    let mut by_event: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
    for listen in listens {
        let filters = by_event.entry(&listen.event).or_default();
        let filter = listen.filter.as_deref();
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    by_event
}

/// A duration in whole microseconds.
pub(super) fn micros_of(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The answer of a receipt, from its three columns; a stored status is one that HTTP knows.
pub(super) fn answer(
    status: Option<i32>,
    summary: String,
    duration_us: Option<i64>,
) -> Option<Answer> {
    let micros = u64::try_from(duration_us.unwrap_or(0)).unwrap_or(0);
    Some(Answer {
        status: u16::try_from(status?).ok()?,
        summary,
        duration: std::time::Duration::from_micros(micros),
    })
}

/// Labels as a JSON object with sorted keys.
pub(super) fn labels(labels: &Labels) -> String {
    json(labels)
}

/// Request headers as `[[name, value], …]`; each byte of a value is the character with that number (latin-1), so
/// nothing is lost.
pub(super) fn request_headers(headers: &[(String, Vec<u8>)]) -> String {
    let readable: Vec<(&str, String)> = headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str(),
                value.iter().copied().map(char::from).collect(),
            )
        })
        .collect();
    json(&readable)
}

pub(super) fn request_headers_from(text: &str) -> Result<Vec<(String, Vec<u8>)>, Corrupt> {
    let readable: Vec<(String, String)> = from_json("receipts.headers", text)?;
    readable
        .into_iter()
        .map(|(name, value)| {
            let bytes: Result<Vec<u8>, _> =
                value.chars().map(|c| u8::try_from(u32::from(c))).collect();
            bytes.map(|bytes| (name, bytes)).map_err(|_| Corrupt {
                column: "receipts.headers",
                detail: "character beyond latin-1".into(),
            })
        })
        .collect()
}

pub(super) fn drivers(drivers: &[Driver]) -> String {
    let words: Vec<&str> = drivers.iter().map(|driver| driver.as_str()).collect();
    words.join(",")
}

pub(super) fn drivers_from(text: &str) -> Vec<Driver> {
    text.split(',').filter_map(Driver::parse).collect()
}

/// The JSON of a fact; output is stored as bytes instead.
pub(super) fn fact(body: &EventBody) -> Option<String> {
    match body {
        EventBody::Fact(kind) => Some(json(kind)),
        EventBody::Log(_) => None,
    }
}

pub(super) fn fact_from(text: &str) -> Result<RunEventKind, Corrupt> {
    from_json("run_events.data", text)
}

/// `encoding`, `size` and `bytes` of a piece of output. Raw output has neither encoding nor size, as in rows of older
/// programs; of a gap the bytes are the reason.
pub(super) fn log_columns(data: &LogData) -> (Option<&'static str>, Option<i64>, &[u8]) {
    match data {
        LogData::Raw(bytes) => (None, None, bytes),
        LogData::Packed { frame, size } => (Some("zstd"), Some(*size), frame),
        LogData::Gap { bytes, reason } => (Some("gap"), Some(*bytes), reason.as_bytes()),
    }
}

/// Reads what [`log_columns`] wrote.
pub(super) fn log_data(
    encoding: Option<&str>,
    size: Option<i64>,
    bytes: Bytes,
) -> Result<LogData, Corrupt> {
    match (encoding, size) {
        (None, None) => Ok(LogData::Raw(bytes)),
        (Some("zstd"), Some(size)) => Ok(LogData::Packed { frame: bytes, size }),
        (Some("gap"), Some(size)) => Ok(LogData::Gap {
            bytes: size,
            reason: String::from_utf8_lossy(&bytes).into_owned(),
        }),
        (encoding, size) => Err(Corrupt {
            column: "run_events.encoding",
            detail: format!("{encoding:?} with size {size:?}"),
        }),
    }
}

/// What a waiting gate leaves for subscribers beside its ids.
pub(super) fn gate_data(gate: &Gate) -> Value {
    json!({
        "gate_id": gate.id,
        "name": gate.name,
        "message": gate.message,
        "expires_at": rfc3339(gate.expires_at),
    })
}

/// What a subscription that the server disabled leaves for the others. Of its URL scheme and host: path and query may be
/// what lets one in.
pub(super) fn disabled_data(subscription: &Subscription, reason: DisabledReason) -> Value {
    let url = Url::parse(&subscription.terms.url).ok();
    let url = url.map_or_else(String::new, |url| url.origin().ascii_serialization());
    json!({
        "subscription_id": subscription.id,
        "name": subscription.terms.name,
        "url": url,
        "reason": reason.as_str(),
        "failures": subscription.health.failures,
        "failing_since": subscription.health.failing_since.map(rfc3339),
    })
}

fn rfc3339(at: OffsetDateTime) -> String {
    // Fails only for years beyond 9999.
    at.format(&Rfc3339).unwrap_or_default()
}

/// The id of what a run's `webhook.send` sends under this `webhook-id`.
pub(super) fn send_id(run_id: RunId, webhook_id: &str) -> DeliveryId {
    DeliveryId(Uuid::new_v5(&run_id.0, webhook_id.as_bytes()))
}

/// Event names as words.
pub(super) fn event_words(names: &[EventName]) -> Vec<&'static str> {
    names.iter().map(|name| name.as_str()).collect()
}

/// Reads [`event_words`].
pub(super) fn event_names<S: AsRef<str>>(words: &[S]) -> Result<Vec<EventName>, Corrupt> {
    words
        .iter()
        .map(|text| word("events", text.as_ref(), EventName::parse(text.as_ref())))
        .collect()
}

/// Waits of a schedule as a JSON array of milliseconds.
pub(super) fn schedule(waits: Option<&[Duration]>) -> Option<String> {
    let millis = |wait: &Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    waits.map(|waits| json(&waits.iter().map(millis).collect::<Vec<u64>>()))
}

/// Reads [`schedule`].
pub(super) fn schedule_from(text: Option<&str>) -> Result<Option<Vec<Duration>>, Corrupt> {
    let Some(text) = text else { return Ok(None) };
    let millis: Vec<u64> = from_json("subscriptions.schedule", text)?;
    Ok(Some(
        millis.into_iter().map(Duration::from_millis).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_survive_whatever_their_bytes() {
        let headers = vec![("x".to_owned(), (0..=255).collect::<Vec<u8>>())];
        assert_eq!(
            request_headers_from(&request_headers(&headers)).unwrap(),
            headers
        );
    }

    #[test]
    fn facts_survive() {
        let kind = RunEventKind::Replied { status: 204 };
        let text = fact(&EventBody::Fact(kind.clone())).unwrap();
        assert_eq!(fact_from(&text).unwrap(), kind);
    }

    #[test]
    fn output_survives_in_each_form() {
        let bytes = Bytes::from_static(b"x");
        for data in [
            LogData::Raw(bytes.clone()),
            LogData::Packed {
                frame: bytes,
                size: 7,
            },
            LogData::Gap {
                bytes: 1 << 40,
                reason: "limit".into(),
            },
        ] {
            let (encoding, size, bytes) = log_columns(&data);
            let bytes = Bytes::copy_from_slice(bytes);
            assert_eq!(log_data(encoding, size, bytes).unwrap(), data);
        }
        assert!(log_data(Some("zstd"), None, Bytes::new()).is_err());
    }
}
