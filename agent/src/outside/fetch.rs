//! `fetch`: one exchange, its redirects followed one by one, everything bounded.

use super::{Outside, read_limited, told};
use crate::attempt::secrets::Secrets;
use crate::js::host::{Answer, Failure};
use crate::js::request::{Fetch, Redirect};
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION, PROXY_AUTHORIZATION,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::Url;
use serde_json::json;
use std::time::Duration;

/// Redirects followed.
const MAX_REDIRECTS: u32 = 10;

/// A request on its way.
pub(super) struct Exchange {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// Headers that carry a secret: for this origin only.
    pub(super) secret: Vec<HeaderName>,
}

/// Carries out a pipeline's `fetch`.
pub(crate) async fn fetch(
    outside: &Outside,
    secrets: &Secrets,
    mut request: Fetch,
) -> Result<Answer, Failure> {
    let most = outside.config().timeout;
    let timeout = request.timeout.map_or(most, |time| time.0.min(most));
    let secret: Vec<HeaderName> = request
        .headers
        .iter()
        .filter(|(_, value)| value.contains("secret:"))
        .filter_map(|(name, _)| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    secrets
        .fill(request.headers.iter_mut().map(|(_, value)| value))
        .await
        .map_err(|error| Failure::from(format!("fetch: {error}")))?;
    let failed = |error: String| Failure {
        name: "TypeError",
        ..Failure::from(format!("fetch failed: {error}"))
    };
    let exchange = Exchange {
        url: parse(&request.url).map_err(failed)?,
        method: method(&request.method).map_err(failed)?,
        headers: headers(&request.headers).map_err(failed)?,
        body: request.body,
        secret,
    };
    let answered = tokio::time::timeout(timeout, follow(outside, exchange, request.redirect));
    match answered.await {
        Ok(answered) => answered.map_err(failed),
        Err(_) => Err(Failure {
            name: "TimeoutError",
            ..Failure::from(format!(
                "fetch: no answer within {} ms",
                timeout.as_millis()
            ))
        }),
    }
}

pub(super) fn parse(url: &str) -> Result<Url, String> {
    Url::parse(url).map_err(|error| format!("{:?} is no URL: {error}", shorten(url)))
}

/// Without query: it may hold secrets.
fn shorten(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    url[..end].chars().take(200).collect()
}

pub(super) fn method(name: &str) -> Result<Method, String> {
    match Method::from_bytes(name.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) | Err(_) => {
            Err(format!("method {name:?} is not possible"))
        }
        Ok(method) => Ok(method),
    }
}

pub(super) fn headers<'a>(
    given: impl IntoIterator<Item = &'a (String, String)>,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let wrong = || format!("header {name:?} has a name or value that HTTP does not allow");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        // These belong to the connection.
        if name == HOST || name == CONTENT_LENGTH || name.as_str() == "transfer-encoding" {
            continue;
        }
        headers.append(
            name.clone(),
            HeaderValue::from_str(value).map_err(|_| wrong())?,
        );
    }
    Ok(headers)
}

/// One request as it is, without redirects.
pub(super) async fn send(
    outside: &Outside,
    exchange: &Exchange,
    timeout: Duration,
) -> Result<reqwest::Response, String> {
    let client = outside
        .client(&exchange.url)
        .map_err(|failure| failure.message)?;
    let mut request = client
        .request(exchange.method.clone(), exchange.url.clone())
        .headers(exchange.headers.clone())
        .timeout(timeout);
    if let Some(body) = &exchange.body {
        request = request.body(body.clone());
    }
    request.send().await.map_err(told)
}

async fn follow(
    outside: &Outside,
    mut exchange: Exchange,
    redirect: Redirect,
) -> Result<Answer, String> {
    let mut hops = 0;
    loop {
        let response = send(outside, &exchange, outside.config().timeout).await?;
        let next = match (redirect, location(&exchange, &response)) {
            (Redirect::Follow, Some(next)) => next,
            (Redirect::Error, Some(_)) => {
                return Err("the answer is a redirect, and redirect is \"error\"".to_owned());
            }
            (_, _) => return answer(outside, &exchange, response, hops > 0).await,
        };
        hops += 1;
        if hops > MAX_REDIRECTS {
            return Err(format!("more than {MAX_REDIRECTS} redirects"));
        }
        exchange = redirected(exchange, response.status(), next?);
    }
}

fn location(exchange: &Exchange, response: &reqwest::Response) -> Option<Result<Url, String>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let to = response.headers().get(LOCATION)?.to_str().ok()?;
    let next = exchange.url.join(to);
    Some(next.map_err(|error| format!("the redirect leads to no URL: {error}")))
}

/// The next hop, as browsers make it.
fn redirected(mut exchange: Exchange, status: StatusCode, next: Url) -> Exchange {
    let code = status.as_u16();
    let see_other = code == 303 && exchange.method != Method::HEAD;
    if see_other || (matches!(code, 301 | 302) && exchange.method == Method::POST) {
        exchange.method = Method::GET;
        exchange.body = None;
        exchange.headers.remove(CONTENT_TYPE);
    }
    if next.origin() != exchange.url.origin() {
        // What was meant for one host is not told to another.
        for name in exchange
            .secret
            .iter()
            .chain([&AUTHORIZATION, &PROXY_AUTHORIZATION, &COOKIE])
        {
            exchange.headers.remove(name);
        }
    }
    exchange.url = next;
    exchange
}

async fn answer(
    outside: &Outside,
    exchange: &Exchange,
    response: reqwest::Response,
    redirected: bool,
) -> Result<Answer, String> {
    let status = response.status();
    let headers: Vec<(&str, String)> = response
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str(), value)
        })
        .collect();
    let head = json!({
        "status": status.as_u16(),
        "statusText": status.canonical_reason().unwrap_or_default(),
        "headers": headers,
        "url": exchange.url.as_str(),
        "redirected": redirected,
    });
    let body = read_limited(response, outside.config().max_response_bytes).await?;
    Ok(Answer::Blob {
        head,
        body: Bytes::from(body),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_for_one_host_is_not_told_to_another() {
        let exchange = || Exchange {
            url: "https://a.test/".parse().unwrap(),
            method: Method::GET,
            headers: headers(&[
                ("private-token".to_owned(), "s3cr3t".to_owned()),
                ("authorization".to_owned(), "Bearer x".to_owned()),
                ("accept".to_owned(), "*/*".to_owned()),
            ])
            .unwrap(),
            body: None,
            secret: vec![HeaderName::from_static("private-token")],
        };
        let to = |url: &str| redirected(exchange(), StatusCode::FOUND, url.parse().unwrap());
        assert_eq!(to("https://a.test/other").headers.len(), 3);
        for elsewhere in ["https://b.test/", "http://a.test/", "https://a.test:8443/"] {
            let left = to(elsewhere).headers;
            assert_eq!(
                left.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
                ["accept"]
            );
        }
    }
}
