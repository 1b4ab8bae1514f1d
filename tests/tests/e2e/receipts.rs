//! What operators do with receipts: find, look at, do again, and what is left when they are forgotten.

use pocketci_tests::client::sign;
use pocketci_tests::process::run;
use pocketci_tests::{Server, ServerOptions, until};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SECRET: &str = "receipts-secret";
/// Answers how many bytes came, and their digest, of which version of the program.
const PROGRAM: &str = "export default async () => {
  const r = http.request();
  const step = await runtime.run({ command: { path: 'sha256sum', args: ['in/body'] }, mounts: { 'in/body': r.bodyFile }, failOnError: true });
  console.log(`VERSION ${step.stdout.slice(0, 64)} ${r.headers['x-mark']} ${r.rawQuery} ${r.deliveryId}`);
  http.respond({ status: 201, headers: { 'x-own': 'yes' }, body: 'thanks' });
};";

fn program(version: &str) -> String {
    PROGRAM.replace("VERSION", version)
}

fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// `pocketci` with arguments for this server; what it printed.
fn pocketci(server: &Server, args: &[&str]) -> (Option<i32>, String, String) {
    let mut all = args.to_vec();
    all.extend(["--server", &server.url]);
    let output = run(&all);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

async fn only_receipt(server: &Server, query: &str) -> Value {
    until("the answer is recorded", || async {
        let (_, page) = server
            .client()
            .get(&format!("/api/receipts?{query}"))
            .await
            .ok()?;
        let items = page["items"].as_array()?;
        (items.len() == 1 && items[0]["status"].is_number()).then(|| items[0].clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_done_again_byte_for_byte() {
    let server = Server::start(ServerOptions {
        flags: vec!["--webhook-timeout", "30s"],
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let more = json!({ "webhook_secrets": [SECRET] });
    let id = client.set("again", &program("one"), more.clone()).await;
    let body: Vec<u8> = (0..5_000_000u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let answer = client
        .request(Method::POST, &format!("/api/webhooks/{id}?a=1&a=%20"))
        .header("x-webhook-signature", sign(SECRET, &body))
        .header("x-mark", "mark")
        .body(body.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let first = client.newest_run().await;
    let first = client.finished(&first).await;
    let receipt = only_receipt(&server, "pipeline=again").await;
    let receipt = receipt["id"].as_str().unwrap();
    client.set("again", &program("two"), more).await;
    let said = |version: &str| format!("{version} {} mark a=1&a=%20 undefined\n", sha(&body));
    let logs = client.logs(first["id"].as_str().unwrap()).await;
    assert!(logs.ends_with(&said("one")), "{logs}");

    let path = format!("/api/receipts/{receipt}/replay");
    let (status, rehearsed) = client
        .post(&path, &json!({ "dry_run": true }))
        .await
        .unwrap();
    assert_eq!(
        (status, &rehearsed["decisions"][0]["starts"]),
        (200, &json!(true))
    );
    let old = first["revision_id"].as_str().unwrap();
    for (wish, version) in [(json!({}), "two"), (json!({ "revision": old }), "one")] {
        let (status, done) = client.post(&path, &wish).await.unwrap();
        assert_eq!(status, 202, "{done}");
        let run = done["decisions"][0]["run_id"].as_str().unwrap();
        assert_eq!(client.finished(run).await["status"], "success");
        let logs = client.logs(run).await;
        assert!(logs.ends_with(&said(version)), "{logs}");
        let again = done["receipt_id"].as_str().unwrap();
        let (_, again) = client.get(&format!("/api/receipts/{again}")).await.unwrap();
        assert_eq!(
            (&again["replay_of"], &again["body_sha256"]),
            (&json!(receipt), &json!(sha(&body)))
        );
        assert_eq!(again["verified"], true);
    }
    let (_, original) = client
        .get(&format!("/api/receipts/{receipt}"))
        .await
        .unwrap();
    assert_eq!(original["replays"].as_array().unwrap().len(), 2);
    let (status, wrong) = client
        .post(
            &path,
            &json!({ "revision": "00000000-0000-7000-8000-000000000000" }),
        )
        .await
        .unwrap();
    assert_eq!(status, 409, "{wrong}");
    // The same wish starts nothing twice.
    let wish = json!({ "wish": uuid::Uuid::now_v7() });
    let (_, one) = client.post(&path, &wish).await.unwrap();
    let (_, two) = client.post(&path, &wish).await.unwrap();
    assert_eq!(one, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_found_and_explained() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let more = json!({ "webhook_secrets": [SECRET] });
    let id = client.set("look", "export default async () => { http.respond({ status: 201, headers: { 'x-own': 'yes' }, body: 'thanks' }) }", more).await;
    let refused = client
        .webhook(&id)
        .header("x-webhook-signature", "00")
        .header("authorization", "Bearer hidden")
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 401);
    let taken = client
        .webhook(&id)
        .header("x-webhook-signature", sign(SECRET, b"{}"))
        .header("authorization", "Bearer hidden")
        .body("{}")
        .send();
    assert_eq!(taken.await.unwrap().status(), 201);
    let accepted = only_receipt(&server, "verdict=accepted").await;
    let (_, shown) = client
        .get(&format!(
            "/api/receipts/{}",
            accepted["id"].as_str().unwrap()
        ))
        .await
        .unwrap();
    assert_eq!(
        (
            &shown["reply"]["status"],
            &shown["reply"]["body"],
            &shown["reply"]["by_pipeline"]
        ),
        (&json!(201), &json!("thanks"), &json!(true))
    );
    assert!(shown["answered_after_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(shown["runs"][0]["pipeline"], "look");
    let text = shown.to_string();
    assert!(
        text.contains("verified it") && !text.contains("hidden"),
        "{text}"
    );
    let other = only_receipt(&server, "verdict=unauthorized&text=signature").await;
    let other = other["id"].as_str().unwrap();
    let (code, printed, _) = pocketci(&server, &["receipt", other]);
    assert_eq!(code, Some(0));
    assert!(
        printed.contains("it was refused") && printed.contains("not kept"),
        "{printed}"
    );
    let (code, listed, _) = pocketci(
        &server,
        &["receipts", "--verdict", "accepted", "-p", "look"],
    );
    assert_eq!((code, listed.lines().count()), (Some(0), 2), "{listed}");
    let (code, _, said) = pocketci(&server, &["replay", other]);
    assert_eq!(code, Some(3));
    assert!(said.contains("was not taken"), "{said}");
    let (status, _) = client.get("/api/receipts?verdict=nonsense").await.unwrap();
    assert_eq!(status, 400);
    let (status, _) = client
        .get(&format!("/api/receipts/{other}/body"))
        .await
        .unwrap();
    assert_eq!(status, 410);
    let place = server.home().join("body");
    let place = place.to_str().unwrap();
    let accepted = accepted["id"].as_str().unwrap();
    let (code, ..) = pocketci(&server, &["receipt", accepted, "--body", place]);
    assert_eq!(code, Some(0));
    assert_eq!(std::fs::read(place).unwrap(), b"{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_are_done_again_in_their_order_and_once() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let id = client
        .set(
            "many",
            "export default async () => { console.log(http.request().body) }",
            json!({}),
        )
        .await;
    for number in 0..60 {
        let answer = client
            .webhook(&id)
            .body(number.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 202);
    }
    let (code, rehearsed, said) = pocketci(&server, &["replay", "-p", "many", "--dry-run"]);
    assert_eq!(
        (code, rehearsed.matches("would start").count()),
        (Some(0), 60),
        "{said}"
    );
    assert!(said.contains("60 receipts"), "{said}");
    let (code, ..) = pocketci(&server, &["replay"]);
    assert_eq!(code, Some(5));
    let wish = uuid::Uuid::now_v7().to_string();
    let mut bodies = Vec::new();
    let mut before = Vec::new();
    for _ in 0..2 {
        let (code, done, said) = pocketci(
            &server,
            &["replay", "-p", "many", "--wish", &wish, "--json"],
        );
        assert_eq!(code, Some(0), "{said}");
        let runs: Vec<String> = done
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| line["decisions"][0]["run_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(runs.len(), 60);
        if before.is_empty() {
            for run in &runs {
                client.finished(run).await;
                bodies.push(client.logs(run).await.trim().to_owned());
            }
        } else {
            assert_eq!(before, runs);
        }
        before = runs;
    }
    let expected: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    assert_eq!(bodies, expected);
    let (_, all) = client.get("/api/receipts?limit=200").await.unwrap();
    assert_eq!(all["items"].as_array().unwrap().len(), 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_says_so() {
    let mut server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let id = client
        .set("forget", "export default async () => {}", json!({}))
        .await;
    let answer = client
        .webhook(&id)
        .body("x".repeat(1000))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    let first = client.newest_run().await;
    client.finished(&first).await;
    let receipt = only_receipt(&server, "pipeline=forget").await;
    let receipt = receipt["id"].as_str().unwrap().to_owned();
    server.restart_with(&["--receipts-max-bytes", "10"]).await;
    let client = server.client();
    until("the body is forgotten", || async {
        let (_, found) = client.get(&format!("/api/receipts/{receipt}")).await.ok()?;
        (found["body_kept"] == false).then_some(())
    })
    .await;
    let again = |path: String| {
        let client = server.client();
        async move { client.post(&path, &json!({})).await.unwrap() }
    };
    let (status, said) = again(format!("/api/receipts/{receipt}/replay")).await;
    assert_eq!(
        (status, &said["error"]["code"]),
        (410, &json!("gone")),
        "{said}"
    );
    server.restart_with(&["--receipts-keep", "1ms"]).await;
    let client = server.client();
    until("the receipt is forgotten", || async {
        let (status, _) = client.get(&format!("/api/receipts/{receipt}")).await.ok()?;
        (status == 404).then_some(())
    })
    .await;
    let (status, said) = client
        .post(&format!("/api/runs/{first}/rerun"), &json!({}))
        .await
        .unwrap();
    assert_eq!(status, 410);
    assert!(said.to_string().contains("is forgotten"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_done_again_for_those_who_listen_now() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let program = "export default async () => { console.log(http.request().body) }";
    let listen = |filter: Value| json!({ "settings": { "on": [{ "event": "webhook.x", "filter": filter }] } });
    client.set("early", program, listen(Value::Null)).await;
    let put = client
        .request(Method::PUT, "/api/endpoints/x")
        .json(&json!({ "event": "webhook.x", "settings": { "auth": "none" } }))
        .send()
        .await
        .unwrap();
    let status = put.status();
    let saved: Value = serde_json::from_str(&put.text().await.unwrap()).unwrap();
    assert!(status.is_success(), "{saved}");
    let path = saved["path"].as_str().unwrap();
    let sent = client
        .request(Method::POST, path)
        .body("{\"n\":1}")
        .send()
        .await
        .unwrap();
    assert!(sent.status().is_success());
    let receipt = only_receipt(&server, "event=webhook.x").await;
    let receipt = receipt["id"].as_str().unwrap();
    client
        .set("late", program, listen(json!("payload.n == 1")))
        .await;
    client
        .set("other", program, listen(json!("payload.n == 2")))
        .await;
    let (status, done) = client
        .post(&format!("/api/receipts/{receipt}/replay"), &json!({}))
        .await
        .unwrap();
    assert_eq!(status, 202, "{done}");
    let mut seen = Vec::new();
    for decision in done["decisions"].as_array().unwrap() {
        if let Some(run) = decision["run_id"].as_str() {
            assert_eq!(client.finished(run).await["status"], "success");
            assert_eq!(client.logs(run).await, "{\"n\":1}\n");
        }
        let name = decision["pipeline"].as_str().unwrap().to_owned();
        seen.push((name, decision["run_id"].is_string()));
    }
    seen.sort();
    let expected = [("early", true), ("late", true), ("other", false)];
    assert_eq!(
        seen,
        expected.map(|(name, starts)| (name.to_owned(), starts))
    );
    let again = done["receipt_id"].as_str().unwrap();
    let (_, again) = client.get(&format!("/api/receipts/{again}")).await.unwrap();
    assert_eq!(again["runs"].as_array().unwrap().len(), 3, "{again}");
}
