//! A webhook that never came: from flags or a file, as a server would have stored it.

use crate::args::RunFileArgs;
use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pocketci_proto::agent as pb;
use pocketci_server::intake::{IncomingRequest, providers};
use serde::Deserialize;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// A file given as `--event`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    query: BTreeMap<String, String>,
    /// A text, or any JSON value that is sent as JSON.
    #[serde(default)]
    body: serde_json::Value,
}

/// The request that the flags describe; `None` if they describe none.
pub fn simulated(args: &RunFileArgs) -> anyhow::Result<Option<IncomingRequest>> {
    let event = match &args.event {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the event in {}", file.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is no event", file.display()))?
        }
        None => {
            let wanted = args.webhook_body.is_some()
                || args.webhook_method.is_some()
                || !args.webhook_headers.is_empty();
            if !wanted {
                return Ok(None);
            }
            Event {
                method: args.webhook_method.clone(),
                headers: args.webhook_headers.iter().cloned().collect(),
                query: BTreeMap::new(),
                body: body(args)?.into(),
            }
        }
    };
    let body = match event.body {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &event.headers {
        let wrong = || format!("{name:?} cannot be a header");
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).with_context(wrong)?,
            HeaderValue::from_str(value).with_context(wrong)?,
        );
    }
    let mut url = String::from("/");
    if !event.query.is_empty() {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&event.query);
        url = format!("/?{}", query.finish());
    }
    let method = event.method.unwrap_or_else(|| "POST".to_owned());
    Ok(Some(IncomingRequest {
        method: Method::from_bytes(method.as_bytes())
            .with_context(|| format!("{method:?} is no HTTP method"))?,
        url,
        headers,
        body: body.into(),
        remote_addr: "simulated".to_owned(),
    }))
}

fn body(args: &RunFileArgs) -> anyhow::Result<String> {
    let given = args.webhook_body.clone().unwrap_or_default();
    match given.strip_prefix('@') {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read the body in {file}"))
        }
        None => Ok(given),
    }
}

/// As it travels to an agent, with its body.
pub fn to_wire(request: IncomingRequest) -> (pb::WebhookRequest, Bytes) {
    let provider = providers::guess(&request);
    let facts = providers::facts(&providers::Binding::default(), provider, &request);
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &request.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.as_str().to_owned()).or_insert(value);
    }
    let mut query: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(request.query().as_bytes()) {
        query.entry(name.into_owned()).or_insert(value.into_owned());
    }
    let fields = |fields: BTreeMap<String, String>| {
        fields
            .into_iter()
            .map(|(name, value)| pb::Field { name, value })
            .collect()
    };
    let webhook = pb::WebhookRequest {
        provider: provider.as_str().to_owned(),
        event_type: facts.event_type,
        method: request.method.as_str().to_owned(),
        url: request.url.clone(),
        headers: fields(headers),
        query: fields(query),
        body: Bytes::new(),
        body_bytes: request.body.len(),
        body_follows: false,
        remote_addr: request.remote_addr.clone(),
        body_sha256: request.body.sha256().to_vec().into(),
        received_at_unix_ms: u64::try_from(OffsetDateTime::now_utc().unix_timestamp() * 1000)
            .unwrap_or_default(),
        delivery_id: facts.delivery_id.unwrap_or_default(),
        attempt: facts.attempt.unwrap_or_default(),
        repeated_headers: Vec::new(),
        verified: false,
        secret_id: String::new(),
        event_key: String::new(),
        form: Vec::new(),
        files: Vec::new(),
    };
    let body = request.body.to_bytes().unwrap_or_default();
    (webhook, body)
}
