//! `notify.send`: one message to one backend.

mod mail;
mod template;

use super::fetch::{Exchange, headers, method, parse, send as exchange_once};
use super::{Outside, read_limited};
use crate::attempt::secrets::Secrets;
use crate::js::host::{Answer, Failure};
use crate::js::request::{Backend, Notify};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use serde_json::{Value, json};

/// Slack's API.
const SLACK: &str = "https://slack.com/api";
/// Discord's API.
const DISCORD: &str = "https://discord.com/api/v10";
/// Longest message that Discord takes, in characters.
const DISCORD_CHARS: usize = 2000;
/// What a message is called where it needs a title.
const SUBJECT: &str = "Pipeline Notification";
/// Bytes of an answer that are looked at.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Sends; an `Err` says what is missing or what the other side said.
pub(crate) async fn send(
    outside: &Outside,
    secrets: &Secrets,
    mut notify: Notify,
) -> Result<Answer, Failure> {
    secrets.fill(texts(&mut notify.backend)).await?;
    check(&notify.backend)?;
    let message = template::render(&notify.message, &notify.context)?;
    match &notify.backend {
        Backend::Slack {
            token,
            channels,
            recipients,
            url,
        } => {
            let base = if url.is_empty() { SLACK } else { url };
            for channel in channels.iter().chain(recipients) {
                let body = json!({ "channel": channel, "text": message });
                let url = format!("{}/chat.postMessage", base.trim_end_matches('/'));
                let answer = post(outside, &url, Some(format!("Bearer {token}")), &body).await?;
                slack_said(&answer).map_err(|said| format!("slack: {channel}: {said}"))?;
            }
        }
        Backend::Teams { webhook } => {
            post(outside, webhook, None, &json!({ "text": message })).await?;
        }
        Backend::Discord {
            token,
            channels,
            url,
        } => {
            let base = if url.is_empty() { DISCORD } else { url };
            let content: String = message.chars().take(DISCORD_CHARS).collect();
            for channel in channels {
                let url = format!("{}/channels/{channel}/messages", base.trim_end_matches('/'));
                let body = json!({ "content": content });
                post(outside, &url, Some(format!("Bot {token}")), &body).await?;
            }
        }
        Backend::Http {
            url,
            method,
            headers,
        } => {
            let body = json!({ "subject": SUBJECT, "message": message });
            let more: Vec<(String, String)> = headers.clone().into_iter().collect();
            let name = if method.is_empty() { "POST" } else { method };
            call(outside, url, name, &more, None, &body).await?;
        }
        Backend::Smtp { .. } => mail::send(outside, &notify.backend, &message).await?,
    }
    Ok(Answer::Nothing)
}

/// Every text of a backend, as any may be a secret.
fn texts(backend: &mut Backend) -> Vec<&mut String> {
    match backend {
        Backend::Slack {
            token,
            channels,
            recipients,
            url,
        } => [token, url]
            .into_iter()
            .chain(channels)
            .chain(recipients)
            .collect(),
        Backend::Teams { webhook } => vec![webhook],
        Backend::Discord {
            token,
            channels,
            url,
        } => [token, url].into_iter().chain(channels).collect(),
        Backend::Http {
            url,
            method,
            headers,
        } => [url, method]
            .into_iter()
            .chain(headers.values_mut())
            .collect(),
        Backend::Smtp {
            smtp_host,
            from,
            recipients,
            username,
            token,
            tls,
            subject,
        } => [smtp_host, from, username, token, tls, subject]
            .into_iter()
            .chain(recipients)
            .collect(),
    }
}

fn check(backend: &Backend) -> Result<(), String> {
    let fault = match backend {
        Backend::Slack { token, .. } if token.is_empty() => "slack token is required",
        Backend::Slack {
            channels,
            recipients,
            ..
        } if channels.is_empty() && recipients.is_empty() => "slack: channels are required",
        Backend::Teams { webhook } if webhook.is_empty() => "teams webhook URL is required",
        Backend::Http { url, .. } if url.is_empty() => "HTTP URL is required",
        Backend::Discord { token, .. } if token.is_empty() => "discord bot token is required",
        Backend::Discord { channels, .. } if channels.is_empty() => {
            "discord: channels are required"
        }
        Backend::Smtp { smtp_host, .. } if smtp_host.is_empty() => {
            "smtp: smtpHost is required (e.g. \"smtp.example.com:587\")"
        }
        Backend::Smtp { from, .. } if from.is_empty() => "smtp: from address is required",
        Backend::Smtp { recipients, .. } if recipients.is_empty() => {
            "smtp: recipients are required"
        }
        Backend::Slack { .. }
        | Backend::Teams { .. }
        | Backend::Http { .. }
        | Backend::Discord { .. }
        | Backend::Smtp { .. } => return Ok(()),
    };
    Err(fault.to_owned())
}

async fn post(
    outside: &Outside,
    url: &str,
    authorization: Option<String>,
    body: &Value,
) -> Result<Vec<u8>, String> {
    call(outside, url, "POST", &[], authorization, body).await
}

async fn call(
    outside: &Outside,
    url: &str,
    name: &str,
    more: &[(String, String)],
    authorization: Option<String>,
    body: &Value,
) -> Result<Vec<u8>, String> {
    let mut exchange = Exchange {
        url: parse(url)?,
        method: method(&name.to_ascii_uppercase())?,
        headers: headers(more)?,
        body: Some(Bytes::from(body.to_string())),
        secret: Vec::new(),
    };
    if exchange.method == Method::GET {
        exchange.body = None;
    }
    if !exchange.headers.contains_key(CONTENT_TYPE) {
        let json = HeaderValue::from_static("application/json");
        exchange.headers.insert(CONTENT_TYPE, json);
    }
    if let Some(value) = authorization {
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| "the token has characters that no header may have".to_owned())?;
        value.set_sensitive(true);
        exchange.headers.insert(AUTHORIZATION, value);
    }
    let response = exchange_once(outside, &exchange, outside.config().timeout).await?;
    let status = response.status();
    let answer = read_limited(response, MAX_ANSWER_BYTES)
        .await
        .unwrap_or_default();
    if !status.is_success() {
        let said: String = String::from_utf8_lossy(&answer).chars().take(200).collect();
        return Err(format!(
            "the receiver answered with status {}: {said}",
            status.as_u16()
        ));
    }
    Ok(answer)
}

/// Slack says `"ok": false` with status 200.
fn slack_said(answer: &[u8]) -> Result<(), String> {
    let said: Value = serde_json::from_slice(answer).unwrap_or_default();
    if said["ok"] == Value::Bool(false) {
        return Err(said["error"].as_str().unwrap_or("refused").to_owned());
    }
    Ok(())
}
