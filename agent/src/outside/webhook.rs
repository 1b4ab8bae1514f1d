//! `webhook.send`: a signed call of another system, tried again while it may help.
//!
//! Signatures: `X-Webhook-Signature` (hex HMAC-SHA256 of the body, what our own generic provider verifies) and
//! Standard Webhooks (<https://www.standardwebhooks.com>): `webhook-id`, `webhook-timestamp` and
//! `webhook-signature: v1,<base64 HMAC-SHA256 of "id.timestamp.body">`. The id is the same for every try.

use super::fetch::{Exchange, headers, method, parse, send as exchange_once};
use super::{Outside, read_limited};
use crate::attempt::secrets::Secrets;
use crate::js::host::{Answer, Failure};
use crate::js::request::SendWebhook;
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use ring::hmac;
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

/// For each try unless said otherwise.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait before the second try; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait between two tries, also where the receiver asks for more.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Bytes of an answer's body that are kept.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How Standard Webhooks writes secrets: this, then Base64.
const STANDARD_PREFIX: &str = "whsec_";
const BASE64: GeneralPurpose = STANDARD;

/// Delivers, or says why not.
pub(crate) async fn send(
    outside: &Outside,
    secrets: &Secrets,
    mut request: SendWebhook,
) -> Result<Answer, Failure> {
    let texts = request.headers.values_mut().chain(&mut request.secret);
    secrets
        .fill(texts)
        .await
        .map_err(|error| Failure::from(format!("webhook.send: {error}")))?;
    let failed = |error: String| Failure::from(format!("webhook.send: {error}"));
    let mut exchange = prepare(&request).map_err(failed)?;
    let timeout = request.timeout.map_or(TRY_TIMEOUT, |time| time.0);
    let timeout = timeout.min(outside.config().timeout);
    let mut tries = 0;
    loop {
        tries += 1;
        sign(&mut exchange.headers, &request);
        let tried = exchange_once(outside, &exchange, timeout).await;
        let (told, wait) = match tried {
            Ok(response) => {
                let status = response.status().as_u16();
                let asked = retry_after(response.headers());
                // The rest of a long answer says nothing about the delivery.
                let body = read_limited(response, MAX_ANSWER_BYTES).await;
                let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
                let answer =
                    json!({ "id": request.id, "status": status, "attempts": tries, "body": body });
                if (200..300).contains(&status) {
                    return Ok(Answer::Json(answer));
                }
                let told = format!("the receiver answered with status {status}");
                if !matches!(status, 408 | 425 | 429 | 500..=599) {
                    return Err(refused(told, answer));
                }
                if tries > request.retries {
                    return Err(refused(format!("{told} after {tries} tries"), answer));
                }
                (told, asked)
            }
            Err(error) if error.contains("--fetch-allow") => return Err(failed(error)),
            Err(error) => (error, None),
        };
        if tries > request.retries {
            return Err(failed(format!("{told} (tries: {tries})")));
        }
        let usual = FIRST_WAIT.saturating_mul(1 << (tries - 1).min(10));
        let jitter = 0.75 + 0.5 * rand::random::<f64>();
        tokio::time::sleep(wait.unwrap_or(usual.mul_f64(jitter)).min(MAX_WAIT)).await;
    }
}

fn refused(told: String, answer: serde_json::Value) -> Failure {
    Failure {
        name: "WebhookError",
        message: format!("webhook.send: {told}"),
        detail: answer,
    }
}

fn prepare(request: &SendWebhook) -> Result<Exchange, String> {
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
    Ok(Exchange {
        url: parse(&request.url)?,
        method: method(&name)?,
        headers,
        body: Some(request.body.clone()),
        secret: Vec::new(),
    })
}

fn sign(headers: &mut HeaderMap, request: &SendWebhook) {
    let timestamp = OffsetDateTime::now_utc().unix_timestamp().to_string();
    let mut set = |name: &'static str, value: String| {
        // Hex, Base64 and digits are header values.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set("webhook-id", request.id.clone());
    set("webhook-timestamp", timestamp.clone());
    if let Some(secret) = request
        .secret
        .as_deref()
        .filter(|secret| !secret.is_empty())
    {
        let (plain, standard) = signatures(secret, &request.id, &timestamp, &request.body);
        set("x-webhook-signature", plain);
        set("webhook-signature", standard);
    }
}

/// Both signatures of a body.
fn signatures(secret: &str, id: &str, timestamp: &str, body: &Bytes) -> (String, String) {
    let plain = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    let key = secret
        .strip_prefix(STANDARD_PREFIX)
        .and_then(|encoded| BASE64.decode(encoded).ok())
        .unwrap_or_else(|| secret.as_bytes().to_vec());
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    let standard = format!("v1,{}", BASE64.encode(context.sign().as_ref()));
    (hex::encode(plain.as_ref()), standard)
}

/// What the receiver asks for, in seconds; dates are not followed.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_the_published_ones() {
        // The example of the Standard Webhooks specification's libraries.
        let (_, standard) = signatures(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            &Bytes::from_static(br#"{"test": 2432232314}"#),
        );
        assert_eq!(standard, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let (plain, _) = signatures("my-secret-key", "a", "1", &Bytes::from_static(b"hello"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"my-secret-key");
        assert!(hmac::verify(&key, b"hello", &hex::decode(plain).unwrap()).is_ok());
    }
}
