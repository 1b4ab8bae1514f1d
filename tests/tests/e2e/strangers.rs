//! Strangers: what they cost, and what nobody but the sender may know.

use pocketci_tests::client::Client;
use pocketci_tests::{Server, ServerOptions};
use reqwest::{Method, Response};
use serde_json::{Value, json};

const SHOW: &str = r#"export const pipeline = async () => {
    const { headers } = http.request();
    http.respond({ status: 200, body: JSON.stringify(headers) });
};"#;

async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn receipts(client: &Client) -> usize {
    let (_, listed) = client.get("/api/receipts?limit=500").await.unwrap();
    listed["items"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_never_sees_the_credentials_of_a_request() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let settings =
        json!({ "webhook_secret": "hush", "settings": { "webhook": { "provider": "gitlab" } } });
    let id = client.set("show", SHOW, settings).await;
    let sent = client
        .webhook(&id)
        .header("x-gitlab-event", "Push Hook")
        .header("x-gitlab-token", "hush")
        .header("authorization", "Bearer hush")
        .header("cookie", "session=hush")
        .body("{}");
    let answer = sent.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = json_of(answer).await.to_string();
    assert!(
        seen.contains("x-gitlab-token") && seen.contains("***"),
        "{seen}"
    );
    assert!(!seen.contains("hush"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_leave_few_receipts_and_keep_nobody_out() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let settings =
        json!({ "webhook_secret": "hush", "settings": { "webhook": { "rate_per_minute": 3 } } });
    let id = client.set("show", SHOW, settings).await;
    for _ in 0..80 {
        let refused = client.webhook(&id).body("{}").send().await.unwrap();
        assert_eq!(refused.status(), 401);
    }
    let left = receipts(&client).await;
    // One more becomes free each second.
    assert!((60..80).contains(&left), "{left}");
    let signature = pocketci_tests::client::sign("hush", b"{}");
    let signed = || {
        let request = client.webhook(&id).body("{}");
        request.header("x-webhook-signature", &signature).send()
    };
    for _ in 0..3 {
        assert_eq!(signed().await.unwrap().status(), 200);
    }
    let before = receipts(&client).await;
    assert_eq!(signed().await.unwrap().status(), 429);
    assert_eq!(receipts(&client).await, before, "429 leaves none");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_pipeforces_door_keep_their_headers() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    client.set("show", SHOW, json!({})).await;
    let settings = json!({ "pipeline": "show", "settings": {
        "provider": "token", "methods": ["POST"], "rate_per_minute": 1 } });
    let put = client.request(Method::PUT, "/api/endpoints/door");
    let saved = json_of(put.json(&settings).send().await.unwrap()).await;
    let uuid = saved["uuid"].as_str().unwrap();
    let door = "/api/v3/command/webhook.receive";
    let path = format!("{door}?uuid={uuid}");
    let get = client.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(get.status(), 405);
    assert_eq!(get.headers()["allow"], "POST, HEAD, OPTIONS");
    assert_eq!(json_of(get).await["statusCode"], 405);
    let post = || client.request(Method::POST, &path).body("{}").send();
    assert_eq!(post().await.unwrap().status(), 200);
    let often = post().await.unwrap();
    assert_eq!(often.status(), 429);
    assert!(often.headers().contains_key("retry-after"));
    let form = format!("uuid={uuid}&x={}", "x".repeat(300 * 1024));
    let large = client
        .request(Method::POST, door)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let large = large.send().await.unwrap();
    assert_eq!(large.status(), 413, "no more is read to find whose it is");
    assert_eq!(json_of(large).await["status"], "error");
}
