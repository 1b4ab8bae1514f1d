//! Tokens, TLS, and what a pipeline cannot see.

use pocketci_tests::{Agent, Server, ServerOptions, until};
use serde_json::json;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_only_webhooks_and_health_are_open() {
    let flags = vec!["--auth-token", "right"];
    let server = Server::start(ServerOptions {
        flags,
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    for path in [
        "/api/pipelines",
        "/api/runs",
        "/api/agents",
        "/metrics",
        "/api/agent-tokens",
        "/api/secrets",
        "/api/gates",
    ] {
        let (status, told) = client.get(path).await.unwrap();
        assert_eq!(
            (status, &told["error"]["code"]),
            (401, &json!("unauthorized")),
            "{path}"
        );
        for (token, status) in [("right", 200), ("wrong", 401), ("", 401)] {
            let request = client
                .request(reqwest::Method::GET, path)
                .bearer_auth(token);
            assert_eq!(
                request.send().await.unwrap().status().as_u16(),
                status,
                "{path} {token}"
            );
        }
    }
    assert_eq!(client.get("/healthz").await.unwrap().0, 200);
    let unknown = client
        .webhook("01a1fcb9-c1ee-7347-985c-ccdd686e6b5d")
        .send()
        .await
        .unwrap();
    assert_eq!(unknown.status(), 404);
    assert!(
        !server.process.log().contains("right"),
        "the token is in the log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_sees_nothing_of_the_agents_environment() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let content = "export default async () => {
        const r = await runtime.run({ name: 'env', command: { path: 'env' } });
        http.respond({ body: r.stdout + Object.keys(globalThis).join() + typeof process + typeof require }); };";
    let id = client.set("p", content, json!({})).await;
    let seen = client
        .webhook(&id)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        !seen.contains("POCKETCI") && !seen.contains("CARGO"),
        "{seen}"
    );
    assert!(
        seen.contains("PATH=") && seen.ends_with("undefinedundefined"),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_listeners_speak_tls() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
        ])
        .args([
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
        ])
        .args([
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &path("key.pem"),
            "-out",
            &path("cert.pem"),
        ])
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let storage = format!("sqlite://{}", path("t.db"));
    let mut server = Command::new(pocketci_tests::pocketci());
    server.args([
        "server",
        "--no-local-agent",
        "--agent-token",
        "test-agent-token",
        "--port",
        "0",
        "--grpc-port",
        "0",
    ]);
    server.args([
        "--tls-cert",
        &path("cert.pem"),
        "--tls-key",
        &path("key.pem"),
        "--storage",
        &storage,
    ]);
    let log = std::fs::File::create(path("log")).unwrap();
    let mut server = server.stderr(log).spawn().unwrap();
    let line = async |prefix: &str| {
        until("the server says where it listens", || async {
            let log = std::fs::read_to_string(path("log")).ok()?;
            // The last one may be half written.
            log.split_inclusive('\n')
                .filter_map(|line| line.strip_suffix('\n'))
                .find_map(|line| line.strip_prefix(prefix))
                .map(str::to_owned)
        })
        .await
    };
    let (http, grpc) = (
        line("listening on ").await,
        line("agents connect to ").await,
    );
    let agent = Agent::start(&grpc, "tls", &["--tls-ca", &path("cert.pem")]);
    let certificate =
        reqwest::Certificate::from_pem(&std::fs::read(path("cert.pem")).unwrap()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .tls_certs_only([certificate])
        .build()
        .unwrap();
    until("the agent is connected over TLS", || async {
        let agents = client
            .get(format!("{http}/api/agents"))
            .send()
            .await
            .ok()?
            .text()
            .await
            .ok()?;
        agents.contains("\"connected\"").then_some(())
    })
    .await;
    drop(agent);
    server.kill().unwrap();
    server.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_dawdle_are_let_go() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let client = server.client();
    let id = client.set("any", "export default () => {};", json!({}));
    let path = format!("/api/webhooks/{}", id.await);
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n");
    let body = format!("{head}Content-Length: 10\r\n\r\nab");
    let dawdle = async |sent: &str| {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(std::time::Duration::from_secs(40), read)
            .await
            .expect("it is let go")
            .unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let (no_head, no_body) = tokio::join!(dawdle(&head), dawdle(&body));
    assert!(
        no_head.is_empty() || no_head.starts_with("HTTP/1.1 408"),
        "{no_head}"
    );
    assert!(
        no_body.starts_with("HTTP/1.1 408") && no_body.contains("did not arrive in time"),
        "{no_body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_nested_without_end_is_refused_and_the_server_lives() {
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let deep = format!(
        "export default {}1{};",
        "(".repeat(400_000),
        ")".repeat(400_000)
    );
    let request = client
        .request(reqwest::Method::PUT, "/api/pipelines/deep")
        .json(&json!({ "content": deep }));
    assert_eq!(request.send().await.unwrap().status(), 422);
    assert_eq!(client.get("/readyz").await.unwrap().0, 200);
}
