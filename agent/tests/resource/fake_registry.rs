//! A registry of images on this machine.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// As much of a registry as the engine asks for.
#[derive(Default)]
pub(crate) struct Registry {
    blobs: HashMap<String, Vec<u8>>,
    pub(crate) manifests: HashMap<String, (String, Vec<u8>)>,
    pub(crate) logins: Vec<String>,
    /// Told of a manifest that is pushed, which then is never answered.
    pub(crate) held: Option<Arc<Notify>>,
}

/// Starts one; its port.
pub(crate) async fn start() -> (u16, Arc<Mutex<Registry>>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let registry = Arc::new(Mutex::new(Registry::default()));
    let serving = tokio::spawn(serve(listener, registry.clone()));
    (port, registry, serving)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

async fn serve(listener: TcpListener, registry: Arc<Mutex<Registry>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let registry = registry.clone();
        tokio::spawn(async move { connection(stream, registry).await });
    }
}

async fn connection(stream: TcpStream, registry: Arc<Mutex<Registry>>) -> Option<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        reader
            .read_line(&mut line)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        let mut parts = line.split_whitespace().map(str::to_owned);
        let (method, path) = (parts.next()?, parts.next()?);
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).await.ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let body = body(&mut reader, &headers).await?;
        let held = registry.lock().unwrap().held.clone();
        if let Some(held) = held.filter(|_| method == "PUT" && path.contains("/manifests/")) {
            held.notify_one();
            std::future::pending::<()>().await;
        }
        let (status, fields, answer) = answer(&registry, &method, &path, &headers, body);
        let length = answer.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{fields}\r\n");
        writer.write_all(head.as_bytes()).await.ok()?;
        if method != "HEAD" {
            writer.write_all(&answer).await.ok()?;
        }
    }
}

async fn body<R: tokio::io::AsyncBufRead + Unpin>(
    reader: &mut R,
    headers: &HashMap<String, String>,
) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length") {
        body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut body).await.ok()?;
    } else if headers.contains_key("transfer-encoding") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).await.ok()?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk).await.ok()?;
            if length == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
    Some(body)
}

fn answer(
    registry: &Mutex<Registry>,
    method: &str,
    path: &str,
    headers: &HashMap<String, String>,
    body: Vec<u8>,
) -> (&'static str, String, Vec<u8>) {
    let mut registry = registry.lock().unwrap();
    let Some(login) = headers.get("authorization") else {
        return (
            "401 Unauthorized",
            "WWW-Authenticate: Basic realm=\"x\"\r\n".into(),
            vec![],
        );
    };
    registry.logins.push(login.clone());
    let path = path.split('?').next().unwrap_or(path);
    let last = path.rsplit('/').next().unwrap_or_default().to_owned();
    let none = || ("404 Not Found", String::new(), vec![]);
    match method {
        "GET" | "HEAD" if path.trim_end_matches('/') == "/v2" => ("200 OK", String::new(), vec![]),
        "GET" | "HEAD" if path.contains("/blobs/") => match registry.blobs.get(&last) {
            Some(found) => (
                "200 OK",
                format!("Docker-Content-Digest: {last}\r\n"),
                found.clone(),
            ),
            None => none(),
        },
        "GET" | "HEAD" if path.contains("/manifests/") => match registry.manifests.get(&last) {
            Some((kind, found)) => {
                let digest = digest(found);
                let fields = format!("Content-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\n");
                ("200 OK", fields, found.clone())
            }
            None => none(),
        },
        "POST" => (
            "202 Accepted",
            format!("Location: {path}one\r\nRange: 0-0\r\n"),
            vec![],
        ),
        "PATCH" => {
            let key = format!("upload {path}{}", digest(&body));
            let location = format!(
                "Location: {path}?state={}\r\nRange: 0-{}\r\n",
                digest(&body),
                body.len().saturating_sub(1)
            );
            registry.blobs.insert(key, body.clone());
            registry.blobs.insert(digest(&body), body);
            ("202 Accepted", location, vec![])
        }
        "PUT" if path.contains("/blobs/") => ("201 Created", "Location: /v2/\r\n".into(), vec![]),
        "PUT" => {
            let kind = headers.get("content-type").cloned().unwrap_or_default();
            let digest = digest(&body);
            registry
                .manifests
                .insert(last, (kind.clone(), body.clone()));
            registry.manifests.insert(digest.clone(), (kind, body));
            (
                "201 Created",
                format!("Docker-Content-Digest: {digest}\r\nLocation: /v2/\r\n"),
                vec![],
            )
        }
        _ => none(),
    }
}
