//! Odd requests that must be taken as they are: packed bodies, JSON at its edges, callers that hang up.

use pocketci_tests::client::sign;
use pocketci_tests::{Server, ServerOptions, until};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SECRET: &str = "a-secret";
/// Two thousand letters in JSON, by gzip.
const PACKED: [u8; 46] = [
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 74, 202, 207, 77, 82, 178, 82, 80, 170, 24, 5, 163,
    96, 20, 140, 130, 81, 48, 10, 70, 193, 144, 7, 74, 181, 0, 176, 227, 13, 94, 220, 7, 0, 0,
];

async fn told(response: reqwest::Response) -> Value {
    assert_eq!(response.status(), 200);
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_body_is_verified_and_given_as_it_was_sent() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let content = "export default async () => {
      const req = http.request();
      const bytes = new Uint8Array(await req.arrayBuffer());
      http.respond({ body: JSON.stringify({ length: bytes.length, first: bytes[0], how: req.headers['Content-Encoding'],
        payload: webhookTrigger('payload == null') }) });
    };";
    let id = client
        .set("packed", content, json!({ "webhook_secret": SECRET }))
        .await;
    let send = |signed: &[u8]| {
        client
            .webhook(&id)
            .header("Content-Encoding", "gzip")
            .header("Content-Type", "application/json")
            .header("X-Webhook-Signature", sign(SECRET, signed))
            .body(PACKED.to_vec())
            .send()
    };
    let taken = told(send(&PACKED).await.unwrap()).await;
    let wanted = json!({ "length": PACKED.len(), "first": 31, "how": "gzip", "payload": true });
    assert_eq!(taken, wanted);
    let unpacked = format!("{{\"bomb\": \"{}\"}}", "x".repeat(2000));
    let refused = send(unpacked.as_bytes()).await.unwrap();
    assert_eq!(refused.status(), 401, "nothing is unpacked to be verified");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_at_its_edges_is_kept_and_breaks_nothing() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let content = "export default async () => {
      const ask = ['payload.a == 2', 'payload == null'];
      http.respond({ body: JSON.stringify({ said: ask.map((one) => webhookTrigger(one)), body: http.request().body }) });
    };";
    let id = client.set("edges", content, json!({})).await;
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    for (body, said) in [
        // Of a name that comes twice the last one counts.
        (r#"{"a":1,"a":2}"#, [true, false]),
        (
            r#"{"a":2,"n":12345678901234567890123,"x":1.0e400}"#,
            [false, true],
        ),
        (r#"{"a":2,"n":9007199254740993}"#, [true, false]),
        (deep.as_str(), [false, true]),
        ("{\"a\":2", [false, true]),
    ] {
        let sent = client.webhook(&id).body(body.to_owned()).send();
        let taken = told(sent.await.unwrap()).await;
        assert_eq!(taken["body"], body, "to the last digit");
        assert_eq!(taken["said"], json!(said), "{body:.60}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_when_its_caller_hangs_up() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let content = "export default async () => {
      await new Promise((done) => setTimeout(done, 2500));
      http.respond({ status: 200 });
      console.log('to the end');
    };";
    let id = client.set("late", content, json!({})).await;
    let address = server.url.strip_prefix("http://").unwrap();
    let mut caller = TcpStream::connect(address).await.unwrap();
    let request =
        format!("POST /api/webhooks/{id} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}");
    caller.write_all(request.as_bytes()).await.unwrap();
    let run = until("the run is there", || async {
        let (_, page) = client.get("/api/runs").await.ok()?;
        page["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    drop(caller);
    let receipt = until("the receipt says it", || async {
        let (_, page) = client.get("/api/receipts").await.ok()?;
        let receipt = page["items"][0].clone();
        (receipt["status"] == 499).then_some(receipt)
    })
    .await;
    assert_eq!(
        (&receipt["verdict"], &receipt["run_id"]),
        (&json!("accepted"), &json!(run))
    );
    let waited = Duration::from_millis(receipt["answered_after_ms"].as_f64().unwrap() as u64);
    assert!(waited < Duration::from_millis(2500), "{waited:?}");
    client.finished(&run).await;
    let (_, ended) = client.get(&format!("/api/runs/{run}")).await.unwrap();
    assert_eq!(ended["status"], "success");
    assert!(client.logs(&run).await.contains("to the end"));
}
