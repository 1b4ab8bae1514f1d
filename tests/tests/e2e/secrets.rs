//! Secrets: encrypted where they rest, delivered to who holds the job, masked in everything that is printed.

use pocketci_tests::process::{run, run_with_input};
use pocketci_tests::{Server, ServerOptions, TestDatabase};
use reqwest::Method;
use serde_json::json;
use std::path::Path;

const SECRET: &str = "s3cr3t/vAlue+with spaces";

fn set(server: &Server, name: &str, value: &str, more: &[&str]) {
    let mut args = vec!["secrets", "set", name, "--server", &server.url];
    args.extend(more);
    let done = run_with_input(&args, &format!("{value}\n"));
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        if bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Prints its secret in every way a shell knows, in pieces too.
const TELLTALE: &str = r#"
export default async () => {
  const script = `
    echo plain $S; printf '%s' "$S" | base64; printf 'x%s' "$S" | base64; printf '%s' "$S" >&2
    first=$(printf '%s' "$S" | cut -c1-7); rest=$(printf '%s' "$S" | cut -c8-)
    printf '%s' "$first"; sleep 0.2; printf '%s\n' "$rest"; printf '%s' "$S" | wc -c
  `;
  const seen = [];
  const step = await runtime.run({
    name: "tell secret:S", command: { path: "sh", args: ["-c", script] }, env: { S: "secret:DEPLOY" },
    onOutput: (stream, text) => seen.push(text),
  });
  console.log("result", step.stdout, step.stderr);
  console.log("seen", seen.join(""));
  http.respond({ body: step.stdout });
  await runtime.run({ command: { path: "no-such-program" }, env: { S: "secret:DEPLOY" } }).catch((e) => console.log(e.message));
  await runtime.run({ command: { path: "true" }, env: { S: "secret:NOT_THERE" } }).catch((e) => console.log(e.message));
};
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reaches_its_step_and_nothing_else() {
    for postgres in [false, true] {
        let database = if postgres {
            Some(TestDatabase::create().await)
        } else {
            None
        };
        let server = Server::start(ServerOptions {
            storage: database.as_ref().map(|database| database.url.clone()),
            ..ServerOptions::default()
        })
        .await;
        let client = server.client();
        let id = client
            .set(
                "tell",
                TELLTALE,
                json!({"settings": {"webhook": {"run_as": "pipeline"}}}),
            )
            .await;
        set(&server, "DEPLOY", "everybody's", &[]);
        set(&server, "DEPLOY", SECRET, &["--pipeline", "tell"]);
        let answer = client
            .webhook(&id)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let run = client.newest_run().await;
        client.finished(&run).await;
        let log = client.logs(&run).await;
        let events = serde_json::to_string(&client.events(&run).await).unwrap();
        for text in [&answer, &log, &events] {
            assert!(
                !text.contains("s3cr3t") && !text.contains("czNjcjN0"),
                "{text}"
            );
            assert!(!text.contains("vAlue+with spaces"), "{text}");
        }
        assert!(log.contains("plain ***\n***"), "{log}");
        assert!(log.contains(&format!("{}\n", SECRET.len())), "{log}");
        assert!(
            log.contains("secret NOT_THERE is set neither for this pipeline nor for all"),
            "{log}"
        );
        let (_, listed) = client.get("/api/secrets?pipeline=tell").await.unwrap();
        assert_eq!(listed[0]["name"], "DEPLOY");
        assert!(!listed.to_string().contains("s3cr3t"));
        assert!(!server.process.log().contains("s3cr3t"));
        if !postgres {
            assert!(files_with(server.home(), "s3cr3t").is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_changed_without_losing_anything() {
    let mut server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let hook = json!({ "webhook_secret": "webhook-s3cr3t" });
    let id = client
        .set("p", "export default async () => { const r = await runtime.run({ command: { path: 'sh', args: ['-c', 'test \"$S\" = \"s3cr3t value\"'] }, env: { S: 'secret:S' } }); http.respond({ body: String(r.code) }); };", hook)
        .await;
    set(&server, "S", "s3cr3t value", &[]);
    let holds = |client: pocketci_tests::Client, id: String| async move {
        let unsigned = client.webhook(&id).body("x").send().await.unwrap();
        assert_eq!(unsigned.status(), 401);
        let signature = pocketci_tests::client::sign("webhook-s3cr3t", b"x");
        let signed = client
            .webhook(&id)
            .header("X-Webhook-Signature", signature)
            .body("x");
        assert_eq!(signed.send().await.unwrap().text().await.unwrap(), "0");
    };
    holds(client.clone(), id.clone()).await;
    assert!(files_with(server.home(), "webhook-s3cr3t").is_empty());

    let old = server.home().join("test.db.key").display().to_string();
    let new = server.home().join("new.key").display().to_string();
    let (code, told) = server.refuses(&["--secret-key-file", &new]);
    assert_eq!(code, Some(5), "{told}");
    assert!(told.contains("--old-secret-key-file"), "{told}");

    server
        .restart_with(&["--secret-key-file", &new, "--old-secret-key-file", &old])
        .await;
    holds(server.client(), id.clone()).await;
    let rotated = run(&["secrets", "rotate", "--server", &server.url]);
    assert_eq!(
        String::from_utf8_lossy(&rotated.stdout),
        "2 secrets encrypted with the current key\n"
    );
    let again = run(&["secrets", "rotate", "--server", &server.url]);
    assert!(String::from_utf8_lossy(&again.stdout).starts_with("0 secrets"));
    // The old key is not needed any more.
    std::fs::write(&old, "00".repeat(32)).unwrap();
    server.restart_with(&[]).await;
    holds(server.client(), id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_listed_by_name_and_refused_where_they_cannot_be() {
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    set(&server, "A/b-1", "12345", &[]);
    let listed = run(&["secrets", "ls", "--server", &server.url]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.contains("A/b-1") && !listed.contains("12345"),
        "{listed}"
    );
    let put = |name: &'static str, body: serde_json::Value| {
        let request = client
            .request(Method::PUT, &format!("/api/secrets/{name}"))
            .json(&body);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(put("A%20b", json!({ "value": "x" })).await, 400);
    assert_eq!(put("A", json!({ "value": "" })).await, 400);
    assert_eq!(
        put("A", json!({ "value": "x".repeat(65 * 1024) })).await,
        400
    );
    assert_eq!(
        put("A", json!({ "value": "x", "pipeline": "nobody" })).await,
        404
    );
    let gone = run(&["secrets", "rm", "A/b-1", "--server", &server.url]);
    assert!(gone.status.success());
    set(&server, "plain", "12345", &[]);
    assert!(
        run(&["secrets", "rm", "plain", "--server", &server.url])
            .status
            .success()
    );
    assert_eq!(
        run(&["secrets", "rm", "plain", "--server", &server.url])
            .status
            .code(),
        Some(3)
    );
}
