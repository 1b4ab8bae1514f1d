//! The seed's table of answers, line by line, and what lies at its edges.

use pocketci_tests::client::sign;
use pocketci_tests::{Server, ServerOptions};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ECHO: &str = r#"
export const pipeline = async () => {
  const req = http.request();
  http.respond({ status: 200, headers: { "Content-Type": "application/json", "X-Seen": req.method },
    body: JSON.stringify({ keys: Object.keys(req), provider: req.provider, eventType: req.eventType, method: req.method,
      url: req.url, agent: req.headers["User-Agent"], lower: req.headers["user-agent"], query: req.query,
      length: req.body.length, codes: [...req.body.slice(0, 4)].map(c => c.charCodeAt(0)) }) });
};
"#;

async fn json_of(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_method_reaches_the_pipeline_with_exactly_the_seeds_fields() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let id = client.set("echo", ECHO, json!({})).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "PURGE"] {
        let response = client
            .request(
                Method::from_bytes(method.as_bytes()).unwrap(),
                &format!("/api/webhooks/{id}?a=1&a=2&b=x+y"),
            )
            .header("User-Agent", "Probe/1")
            .body("héllo")
            .send()
            .await
            .unwrap();
        assert_eq!(
            (
                response.status().as_u16(),
                response.headers()["x-seen"].to_str().unwrap()
            ),
            (200, method)
        );
        let seen = json_of(response).await;
        // The seed's fields come first; others may follow.
        let keys: Vec<Value> = seen["keys"].as_array().unwrap().clone();
        assert_eq!(
            json!(keys[..7]),
            json!([
                "provider",
                "eventType",
                "method",
                "url",
                "headers",
                "body",
                "query"
            ])
        );
        assert_eq!(
            (&seen["provider"], &seen["eventType"]),
            (&json!("generic"), &json!(""))
        );
        assert_eq!(
            seen["url"],
            json!(format!("/api/webhooks/{id}?a=1&a=2&b=x+y"))
        );
        assert_eq!(seen["query"], json!({ "a": "1", "b": "x y" }));
        assert_eq!(
            (&seen["agent"], &seen["lower"], &seen["length"]),
            (&json!("Probe/1"), &json!("Probe/1"), &json!(5))
        );
    }
    let head = client
        .request(Method::HEAD, &format!("/api/webhooks/{id}"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (head.status().as_u16(), head.bytes().await.unwrap().len()),
        (200, 0)
    );
    let binary = client
        .webhook(&id)
        .body(vec![0u8, 255, 128, 10])
        .send()
        .await
        .unwrap();
    assert_eq!(
        json_of(binary).await["codes"],
        json!([0, 255, 128, 10]),
        "no byte is lost"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_decide_as_the_seed_says() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let open = client.set("open", ECHO, json!({})).await;
    let id = client
        .set(
            "signed",
            ECHO,
            json!({ "webhook_secrets": ["new-key", "old-key"] }),
        )
        .await;
    let body = r#"{"type":"event_callback","ref":"refs/heads/main"}"#;
    assert_eq!(
        client
            .webhook(&open)
            .body(body)
            .send()
            .await
            .unwrap()
            .status(),
        200,
        "no secret, no signature"
    );
    let refused = client.webhook(&id).body(body).send().await.unwrap();
    assert_eq!(refused.status(), 401, "secret, no signature");
    let told = json_of(refused).await;
    assert_eq!(told["error"]["code"], "invalid_signature");
    assert!(
        !told.to_string().contains("X-Webhook-Signature"),
        "which check failed is not told"
    );
    let wrong = client
        .webhook(&id)
        .header("X-Webhook-Signature", sign("guess", body.as_bytes()))
        .body(body);
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    for key in ["new-key", "old-key"] {
        let digest = sign(key, body.as_bytes());
        let github = client
            .webhook(&id)
            .header("X-GitHub-Event", "push")
            .header("X-Hub-Signature-256", format!("sha256={digest}"));
        let answer = json_of(github.body(body).send().await.unwrap()).await;
        assert_eq!(
            (&answer["provider"], &answer["eventType"]),
            (&json!("github"), &json!("push"))
        );
        let generic = client
            .webhook(&id)
            .header("X-Webhook-Signature", &digest)
            .body(body);
        assert_eq!(generic.send().await.unwrap().status(), 200);
        let query = client
            .request(
                Method::POST,
                &format!("/api/webhooks/{id}?signature={digest}"),
            )
            .body(body);
        assert_eq!(query.send().await.unwrap().status(), 200);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        for (timestamp, status) in [(now, 200), (now - 400, 401), (now + 400, 401)] {
            let digest = sign(key, format!("v0:{timestamp}:{body}").as_bytes());
            let slack = client
                .webhook(&id)
                .header("X-Slack-Signature", format!("v0={digest}"))
                .header("X-Slack-Request-Timestamp", timestamp.to_string());
            let response = slack.body(body).send().await.unwrap();
            assert_eq!(response.status().as_u16(), status);
            if status == 200 {
                assert_eq!(json_of(response).await["eventType"], "event_callback");
            }
        }
    }
    // Rotation takes effect at once, on whatever server has the old ones in memory.
    client
        .set("signed", ECHO, json!({ "webhook_secret": "newest" }))
        .await;
    let old = client
        .webhook(&id)
        .header("X-Webhook-Signature", sign("old-key", body.as_bytes()))
        .body(body);
    assert_eq!(old.send().await.unwrap().status(), 401);
    let new = client
        .webhook(&id)
        .header("X-Webhook-Signature", sign("newest", body.as_bytes()))
        .body(body);
    assert_eq!(new.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_does_not_answer_gives_202_in_time_and_at_once_when_it_ends() {
    let options = ServerOptions {
        flags: vec!["--webhook-timeout", "3s"],
        ..ServerOptions::default()
    };
    let server = Server::start(options).await;
    let client = server.client();
    let slow = "export const pipeline = async () => { await new Promise(r => setTimeout(r, 6000)); http.respond({ status: 200 }); };";
    for (name, content, at_least, outcome) in [
        ("slow", slow, 3000, "success"),
        ("quiet", "export default () => {};", 0, "success"),
        (
            "throws",
            "export default async () => { throw new Error('no'); };",
            0,
            "failed",
        ),
    ] {
        let id = client.set(name, content, json!({})).await;
        let started = Instant::now();
        let response = client.webhook(&id).send().await.unwrap();
        let took = started.elapsed();
        assert_eq!(response.status(), 202);
        assert!(took >= Duration::from_millis(at_least), "{name}: {took:?}");
        if at_least == 0 {
            assert!(
                took < Duration::from_millis(2500),
                "{name} waited although the run had ended: {took:?}"
            );
        }
        let answer = json_of(response).await;
        let run = answer["run_id"].as_str().unwrap();
        assert_eq!(answer["pipeline_id"], json!(id));
        assert_eq!(client.finished(run).await["status"], outcome);
        if name == "slow" {
            let events = client.events(run).await;
            assert!(
                events.iter().any(|event| event["event"] == "reply_ignored"),
                "{events:?}"
            );
        }
        if name == "throws" {
            let log = client.logs(run).await;
            assert!(
                log.contains("Error: no") && log.contains("throws.ts:1:"),
                "{log}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_of_pipelines_are_contained() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    for (name, respond, status) in [
        (
            "twice",
            "http.respond({ status: 201 }); http.respond({ status: 500 });",
            201,
        ),
        ("bad-status", "http.respond({ status: 42 });", 500),
        (
            "crlf",
            r#"http.respond({ headers: { "X-A": "a\r\nSet-Cookie: b" } });"#,
            500,
        ),
        (
            "empty",
            "http.respond({ status: 204, body: 'ignored' });",
            204,
        ),
        ("default", "http.respond({ body: 'x' });", 200),
    ] {
        let id = client
            .set(
                name,
                &format!("export default async () => {{ {respond} }};"),
                json!({}),
            )
            .await;
        let response = client.webhook(&id).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{name}");
        assert!(!response.headers().contains_key("set-cookie"));
        if status == 204 {
            assert_eq!(response.bytes().await.unwrap().len(), 0);
        }
    }
    let large = "export default () => http.respond({ body: 'é'.repeat(1000000) });";
    let id = client.set("large", large, json!({})).await;
    let body = client
        .webhook(&id)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(body.len(), 2_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_a_limit_that_is_kept_while_reading() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let id = client.set("echo", ECHO, json!({})).await;
    let limit = 25 * 1024 * 1024;
    let fits = client
        .webhook(&id)
        .body(vec![b'x'; limit])
        .send()
        .await
        .unwrap();
    assert_eq!(json_of(fits).await["length"], json!(limit));
    for chunked in [false, true] {
        let address = server.url.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let framing = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            "Content-Length: 31457280".to_owned()
        };
        let head = format!("POST /api/webhooks/{id} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        if chunked {
            let mut piece = b"100000\r\n".to_vec();
            piece.extend(vec![b'x'; 0x10_0000]);
            piece.extend(b"\r\n");
            for _ in 0..30 {
                // The server stops reading at its limit.
                if stream.write_all(&piece).await.is_err() {
                    break;
                }
            }
        }
        let mut answer = vec![0; 64];
        let read = stream.read(&mut answer).await.unwrap_or(0);
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(
            answer.starts_with("HTTP/1.1 413"),
            "chunked={chunked}: {answer}"
        );
    }
    let many = client
        .webhook(&id)
        .header("x-big", "a".repeat(40_000))
        .send()
        .await
        .unwrap();
    assert_eq!(many.status(), 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paused_and_full_are_told_apart() {
    let options = ServerOptions {
        local_agent: false,
        flags: vec!["--max-queue-size", "2", "--webhook-timeout", "200ms"],
        ..ServerOptions::default()
    };
    let server = Server::start(options).await;
    let client = server.client();
    let refuses = json!({ "settings": { "webhook": { "on_paused": 409 } } });
    let id = client.set("p", ECHO, refuses).await;
    let status = async |id: &str| client.webhook(id).send().await.unwrap();
    assert_eq!(
        status("01a1fcb9-c1ee-7347-985c-ccdd686e6b5d")
            .await
            .status(),
        404
    );
    assert_eq!(status("nonsense").await.status(), 404);
    client
        .post(&format!("/api/pipelines/{id}/pause"), &json!({}))
        .await
        .unwrap();
    assert_eq!(status(&id).await.status(), 409);
    client
        .post(&format!("/api/pipelines/{id}/unpause"), &json!({}))
        .await
        .unwrap();
    assert_eq!(status(&id).await.status(), 202);
    assert_eq!(status(&id).await.status(), 202);
    let full = status(&id).await;
    assert_eq!(
        (
            full.status().as_u16(),
            full.headers()["retry-after"].to_str().unwrap()
        ),
        (503, "1")
    );
    let (_, page) = client.get("/api/runs").await.unwrap();
    assert_eq!(
        page["items"].as_array().unwrap().len(),
        2,
        "refused ones started nothing"
    );
    let (wrong, _) = client.get("/api/pipelines/p/trigger").await.unwrap();
    let (missing, _) = client.get("/api/nothing").await.unwrap();
    assert_eq!((wrong, missing), (405, 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_expression_filters_and_a_bad_one_is_told_in_the_log() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let content = r#"export default async () => {
      http.respond({ body: [
        'provider == "github" && eventType == "push" && payload.ref == "refs/heads/main"',
        'payload.ref matches "^refs/heads/"', 'payload.nothing.at.all == "x"', 'this is ( wrong',
      ].map(e => webhookTrigger(e)).join() });
    };"#;
    let id = client.set("filter", content, json!({})).await;
    let request = client
        .webhook(&id)
        .header("X-GitHub-Event", "push")
        .body(r#"{"ref":"refs/heads/main"}"#);
    assert_eq!(
        request.send().await.unwrap().text().await.unwrap(),
        "true,true,false,false"
    );
    let run = client.newest_run().await;
    client.finished(&run).await;
    assert!(
        client.logs(&run).await.contains("neither CEL"),
        "{}",
        client.logs(&run).await
    );
}
