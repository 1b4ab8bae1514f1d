//! The other doors: CircleCI's and PIPEFORCE's addresses of an endpoint, listeners in YAML, and what does not fit through.

use pocketci_tests::client::sign;
use pocketci_tests::{Server, ServerOptions, TestDatabase, until};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const ANSWER: &str =
    "export default () => http.respond({ status: 200, body: JSON.stringify({ it: 'works' }) });";
/// Ends when it is stopped.
const NEVER: &str = "export default () => new Promise((done) => setTimeout(done, 3600_000));";
const SILENT: &str = "export default () => {};";
const SECRET: &str = "a-secret-in-the-url";

async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn endpoint(server: &Server, name: &str, body: Value) -> Value {
    let put = server
        .client()
        .request(Method::PUT, &format!("/api/endpoints/{name}"));
    let saved = put.json(&body).send().await.unwrap();
    let status = saved.status();
    let saved = json_of(saved).await;
    assert!(status.is_success(), "{saved}");
    saved
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_webhook_of_circleci_is_called_with_its_secret_in_the_url() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    client.set("answer", ANSWER, json!({})).await;
    let settings =
        json!({ "pipeline": "answer", "secret": SECRET, "settings": { "provider": "url-secret" } });
    let saved = endpoint(&server, "custom", settings).await;
    let uuid = saved["uuid"].as_str().unwrap();
    for door in ["/e", "/private/soc/e", "/api/webhooks"] {
        let at = |secret: &str| format!("{door}/{uuid}?secret={secret}");
        let post = |path: String| client.request(Method::POST, &path).json(&json!({ "a": 1 }));
        let right = post(at(SECRET)).send().await.unwrap();
        assert_eq!(right.status(), 200, "{door}");
        assert_eq!(right.headers()["referrer-policy"], "no-referrer");
        assert_eq!(json_of(right).await["it"], "works");
        assert_eq!(post(at("guess")).send().await.unwrap().status(), 401);
        let none = post(format!("{door}/{uuid}")).send().await.unwrap();
        assert_eq!(none.status(), 401, "{door}");
    }
    // Neither the secret nor the address is to be found afterwards.
    let (_, receipts) = client.get("/api/receipts?limit=100").await.unwrap();
    let items = receipts["items"].as_array().unwrap();
    assert_eq!(items.len(), 9);
    for item in items {
        let path = format!("/api/receipts/{}", item["id"].as_str().unwrap());
        let (_, shown) = client.get(&path).await.unwrap();
        let shown = shown.to_string();
        assert!(!shown.contains(SECRET) && !shown.contains(uuid), "{shown}");
    }
    let log = server.process.log();
    assert!(!log.contains(SECRET) && !log.contains(uuid), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_header_is_not_kept() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let pipeline =
        json!({ "webhook_secret": SECRET, "settings": { "webhook": { "provider": "gitlab" } } });
    let id = client.set("gitlab", ANSWER, pipeline).await;
    for (token, status) in [(SECRET, 200), ("another-token-of-somebody", 401)] {
        let push = client
            .webhook(&id)
            .header("x-gitlab-event", "Push Hook")
            .header("x-gitlab-token", token)
            .body("{}");
        assert_eq!(push.send().await.unwrap().status(), status);
    }
    let (_, receipts) = client.get("/api/receipts").await.unwrap();
    assert_eq!(receipts["items"].as_array().unwrap().len(), 2);
    for item in receipts["items"].as_array().unwrap() {
        let path = format!("/api/receipts/{}", item["id"].as_str().unwrap());
        let (_, shown) = client.get(&path).await.unwrap();
        let shown = shown.to_string();
        assert!(
            !shown.contains(SECRET) && !shown.contains("another-token"),
            "{shown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_polled_until_it_is_there() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let late = "export default () => new Promise((done) => setTimeout(() => {
        http.respond({ status: 200, body: JSON.stringify({ late: true }) }); done();
      }, 1500));";
    client
        .set(
            "late",
            late,
            json!({ "settings": { "webhook": { "reply_within_ms": 100 } } }),
        )
        .await;
    let saved = endpoint(
        &server,
        "late",
        json!({ "pipeline": "late", "settings": { "provider": "token", "reply_within_ms": 100 } }),
    )
    .await;
    let path = format!(
        "/api/v3/command/webhook.receive?uuid={}",
        saved["uuid"].as_str().unwrap()
    );
    let told = json_of(
        client
            .request(Method::POST, &path)
            .body("{}")
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(
        (&told["statusCode"], &told["status"], &told["value"]),
        (&json!(200), &json!("processing"), &Value::Null)
    );
    let id = told["correlationId"].as_str().unwrap();
    let following_none = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let result = format!("{}/api/v3/result?correlationId={id}", server.url);
    let done = until("the result is there", || async {
        let polled = following_none.get(&result).send().await.ok()?;
        assert!(matches!(polled.status().as_u16(), 200 | 302));
        (polled.status() == 200).then_some(polled)
    })
    .await;
    let done = json_of(done).await;
    // A reply that comes after the 202 is not kept: the run's end is told.
    assert_eq!(done["correlationId"], json!(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn yaml_listens_and_a_killed_server_tells_the_listeners_it_owes() {
    let database = TestDatabase::create().await;
    let mut server = Server::start(ServerOptions {
        storage: Some(database.url.clone()),
        local_agent: true,
        flags: vec!["--lease", "2s", "--accept-timeout", "1s"],
    })
    .await;
    let client = server.client();
    let yaml = "on: { event: builds.wanted, filter: 'payload.branch == \"main\"' }\njobs:\n- name: build\n  plan:\n  - do: []\n";
    let listening = client
        .set("yaml", yaml, json!({ "content_type": "yaml" }))
        .await;
    let paused = client
        .set(
            "paused",
            SILENT,
            json!({ "settings": { "on": { "event": "builds.wanted" } } }),
        )
        .await;
    let pause = |what: &'static str| {
        let (client, path) = (client.clone(), format!("/api/pipelines/{paused}/{what}"));
        async move { client.post(&path, &json!({})).await.unwrap() }
    };
    pause("pause").await;
    let saved = endpoint(
        &server,
        "in",
        json!({ "event": "builds.wanted", "settings": { "auth": "none" } }),
    )
    .await;
    let path = saved["path"].as_str().unwrap();
    let send = |branch: &str| {
        let body = json!({ "branch": branch }).to_string();
        client.request(Method::POST, path).body(body).send()
    };
    let told = json_of(send("main").await.unwrap()).await;
    let runs = told["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{told}");
    for run in runs
        .iter()
        .filter(|run| run["pipeline_id"] == json!(listening))
    {
        client.finished(run["run_id"].as_str().unwrap()).await;
    }
    let owed = runs.iter().find(|run| run["pipeline_id"] == json!(paused));
    let owed = owed.unwrap()["run_id"].as_str().unwrap();
    server.kill_and_restart().await;
    pause("unpause").await;
    client.finished(owed).await;
    // Once: what was finished after the death is not started again.
    let of = |id: &str| format!("/api/runs?pipeline={id}&limit=100");
    for id in [&listening, &paused] {
        let (_, page) = client.get(&of(id)).await.unwrap();
        assert_eq!(page["items"].as_array().unwrap().len(), 1);
    }
    let other = json_of(send("other").await.unwrap()).await;
    let (_, page) = client.get(&of(&listening)).await.unwrap();
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_a_pipeline_is_paused_is_done_when_it_goes_on() {
    let mut server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let id = client
        .set("silent", SILENT, json!({ "webhook_secret": SECRET }))
        .await;
    let change = |what: &'static str| {
        let (client, path) = (client.clone(), format!("/api/pipelines/{id}/{what}"));
        async move { client.post(&path, &json!({})).await.unwrap() }
    };
    change("pause").await;
    let send = || {
        let signed = sign(SECRET, b"{}");
        client
            .webhook(&id)
            .header("X-GitHub-Event", "push")
            .header("X-GitHub-Delivery", "one")
            .header("X-Hub-Signature-256", format!("sha256={signed}"))
            .body("{}")
            .send()
    };
    let begun = Instant::now();
    let told = send().await.unwrap();
    assert_eq!(told.status(), 202);
    let told = json_of(told).await;
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "nobody is waited for"
    );
    let run = told["run_id"].as_str().unwrap();
    let path = format!("/api/receipts/{}", told["receipt_id"].as_str().unwrap());
    let (_, receipt) = client.get(&path).await.unwrap();
    let reply = &receipt["reply"];
    assert_eq!(reply["status"], 202, "{receipt}");
    assert!(reply["body"].as_str().unwrap().contains(run), "{receipt}");
    let again = json_of(send().await.unwrap()).await;
    assert_eq!(again["duplicate"], true, "{again}");
    let (_, shown) = client.get(&format!("/api/runs/{run}")).await.unwrap();
    assert_eq!(shown["jobs"][0]["wait"]["reason"], "paused", "{shown}");
    server.kill_and_restart().await;
    change("unpause").await;
    client.finished(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_is_answered_before_it_gives_up() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let id = client
        .set("slow", NEVER, json!({ "webhook_secret": SECRET }))
        .await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let body = r#"{"type":"event_callback","event_id":"Ev1"}"#;
    let signed = sign(SECRET, format!("v0:{}:{body}", now.as_secs()).as_bytes());
    let begun = Instant::now();
    let event = client
        .webhook(&id)
        .header("x-slack-request-timestamp", now.as_secs().to_string())
        .header("x-slack-signature", format!("v0={signed}"))
        .body(body);
    assert_eq!(event.send().await.unwrap().status(), 202);
    let took = begun.elapsed();
    // --webhook-timeout is 5 s; Slack waits for 3.
    assert!(
        took >= Duration::from_millis(2400) && took < Duration::from_millis(4500),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_limits_and_say_once_what_decides() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let id = client
        .set("signed", ANSWER, json!({ "webhook_secret": SECRET }))
        .await;
    let digest = sign(SECRET, b"{}");
    let signed = || {
        client
            .webhook(&id)
            .header("x-webhook-signature", &digest)
            .body("{}")
    };
    assert_eq!(signed().send().await.unwrap().status(), 200);
    let mut many = signed();
    for number in 0..101 {
        many = many.header(format!("x-line-{number}"), "x");
    }
    assert_eq!(many.send().await.unwrap().status(), 431);
    let long = signed().header("x-long", "x".repeat(33 * 1024));
    assert_eq!(long.send().await.unwrap().status(), 431);
    let twice = signed().header("x-webhook-signature", &digest);
    assert_eq!(twice.send().await.unwrap().status(), 400);
    let path = format!("/api/webhooks/{id}?signature={digest}&signature={digest}");
    let query = client.request(Method::POST, &path).body("{}");
    assert_eq!(query.send().await.unwrap().status(), 400);
}
