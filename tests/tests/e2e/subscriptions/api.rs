//! The API of subscriptions: what it takes, what it refuses, what it never shows.

use super::{send, server};
use pocketci_tests::{Server, ServerOptions};
use reqwest::Method;
use serde_json::{Value, json};

const PUT: Method = Method::PUT;
const POST: Method = Method::POST;

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_set_changed_listed_and_removed() {
    let server = server().await;
    let client = server.client();
    let pipeline = client
        .set("deploy", "export default () => {};", json!({}))
        .await;
    let path = "/api/subscriptions/Sample%20Webhook";
    let first = json!({ "url": "https://receiver.example/hook?key=k", "events": ["job-completed", "workflow-completed"],
        "pipeline": "deploy", "secret": "hunter2", "headers": { "X-Api-Key": "top-secret" },
        "filter": "payload.workflow.status == \"failed\"", "schedule_seconds": [1, 2.5] });
    let (status, made) = send(&client, PUT, path, &first).await;
    assert_eq!((status, &made["created"]), (200, &json!(true)), "{made}");
    let shown = &made["subscription"];
    assert_eq!(shown["name"], "Sample Webhook");
    assert_eq!(
        shown["events"],
        json!(["workflow-completed", "job-completed"])
    );
    assert_eq!(shown["pipeline_id"], json!(pipeline));
    assert_eq!(
        shown["secrets"],
        json!([{ "id": "f52fbd32b2b3", "secret": "****" }])
    );
    assert_eq!(shown["headers"], json!({ "X-Api-Key": "***" }));
    assert_eq!(
        (&shown["state"], &shown["concurrency"]),
        (&json!("active"), &json!(4))
    );

    let id = shown["id"].as_str().unwrap();
    let change = json!({ "name": "other", "filter": null, "pipeline": null, "ordered": true });
    let (status, changed) = send(&client, PUT, &format!("/api/subscriptions/{id}"), &change).await;
    assert_eq!(
        (status, &changed["created"]),
        (200, &json!(false)),
        "{changed}"
    );
    let shown = &changed["subscription"];
    assert_eq!(
        (shown.get("filter"), shown.get("pipeline_id")),
        (None, None)
    );
    assert_eq!(
        shown["secrets"][0]["id"], "f52fbd32b2b3",
        "what is absent stays"
    );
    assert_eq!(shown["schedule_seconds"], json!([1.0, 2.5]));

    let (_, page) = client
        .get("/api/subscriptions?pipeline=deploy")
        .await
        .unwrap();
    assert_eq!(page["items"][0]["name"], "other");
    let (_, off) = send(
        &client,
        POST,
        "/api/subscriptions/other/disable",
        &json!({}),
    )
    .await;
    assert_eq!(
        (&off["state"], &off["disabled_reason"]),
        (&json!("disabled"), &json!("operator"))
    );
    let (status, told) = send(&client, POST, "/api/subscriptions/other/ping", &json!({})).await;
    assert_eq!(status, 409, "{told}");
    let (_, on) = send(&client, POST, "/api/subscriptions/other/enable", &json!({})).await;
    assert_eq!(on["state"], "active");
    let gone = client
        .request(Method::DELETE, "/api/subscriptions/other")
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 204);
    let (status, _) = client
        .get(&format!("/api/subscriptions/{id}"))
        .await
        .unwrap();
    assert_eq!(status, 404);
    // Nothing secret was said anywhere, and what is stored is sealed.
    let said = format!("{made}{changed}{page}{off}{on}{}", server.process.log());
    let stored: Vec<u8> = ["test.db", "test.db-wal"]
        .iter()
        .flat_map(|file| std::fs::read(server.home().join(file)).unwrap_or_default())
        .collect();
    for secret in ["hunter2", "top-secret"] {
        assert!(!said.contains(secret), "{secret} was shown");
        let found = stored
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(!found, "{secret} is stored as it is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_when_it_is_said() {
    let server = server().await;
    let client = server.client();
    let good = json!({ "url": "https://receiver.example/", "events": ["job-completed"] });
    let (status, _) = send(&client, PUT, "/api/subscriptions/taken", &good).await;
    assert_eq!(status, 200);
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    for (body, status, word) in [
        (
            json!({ "events": ["job-completed"] }),
            400,
            "url is missing",
        ),
        (
            json!({ "url": "https://receiver.example/" }),
            400,
            "events is missing",
        ),
        (
            with("url", json!("ftp://receiver.example/")),
            400,
            "http and https",
        ),
        (
            with("url", json!("https://a:b@receiver.example/")),
            400,
            "Authorization header",
        ),
        (
            with("events", json!(["job-done"])),
            400,
            "workflow-completed",
        ),
        (with("secret", json!("")), 400, "empty"),
        (with("filter", json!("payload.(")), 400, "filter"),
        (with("pipeline", json!("none")), 404, "none"),
        (with("name", json!("taken")), 409, "taken"),
        (with("colour", json!("red")), 400, "colour"),
        (with("headers", json!({ "Host": "x" })), 400, "Host"),
        (with("concurrency", json!(1000)), 400, "concurrency"),
    ] {
        let (got, told) = send(&client, PUT, "/api/subscriptions/new", &body).await;
        assert_eq!(got, status, "{body}: {told}");
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{body}: {message}");
    }
    let (status, _) = client.get("/api/subscriptions/new").await.unwrap();
    assert_eq!(status, 404, "nothing was stored");
    let odd = with("url", json!("http://10.1.2.3/"));
    let (_, told) = send(&client, PUT, "/api/subscriptions/odd", &odd).await;
    let warnings = told["warnings"].to_string();
    for word in ["http:", "--delivery-allow", "signed"] {
        assert!(warnings.contains(word), "{warnings}");
    }
    for (path, status) in [
        ("/api/deliveries?state=lost", 400),
        ("/api/deliveries?since=yesterday", 400),
        ("/api/deliveries?subscription=none", 404),
        ("/api/deliveries/x", 404),
        ("/api/deliveries/replay/x", 404),
        ("/api/deliveries", 200),
    ] {
        assert_eq!(client.get(path).await.unwrap().0, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_shows_its_secret_once() {
    let server = server().await;
    let client = server.client();
    let body =
        json!({ "url": "https://receiver.example/", "events": ["job-completed"], "secret": "old" });
    send(&client, PUT, "/api/subscriptions/s", &body).await;
    let path = "/api/subscriptions/s/rotate";
    let (status, rotated) = send(&client, POST, path, &json!({})).await;
    assert_eq!(status, 200, "{rotated}");
    let secret = rotated["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let secrets = &rotated["subscription"]["secrets"];
    assert!(secrets[0].get("not_after").is_none() && secrets[1]["not_after"].is_string());
    let (_, shown) = client.get("/api/subscriptions/s").await.unwrap();
    assert!(!shown.to_string().contains(secret));
    let (status, told) = send(&client, POST, path, &json!({ "cut_over": true })).await;
    assert_eq!(status, 400, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_guards_subscriptions_and_circlecis_header_is_taken() {
    let server = Server::start(ServerOptions {
        flags: vec!["--auth-token", "t0ken"],
        local_agent: false,
        ..ServerOptions::default()
    });
    let server = server.await;
    let client = server.client();
    for path in ["/api/subscriptions", "/api/deliveries", "/api/v2/webhook"] {
        assert_eq!(client.get(path).await.unwrap().0, 401, "{path}");
        for (header, value, allowed) in [
            ("circle-token", "t0ken", true),
            ("circle-token", "other", false),
            ("authorization", "Bearer t0ken", true),
        ] {
            let request = client.request(Method::GET, path).header(header, value);
            let status = request.send().await.unwrap().status().as_u16();
            assert_eq!(status != 401, allowed, "{path} {header}");
        }
    }
}
