//! Receiving points: endpoints, requests that come twice, rights of unverified runs, and what each caller is told.

use pocketci_tests::client::{Client, sign};
use pocketci_tests::{Server, ServerOptions};
use reqwest::{Method, Response};
use serde_json::{Value, json};

const ANSWER: &str =
    r#"export const pipeline = async () => { http.respond({ status: 201, body: "done" }); };"#;
const SILENT: &str = r#"export const pipeline = async () => {};"#;
const FAIL: &str = r#"export const pipeline = async () => { throw new Error("no"); };"#;

async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn endpoint(client: &Client, name: &str, body: Value) -> (u16, Value) {
    let request = client.request(Method::PUT, &format!("/api/endpoints/{name}"));
    let response = request.json(&body).send().await.unwrap();
    (response.status().as_u16(), json_of(response).await)
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_has_a_secret_url_and_secrets_that_rotate() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    client.set("answer", ANSWER, json!({})).await;
    let (status, refused) = endpoint(&client, "in", json!({"pipeline": "answer"})).await;
    assert_eq!(status, 400, "{refused}");
    let (status, refused) =
        endpoint(&client, "in", json!({"pipeline": "answer", "secret": ""})).await;
    assert_eq!(status, 400, "{refused}");
    let (status, saved) = endpoint(
        &client,
        "in",
        json!({"pipeline": "answer", "secret": "one"}),
    )
    .await;
    assert_eq!((status, &saved["created"]), (200, &json!(true)), "{saved}");
    let path = saved["path"].as_str().unwrap().to_owned();
    let signed = |path: &str, secret: &str| {
        client
            .request(Method::POST, path)
            .header("X-Webhook-Signature", sign(secret, b"{}"))
            .body("{}")
            .send()
    };
    let taken = signed(&path, "one").await.unwrap();
    assert_eq!(taken.status(), 201);
    assert_eq!(header(&taken, "referrer-policy"), "no-referrer");
    assert_eq!(signed(&path, "two").await.unwrap().status(), 401);
    let below = signed(&format!("{path}/below/it"), "one").await.unwrap();
    assert_eq!(below.status(), 201);
    let rotate = json!({"secret": "two", "grace_seconds": 600});
    let (status, rotated) = client
        .post("/api/endpoints/in/rotate", &rotate)
        .await
        .unwrap();
    assert_eq!(
        (
            status,
            rotated["endpoint"]["secrets"].as_array().unwrap().len()
        ),
        (200, 2)
    );
    assert!(!rotated.to_string().contains("\"two\""), "never shown");
    for secret in ["one", "two"] {
        assert_eq!(
            signed(&path, secret).await.unwrap().status(),
            201,
            "{secret}"
        );
    }
    let now = json!({"grace_seconds": 0});
    let (_, moved) = client
        .post("/api/endpoints/in/rotate-uuid", &now)
        .await
        .unwrap();
    let new = moved["path"].as_str().unwrap().to_owned();
    assert_eq!(signed(&path, "two").await.unwrap().status(), 404);
    assert_eq!(signed(&new, "two").await.unwrap().status(), 201);
    let unknown = json_of(signed(&path, "two").await.unwrap()).await;
    let (_, off) = endpoint(&client, "in", json!({"enabled": false})).await;
    assert_eq!(off["endpoint"]["enabled"], false);
    let disabled = signed(&new, "two").await.unwrap();
    assert_eq!(disabled.status(), 404);
    assert_eq!(
        json_of(disabled).await["error"]["code"],
        unknown["error"]["code"]
    );
    let uuid = saved["uuid"].as_str().unwrap();
    assert!(
        !server.process.log().contains(uuid),
        "a credential in the log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_proved_to_be_the_sender_is_the_only_one() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let learn = json!({"provider": "learn"});
    let id = client
        .set(
            "own",
            ANSWER,
            json!({"webhook_secret": "one", "settings": {"webhook": learn}}),
        )
        .await;
    let body = json!({"pipeline": "own", "secret": "one", "settings": learn});
    let (status, saved) = endpoint(&client, "in", body).await;
    assert_eq!(status, 200, "{saved}");
    let send = |path: &str, secret: &str, provider: &str| {
        let signature = sign(secret, b"{}");
        let request = client.request(Method::POST, path).body("{}");
        let request = match provider {
            "github" => request
                .header("X-GitHub-Event", "push")
                .header("X-Hub-Signature-256", format!("sha256={signature}")),
            _ => request.header("X-Webhook-Signature", signature),
        };
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let bound = async |path: &str| {
        let (_, shown) = client.get(path).await.unwrap();
        let settings = shown["settings"]
            .get("webhook")
            .unwrap_or(&shown["settings"]);
        settings["provider"].clone()
    };
    let own = format!("/api/webhooks/{id}");
    for (path, shown) in [
        (own.as_str(), "/api/pipelines/own"),
        (saved["path"].as_str().unwrap(), "/api/endpoints/in"),
    ] {
        assert_eq!(send(path, "guess", "generic").await, 401);
        assert_eq!(
            bound(shown).await,
            "learn",
            "{shown}: a stranger teaches nothing"
        );
        // Two that both know the secret: one is the first.
        let (github, generic) =
            tokio::join!(send(path, "one", "github"), send(path, "one", "generic"));
        let (first, other) = match github {
            201 => ("github", "generic"),
            _ => ("generic", "github"),
        };
        let mut statuses = [github, generic];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 401], "{shown}");
        assert_eq!(bound(shown).await, first, "{shown}");
        assert_eq!(send(path, "one", first).await, 201);
        assert_eq!(send(path, "one", other).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_comes_twice_is_one_run_unless_it_failed() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let dedup = json!({"settings": {"webhook": {"dedup_key": "payload.id"}}});
    let good = client.set("good", SILENT, dedup.clone()).await;
    let bad = client.set("bad", FAIL, dedup).await;
    let send = |id: &str| client.webhook(id).body(r#"{"id": 7}"#).send();
    let first = json_of(send(&good).await.unwrap()).await;
    let run = first["run_id"].as_str().unwrap();
    client.finished(run).await;
    let second = send(&good).await.unwrap();
    assert_eq!(second.status(), 200);
    let second = json_of(second).await;
    assert_eq!(
        (&second["duplicate"], &second["run_id"]),
        (&json!(true), &json!(run))
    );
    let first = json_of(send(&bad).await.unwrap()).await;
    client.finished(first["run_id"].as_str().unwrap()).await;
    let again = send(&bad).await.unwrap();
    assert_eq!(again.status(), 202, "the first one failed");
    assert_ne!(json_of(again).await["run_id"], first["run_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unverified_webhooks_run_gets_no_secrets_unless_its_pipeline_lends_them() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let program = r#"export const pipeline = async () => {
        await runtime.run({ name: "s", command: { path: "sh", args: ["-c", "echo got ${#TOKEN}"] },
            env: { TOKEN: "secret:TOKEN" } });
    };"#;
    let id = client
        .set("needs", program, json!({"driver": "native"}))
        .await;
    let put = client.request(Method::PUT, "/api/secrets/TOKEN");
    let put = put
        .json(&json!({"value": "0123456789"}))
        .send()
        .await
        .unwrap();
    assert!(put.status().is_success());
    let run = json_of(client.webhook(&id).send().await.unwrap()).await;
    let run = run["run_id"].as_str().unwrap().to_owned();
    let _ = client.finished(&run).await;
    let told = format!(
        "{} {:?}",
        client.logs(&run).await,
        client.events(&run).await
    );
    assert!(!told.contains("got 10"), "{told}");
    let lend = json!({"driver": "native", "settings": {"webhook": {"run_as": "pipeline"}}});
    client.set("needs", program, lend).await;
    let manual = client
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap()
        .1;
    client.finished(manual["run_id"].as_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_is_told_what_became_of_the_request() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let silent = client.set("silent", SILENT, json!({})).await;
    let accepted = client.webhook(&silent).body("{}").send().await.unwrap();
    assert_eq!(accepted.status(), 202, "it ended without an answer");
    assert!(header(&accepted, "location").starts_with("/api/runs/"));
    let told = json_of(accepted).await;
    assert_eq!(told["pipeline_id"], json!(silent));
    assert!(told["run_id"].is_string() && told["receipt_id"].is_string());
    let failing = client.set("failing", FAIL, json!({})).await;
    let told = client.webhook(&failing).send().await.unwrap();
    assert_eq!(told.status(), 202);
    let loud = json!({"settings": {"webhook": {"on_error": 500}}});
    client.set("failing", FAIL, loud).await;
    let told = client.webhook(&failing).send().await.unwrap();
    assert_eq!(told.status(), 500);
    assert_eq!(json_of(told).await["status"], "failed");
    let strict = json!({"settings": {"webhook": {
        "filter": "payload.wanted == true", "methods": ["POST"], "max_body_bytes": 100, "rate_per_minute": 6,
    }}});
    let strict = client.set("strict", SILENT, strict).await;
    let path = format!("/api/webhooks/{strict}");
    let filtered = client
        .webhook(&strict)
        .body(r#"{"wanted": false}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(filtered.status(), 200);
    assert_eq!(json_of(filtered).await["filtered"], true);
    let wanted = client
        .webhook(&strict)
        .body(r#"{"wanted": true}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(wanted.status(), 202);
    let method = client.request(Method::PUT, &path).send().await.unwrap();
    assert_eq!(
        (method.status().as_u16(), header(&method, "allow")),
        (405, "POST, HEAD, OPTIONS")
    );
    let options = client.request(Method::OPTIONS, &path).send().await.unwrap();
    assert_eq!(
        (options.status().as_u16(), header(&options, "allow")),
        (204, "POST, HEAD, OPTIONS")
    );
    assert_eq!(
        client
            .request(Method::HEAD, &path)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let large = client
        .webhook(&strict)
        .body(vec![b'x'; 101])
        .send()
        .await
        .unwrap();
    assert_eq!(large.status(), 413);
    let mut told = 0;
    for _ in 0..10 {
        let response = client.webhook(&strict).body("{}").send().await.unwrap();
        told = response.status().as_u16();
        if told == 429 {
            assert!(!header(&response, "retry-after").is_empty());
            break;
        }
    }
    assert_eq!(told, 429);
    let runs = client.get("/api/runs?limit=100").await.unwrap().1;
    let of_strict = runs["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|run| run["pipeline_id"] == json!(strict));
    assert_eq!(of_strict.count(), 1, "only one was wanted");
}
