//! The HTTP side at its edges: what does not fit is refused in JSON, what dawdles is let go, what has no end ends.

use futures_util::StreamExt;
use nix::sys::signal::Signal;
use pocketci_proto::api::ErrorBody;
use pocketci_tests::{Server, ServerOptions, TestDatabase, until};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NOTHING: &str = "export default async () => {};";

fn without_agents(storage: Option<String>) -> ServerOptions {
    ServerOptions {
        storage,
        local_agent: false,
        ..ServerOptions::default()
    }
}

/// Sends, and holds the answer against everything that is promised of errors.
async fn refused(what: &str, request: RequestBuilder) -> (u16, String, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    let (kind, id) = (header("content-type"), header("x-request-id"));
    let text = response.text().await.unwrap();
    assert_eq!(kind, "application/json", "{what}: {text}");
    let body: ErrorBody = serde_json::from_str(&text).unwrap();
    assert_eq!(body.error.request_id, id, "{what}");
    assert!(
        body.error.message.contains(' '),
        "{what}: a sentence: {text}"
    );
    (status, body.error.code, body.error.message)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_does_not_fit_is_refused_in_json() {
    let server = Server::start(without_agents(None)).await;
    let client = server.client();
    let unknown = "01a1fcb9-c1ee-7347-985c-ccdd686e6b5d";
    for (method, path, status, code) in [
        ("GET", "/api/pipelines/%FF", 400, "invalid_request"),
        ("PUT", "/api/pipelines/%FF", 400, "invalid_request"),
        (
            "POST",
            "/api/pipelines/%C3%28/trigger",
            400,
            "invalid_request",
        ),
        ("GET", "/api/runs/%FF", 400, "invalid_request"),
        ("GET", "/api/runs/%FF/events", 400, "invalid_request"),
        ("DELETE", "/api/agent-tokens/%FF", 400, "invalid_request"),
        ("POST", "/api/webhooks/%FF", 400, "invalid_request"),
        ("GET", "/api/runs?limit=many", 400, "invalid_request"),
        ("GET", "/api/runs?stauts=failed", 400, "invalid_request"),
        ("GET", "/api/runs?after=1", 400, "invalid_request"),
        (
            "GET",
            "/api/pipelines?limit=1&limit=2",
            400,
            "invalid_request",
        ),
        (
            "GET",
            "/api/pipelines/%F0%9F%92%A9",
            404,
            "pipeline_not_found",
        ),
        ("GET", "/api/%FF", 404, "no_such_path"),
        ("PATCH", "/api/runs", 405, "method_not_allowed"),
        ("PUT", "/api/pipelines/p", 415, "unsupported_media_type"),
        ("POST", "/api/agent-tokens", 415, "unsupported_media_type"),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let what = format!("{method} {path}");
        let (got, said, _) = refused(&what, client.request(method, path)).await;
        assert_eq!((got, said.as_str()), (status, code), "{what}");
    }
    for (body, kind, status) in [
        ("{", "application/json", 400),
        ("{}", "application/json", 400),
        (r#"{"content":1}"#, "application/json", 400),
        (r#"{"content":"","cotnent":""}"#, "application/json", 400),
        (r#"["x"]"#, "application/json", 400),
        (r#"{"content":""}"#, "text/plain", 415),
    ] {
        let put = client.request(Method::PUT, "/api/pipelines/p").body(body);
        let (got, ..) = refused(body, put.header("content-type", kind)).await;
        assert_eq!(got, status, "{body}");
    }
    let trigger = client.request(Method::POST, &format!("/api/pipelines/{unknown}/trigger"));
    for body in ["{", "[]", r#"[["args"]]"#, "1"] {
        let trigger = trigger.try_clone().unwrap().body(body);
        assert_eq!(refused(body, trigger).await.0, 400, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_s_words_are_not_in_the_log() {
    let server = Server::start(without_agents(None)).await;
    let put = server.client().request(Method::PUT, "/api/pipelines/p");
    let body = json!({ "content": NOTHING, "webhook_secrets": "hunter2-and-more" });
    let (status, _, message) = refused("secrets", put.json(&body)).await;
    assert_eq!(status, 400);
    assert!(message.contains("a sequence"), "{message}");
    let log = server.process.log();
    assert!(log.contains("invalid_request"), "{log}");
    assert!(!log.contains("hunter2"), "a secret is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_too_large_is_refused_before_it_is_read() {
    let server = Server::start(without_agents(None)).await;
    let address = server.url.strip_prefix("http://").unwrap();
    let id = server.client().set("p", NOTHING, json!({})).await;
    let webhook = format!("POST /api/webhooks/{id} HTTP/1.1");
    for head in [
        "PUT /api/pipelines/p HTTP/1.1\r\nContent-Type: application/json",
        "POST /api/pipelines/p/trigger HTTP/1.1",
        "POST /api/agent-tokens HTTP/1.1\r\nContent-Type: application/json",
        &webhook,
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{head}\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413"), "{head}: {answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let body: ErrorBody = serde_json::from_str(body).unwrap();
        assert_eq!(body.error.code, "body_too_large");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nul_characters_are_refused_with_a_sentence_by_both_stores() {
    let database = TestDatabase::create().await;
    for storage in [None, Some(database.url.clone())] {
        let server = Server::start(without_agents(storage)).await;
        let client = server.client();
        let id = client.set("p", NOTHING, json!({})).await;
        let put = |more: Value| {
            let mut body = json!({ "content": NOTHING });
            for (key, value) in more.as_object().unwrap() {
                body[key] = value.clone();
            }
            client.request(Method::PUT, "/api/pipelines/q").json(&body)
        };
        let post = |path: &str, body: Value| client.request(Method::POST, path).json(&body);
        let trigger = format!("/api/pipelines/{id}/trigger");
        for (what, request) in [
            ("content", put(json!({ "content": "export default 1;\0" }))),
            ("file_name", put(json!({ "file_name": "a\0.ts" }))),
            ("label", put(json!({ "labels": { "a\0": "b" } }))),
            ("label \"a\"", put(json!({ "labels": { "a": "b\0" } }))),
            ("args", post(&trigger, json!({ "args": ["a", "\0"] }))),
            ("jobs", post(&trigger, json!({ "jobs": ["\0"] }))),
            ("name", post("/api/agent-tokens", json!({ "name": "a\0b" }))),
            ("path", client.request(Method::GET, "/api/pipelines/a%00b")),
            ("path", client.request(Method::DELETE, "/api/pipelines/%00")),
            (
                "query",
                client.request(Method::GET, "/api/pipelines?after=a%00"),
            ),
            (
                "query",
                client.request(Method::GET, "/api/runs?pipeline=%00"),
            ),
        ] {
            let (status, _, message) = refused(what, request).await;
            assert_eq!(status, 400, "{what}: {message}");
            assert!(message.contains(what), "{what}: {message}");
        }
        // As an escape in the program it is the program's own business, and so is a webhook's body.
        let escaped = r#"export default async () => { console.log("a\u0000b\0"); };"#;
        client.set("escaped", escaped, json!({})).await;
        let (status, told) = client
            .post(&trigger, &json!({ "webhook": { "body": "a\0b" } }))
            .await
            .unwrap();
        assert_eq!(status, 202, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_s_event_is_the_type_of_an_object_only() {
    let database = TestDatabase::create().await;
    let server = Server::start(ServerOptions {
        storage: Some(database.url.clone()),
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let content =
        "export default async () => { http.respond({ body: `<${http.request().eventType}>` }); };";
    let id = client.set("p", content, json!({})).await;
    for (body, seen) in [
        (r#"{"type":"event_callback"}"#, "<event_callback>"),
        (r#"["event_callback"]"#, "<>"),
        (r#"{"type":"a\u0000b"}"#, "<>"),
    ] {
        let request = client.webhook(&id).header("x-slack-signature", "v0=00");
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), seen, "{body}");
    }
}

/// Reads to the end of the connection, for at most so long.
async fn rest(mut stream: TcpStream, within: Duration) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(within, stream.read_to_end(&mut answer));
    read.await.expect("the server ends the connection").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_let_go_and_idle_ones_may_come_back() {
    let server = Server::start(without_agents(None)).await;
    let address = server.url.strip_prefix("http://").unwrap();
    let patience = Duration::from_secs(40);
    let connected = || async { TcpStream::connect(address).await.unwrap() };
    let silent = async { rest(connected().await, patience).await };
    let half_a_preface = async {
        let mut stream = connected().await;
        stream.write_all(b"PRI * HT").await.unwrap();
        rest(stream, patience).await
    };
    let half_a_body = async {
        let mut stream = connected().await;
        let request = "PUT /api/pipelines/p HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                       Content-Length: 100\r\n\r\n{";
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(stream, patience).await
    };
    let comes_back = async {
        let mut stream = connected().await;
        let ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        // Longer than a head may take.
        tokio::time::sleep(Duration::from_secs(13)).await;
        let again = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(again).await.unwrap();
        rest(stream, patience).await
    };
    let id = server
        .client()
        .set("p", "export default () => {};", json!({}))
        .await;
    let head =
        format!("POST /api/webhooks/{id} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{");
    let half_a_webhook = async {
        let mut stream = connected().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        rest(stream, patience).await
    };
    let broken_off = async { connected().await.write_all(head.as_bytes()).await };
    let (silent, half_a_preface, half_a_body, half_a_webhook, comes_back, broken_off) = tokio::join!(
        silent,
        half_a_preface,
        half_a_body,
        half_a_webhook,
        comes_back,
        broken_off
    );
    broken_off.unwrap();
    assert!(half_a_webhook.contains("body_too_slow"), "{half_a_webhook}");
    let noted = |reason: &'static str| {
        let client = server.client();
        async move {
            let (_, page) = client.get("/api/receipts?verdict=malformed").await.ok()?;
            let items = page["items"].as_array().unwrap().clone();
            items.into_iter().find(|item| item["reason"] == reason)
        }
    };
    until("what came half is noted", || {
        noted("the body came too slowly")
    })
    .await;
    until("what broke off is noted", || noted("the body broke off")).await;
    assert_eq!((silent.as_str(), half_a_preface.as_str()), ("", ""));
    assert!(half_a_body.starts_with("HTTP/1.1 408"), "{half_a_body}");
    assert!(half_a_body.contains("body_too_slow"), "{half_a_body}");
    assert_eq!(
        comes_back.matches("HTTP/1.1 200 OK").count(),
        2,
        "{comes_back}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_the_run_has_not_come_to_is_refused() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let id = client.set("p", NOTHING, json!({})).await;
    let (_, started) = client
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap();
    let run = started["run_id"].as_str().unwrap();
    client.finished(run).await;
    let newest = client.events(run).await.len();
    let path = format!("/api/runs/{run}/events");
    let too_large = (newest + 1).to_string();
    for place in [
        &too_large,
        "-1",
        "9223372036854775807",
        "9223372036854775808",
        "x",
    ] {
        let header = client
            .request(Method::GET, &path)
            .header("Last-Event-ID", place);
        let query = client.request(Method::GET, &format!("{path}?after={place}"));
        let list = client.request(Method::GET, &format!("{path}?follow=0&after={place}"));
        for (what, request) in [("header", header), ("query", query), ("list", list)] {
            let (status, _, message) = refused(place, request).await;
            assert_eq!(status, 400, "{what} {place}: {message}");
        }
    }
    let newest = newest.to_string();
    for (place, last) in [("", true), ("0", true), (&newest, false)] {
        let request = client
            .request(Method::GET, &path)
            .header("Last-Event-ID", place);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{place}");
        let text = response.text().await.unwrap();
        assert_eq!(text.contains("run_finished"), last, "{place}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_without_an_end_end_when_the_server_stops() {
    let mut server = Server::start(without_agents(None)).await;
    let client = server.client();
    // Without an agent nothing ever happens in this run.
    let id = client.set("p", NOTHING, json!({})).await;
    let (_, started) = client
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap();
    let run = started["run_id"].as_str().unwrap();
    let mut streams = Vec::new();
    for (method, path) in [
        (Method::GET, format!("/api/runs/{run}/events")),
        (Method::GET, format!("/api/runs/{run}/logs?follow=1")),
        (Method::POST, format!("/api/pipelines/{id}/run")),
    ] {
        let response = client.request(method, &path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        streams.push((path, response.bytes_stream()));
    }
    let began = Instant::now();
    server.process.signal(Signal::SIGTERM);
    for (path, mut stream) in streams {
        let mut last = None;
        while let Some(piece) = stream.next().await {
            last = Some(piece);
        }
        // Plain output has no last line that would say so: it must not look complete.
        let broken = matches!(last, Some(Err(_)));
        assert_eq!(broken, path.contains("/logs"), "{path}: {last:?}");
    }
    assert_eq!(server.process.wait(), Some(0));
    let log = server.process.log();
    assert!(!log.contains("did not end in time"), "{log}");
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route_method_and_class_of_status() {
    let server = Server::start(without_agents(None)).await;
    let client = server.client();
    client.set("p", NOTHING, json!({})).await;
    for (method, path) in [
        ("GET", "/api/pipelines/p"),
        ("GET", "/api/pipelines/p"),
        ("GET", "/api/pipelines/one-of-many"),
        ("GET", "/api/pipelines/another-of-many"),
        ("POST", "/api/webhooks/also-of-many"),
        ("BREW", "/api/webhooks/also-of-many"),
        ("TEA", "/nowhere/of-many"),
        ("PATCH", "/api/runs"),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        client.request(method, path).send().await.unwrap();
    }
    // What was answered last is counted a moment later.
    let text = until("all are counted", || async {
        let request = client.request(Method::GET, "/metrics");
        let text = request.send().await.ok()?.text().await.ok()?;
        text.contains("route=\"/api/runs\"").then_some(text)
    })
    .await;
    for (route, method, status, count) in [
        ("/api/pipelines/{id}", "PUT", "2xx", 1),
        ("/api/pipelines/{id}", "GET", "2xx", 2),
        ("/api/pipelines/{id}", "GET", "4xx", 2),
        ("/api/webhooks/{id}", "POST", "4xx", 1),
        ("/api/webhooks/{id}", "other", "4xx", 1),
        ("none", "other", "4xx", 1),
        ("/api/runs", "PATCH", "4xx", 1),
    ] {
        let labels = format!("{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}");
        for name in ["http_requests_total", "http_request_seconds_count"] {
            let line = format!("pocketci_{name}{labels} {count}\n");
            assert!(text.contains(&line), "{line} is not in:\n{text}");
        }
    }
    assert!(
        !text.contains("of-many") && !text.contains("BREW"),
        "{text}"
    );
}
