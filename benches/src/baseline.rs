//! What the figures are compared with, in the same run on the same machine.

use crate::load::Shot;
use anyhow::Context;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SECRET: &str = "bench-secret";

/// A push of about a kilobyte, signed as GitHub does.
pub fn signed_shot(address: &str, path: &str, secret: &str, status: u16) -> Shot {
    let commits = "x".repeat(900);
    let body = Bytes::from(format!(
        "{{\"ref\":\"refs/heads/main\",\"message\":\"{commits}\"}}"
    ));
    let digest = hex::encode(mac(secret).chain_update(&body).finalize().into_bytes());
    Shot {
        address: address.to_owned(),
        path: path.to_owned(),
        headers: vec![
            ("content-type".into(), "application/json".into()),
            ("x-github-event".into(), "push".into()),
            ("x-hub-signature-256".into(), format!("sha256={digest}")),
        ],
        body,
        status,
        unique: None,
    }
}

fn mac(secret: &str) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length")
}

/// A handler in this process that only verifies; a shot at it.
pub async fn bare_handler() -> anyhow::Result<Shot> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let app = axum::Router::new()
        .route("/hook", axum::routing::post(verify))
        .with_state(mac(SECRET));
    // Ends with the process.
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(signed_shot(&address, "/hook", SECRET, 200))
}

async fn verify(State(mac): State<Hmac<Sha256>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let digest = headers
        .get("x-hub-signature-256")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("sha256="))
        .and_then(|text| hex::decode(text).ok())
        .unwrap_or_default();
    match mac.chain_update(&body).verify_slice(&digest) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::UNAUTHORIZED,
    }
}

/// Debian's `webhook`: a process for each request, signature checked, nothing stored.
pub struct DebianWebhook {
    child: Child,
    _home: tempfile::TempDir,
    /// A signed request for it.
    pub shot: Shot,
}

impl DebianWebhook {
    /// Starts it; `None` where it is not installed.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        let home = tempfile::tempdir()?;
        let hooks = home.path().join("hooks.json");
        let rule = serde_json::json!([{
            "id": "bench", "execute-command": "/bin/echo", "include-command-output-in-response": true,
            "trigger-rule": { "match": { "type": "payload-hmac-sha256", "secret": SECRET,
                "parameter": { "source": "header", "name": "X-Hub-Signature-256" } } }
        }]);
        std::fs::write(&hooks, rule.to_string())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let child = Command::new("webhook")
            .args([
                "-hooks",
                hooks.to_str().context("path")?,
                "-ip",
                "127.0.0.1",
                "-port",
                &port.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else { return Ok(None) };
        let address = format!("127.0.0.1:{port}");
        let started = Instant::now();
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            anyhow::ensure!(
                started.elapsed() < Duration::from_secs(10),
                "webhook did not start"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let shot = signed_shot(&address, "/hooks/bench", SECRET, 200);
        Ok(Some(Self {
            child,
            _home: home,
            shot,
        }))
    }
}

impl Drop for DebianWebhook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Single-row INSERTs of a kilobyte, a commit each, in a second.
pub async fn insert_commits(
    url: &str,
    connections: usize,
    lasting: Duration,
) -> anyhow::Result<f64> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute("DROP TABLE IF EXISTS bench_rows; CREATE TABLE bench_rows (id uuid PRIMARY KEY, body bytea)")
        .await?;
    let end = Instant::now() + lasting;
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let url = url.to_owned();
            tokio::spawn(async move {
                let (client, connection) =
                    tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
                tokio::spawn(connection);
                let statement = client
                    .prepare("INSERT INTO bench_rows VALUES ($1, $2)")
                    .await?;
                let body = vec![b'x'; 1000];
                let mut count = 0u64;
                while Instant::now() < end {
                    client
                        .execute(&statement, &[&uuid::Uuid::now_v7(), &body])
                        .await?;
                    count += 1;
                }
                anyhow::Ok(count)
            })
        })
        .collect();
    let mut total = 0;
    for worker in workers {
        total += worker.await??;
    }
    client.batch_execute("DROP TABLE bench_rows").await?;
    Ok(total as f64 / lasting.as_secs_f64())
}
