//! What nobody signed has no rights: not by itself, not through what it sets, passes on, or has done again.

use pocketci_tests::client::sign;
use pocketci_tests::{Client, Server, ServerOptions, until};
use reqwest::Method;
use serde_json::{Value, json};

const SECRET: &str = "what-the-sender-signs-with";
/// Made by one job, given to the next, which wants a secret.
const CHAIN: &str = r#"
resources:
- name: made
  type: mock
  source: { no_initial_version: true }
jobs:
- name: make
  plan:
  - put: made
    params: { version: VERSION }
- name: use
  plan:
  - get: made
    passed: [make]
    trigger: true
  - task: show
    config:
      platform: linux
      params: { TOKEN: ((TOKEN)) }
      run: { path: sh, args: [-c, 'echo "got ${#TOKEN}"'] }
"#;
const SETS: &str = r#"
jobs:
- name: set
  plan:
  - task: write
    config:
      platform: linux
      outputs: [{ name: out }]
      run:
        path: sh
        args: [-c, 'printf "jobs:\n- name: later\n  plan:\n  - do: []\n" > out/p.yml']
  - set_pipeline: other
    file: out/p.yml
"#;

async fn server_with_secret() -> (Server, Client) {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let put = client.request(Method::PUT, "/api/secrets/TOKEN");
    let put = put.json(&json!({ "value": "0123456789" }));
    assert!(put.send().await.unwrap().status().is_success());
    (server, client)
}

/// The one run of a pipeline, at its end, with its output.
async fn only_run(client: &Client, id: &str) -> (Value, String) {
    let path = format!("/api/runs?pipeline={id}&limit=50");
    let (_, page) = client.get(&path).await.unwrap();
    let [run] = page["items"].as_array().unwrap().as_slice() else {
        panic!("{page}");
    };
    let run = run["id"].as_str().unwrap();
    (client.finished(run).await, client.logs(run).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_follow_in_a_run_without_rights_have_none() {
    let (_server, client) = server_with_secret().await;
    let yaml = |name: &str| CHAIN.replace("VERSION", &format!("\"{name}\""));
    let more = |more: Value| {
        let mut all = json!({ "content_type": "yaml" });
        for (key, value) in more.as_object().unwrap() {
            all[key] = value.clone();
        }
        all
    };
    let open = client.set("open", &yaml("a"), more(json!({}))).await;
    client.webhook(&open).body("{}").send().await.unwrap();
    let (ended, output) = only_run(&client, &open).await;
    assert_ne!(ended["status"], "success", "{output}");
    assert!(!output.contains("got 10"), "{output}");

    let signed = more(json!({ "webhook_secret": SECRET }));
    let signed = client.set("signed", &yaml("b"), signed).await;
    let webhook = client
        .webhook(&signed)
        .header("x-webhook-signature", sign(SECRET, b"{}"));
    let answer = webhook.body("{}").send().await.unwrap();
    assert!(answer.status().is_success());
    let (ended, output) = only_run(&client, &signed).await;
    assert_eq!(ended["status"], "success", "{output}");
    assert!(output.contains("got 10"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_rights_sets_no_pipeline() {
    let (_server, client) = server_with_secret().await;
    let open = client
        .set("open", SETS, json!({ "content_type": "yaml" }))
        .await;
    client.webhook(&open).body("{}").send().await.unwrap();
    let run = client.newest_run().await;
    let ended = client.finished(&run).await;
    let output = client.logs(&run).await;
    assert_ne!(ended["status"], "success", "{output}");
    assert!(output.contains("sets no pipelines"), "{output}");
    assert_eq!(client.get("/api/pipelines/other").await.unwrap().0, 404);
    let path = format!("/api/pipelines/{open}/trigger");
    let (_, started) = client.post(&path, &json!({})).await.unwrap();
    let run = started["run_id"].as_str().unwrap();
    let ended = client.finished(run).await;
    assert_eq!(ended["status"], "success", "{}", client.logs(run).await);
    assert_eq!(client.get("/api/pipelines/other").await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_not_done_again() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let settings =
        json!({ "webhook_secret": SECRET, "settings": { "webhook": { "run_as": "pipeline" } } });
    let id = client
        .set("signed", "export default () => {};", settings)
        .await;
    // Without a body there is nothing that was not kept.
    let forged = client.request(Method::GET, &format!("/api/webhooks/{id}"));
    assert_eq!(forged.send().await.unwrap().status(), 401);
    let receipt = until("the refusal is recorded", || async {
        let (_, page) = client.get("/api/receipts").await.ok()?;
        Some(page["items"][0]["id"].as_str()?.to_owned())
    })
    .await;
    let path = format!("/api/receipts/{receipt}/replay");
    let (status, told) = client.post(&path, &json!({})).await.unwrap();
    assert_eq!(status, 409, "{told}");
    assert!(told.to_string().contains("unauthorized"), "{told}");
    let (_, many) = client
        .post("/api/receipts/replay", &json!({ "filter": {} }))
        .await
        .unwrap();
    let (_, runs) = client.get("/api/runs").await.unwrap();
    assert!(runs["items"].as_array().unwrap().is_empty(), "{many}");
}
