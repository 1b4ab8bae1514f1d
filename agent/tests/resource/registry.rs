//! `registry-image` through the engine: what only it has, and a registry of the test's own.

use super::support::*;
use pocketci_agent::container::NewVolume;
use pocketci_agent::resource::{ResourceSpec, Stop};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

fn image(name: &str) -> ResourceSpec {
    let (repository, tag) = name.rsplit_once(':').unwrap();
    resource(
        "registry-image",
        json!({"repository": repository, "tag": tag}),
    )
}

#[tokio::test]
async fn what_only_the_engine_has_is_its_id() {
    let test = "localimage";
    let job = Job::new(docker(), test, Vec::new());
    let made = job.image(&[("hello", "true")], "nobody").await;
    let spec = image(&made);
    let found = job.check(&spec, None).await.unwrap();
    assert!(found[0]["digest"].starts_with("sha256:"), "{found:?}");
    assert!(
        job.log()
            .await
            .contains("is not to be had from its registry")
    );
    let (_, artifact) = job.get(&spec, &found[0], json!({})).await.unwrap();
    assert_eq!(artifact.image.as_deref(), Some(found[0]["digest"].as_str()));
    assert_eq!(job.read(&artifact, "digest").await, found[0]["digest"]);
    assert!(
        job.read(&artifact, "metadata.json")
            .await
            .contains("IMAGE=yes")
    );
    // With its files, which make the same image again.
    let (_, files) = job
        .get(&spec, &found[0], json!({"format": "rootfs"}))
        .await
        .unwrap();
    assert!(
        job.read(&files, "rootfs/opt/resource/hello")
            .await
            .contains("true")
    );
    let bare = pocketci_agent::resource::Artifact {
        image: None,
        ..files
    };
    let again = job.resources.image_of(&bare, &job.io).await.unwrap();
    let config = job
        .driver
        .engine()
        .unwrap()
        .image_config(&again, None)
        .await
        .unwrap();
    assert_eq!(config.user, "nobody");
    let said = errored(job.check(&image("pocketci-test/none:1"), None).await);
    assert!(said.contains("pocketci-test/none:1"), "{said}");
    let bad = version(&[("digest", "sha256:../../etc")]);
    assert!(errored(job.get(&spec, &bad, json!({})).await).contains("version.digest"));
    let said = errored(
        job.check(
            &resource("registry-image", json!({"repositori": "x"})),
            None,
        )
        .await,
    );
    assert!(said.contains("`repositori`"), "{said}");
    job.resources.release().await;
    sweep(test).await;
}

#[tokio::test]
async fn images_need_an_engine() {
    let job = Job::new(native(), "noengine", Vec::new());
    let said = errored(job.check(&image("busybox:1"), None).await);
    assert!(said.contains("--driver docker"), "{said}");
}

/// As much of a registry as the engine asks for.
#[derive(Default)]
struct Registry {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, (String, Vec<u8>)>,
    logins: Vec<String>,
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

#[tokio::test]
async fn an_archive_is_pushed_checked_pulled_and_takes_no_name_of_its_own() {
    let test = "pushed";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let registry = Arc::new(Mutex::new(Registry::default()));
    let serving = tokio::spawn(serve(listener, registry.clone()));
    let job = Job::new(docker(), test, Vec::new());
    let engine = job.driver.engine().unwrap();
    // An archive that says it were busybox.
    let before = job.check(&image(&busybox()), None).await.unwrap();
    let made = job.image(&[("hello", "true")], "").await;
    let local = image(&made);
    let id = job.check(&local, None).await.unwrap();
    let (_, saved) = job
        .get(&local, &id[0], json!({"format": "oci"}))
        .await
        .unwrap();
    let rename = format!(
        "cd v; mkdir x; cd x; tar xf ../image.tar; sed -i 's#\"RepoTags\":[^,]*#\"RepoTags\":[\"{}\"]#' manifest.json; tar cf ../image.tar *; cd ..; rm -r x; echo extra >tags",
        busybox()
    );
    let new = NewVolume {
        name: "a",
        labels: labels(test),
        owner: None,
    };
    let evil = job.driver.derive_volume(&saved.volume, new).await.unwrap();
    job.shell(&busybox(), &rename, &evil).await;
    let archive = pocketci_agent::resource::Artifact {
        volume: evil,
        image: None,
    };
    let remote = resource(
        "registry-image",
        json!({"repository": format!("127.0.0.1:{port}/team/app"), "tag": "1", "username": "me", "password": "hunter2"}),
    );
    let params = json!({"image": "img/image.tar", "additional_tags": "img/tags"});
    let put = job
        .put(&remote, params, &[("img", &archive)])
        .await
        .unwrap();
    assert_eq!(
        job.check(&image(&busybox()), None).await.unwrap(),
        before,
        "busybox is what it was"
    );
    assert_eq!(
        job.check(&remote, None).await.unwrap(),
        std::slice::from_ref(&put.version)
    );
    assert!(registry.lock().unwrap().manifests.contains_key("extra"));
    // Basic me:hunter2
    assert!(
        registry
            .lock()
            .unwrap()
            .logins
            .iter()
            .all(|login| login == "Basic bWU6aHVudGVyMg==")
    );
    let (fetched, artifact) = job.get(&remote, &put.version, json!({})).await.unwrap();
    assert_eq!(fetched.version, put.version);
    let pulled = artifact.image.clone().unwrap();
    assert_eq!(
        pulled,
        format!("127.0.0.1:{port}/team/app@{}", put.version["digest"])
    );
    let said = job
        .shell(
            &pulled,
            "cat /opt/resource/hello; echo $IMAGE",
            &artifact.volume,
        )
        .await;
    assert!(said.ends_with("yes\n"), "{said}");
    assert!(!job.log().await.contains("hunter2"));
    engine.remove_image(&pulled).await;
    serving.abort();
    job.resources.release().await;
    sweep(test).await;
}

#[tokio::test]
async fn an_archive_that_is_none_is_refused() {
    let test = "noarchive";
    let job = Job::new(docker(), test, Vec::new());
    let artifact = job.artifact(&[("image.tar", "no archive at all")]).await;
    let remote = image("127.0.0.1:1/team/app:1");
    let put = job
        .put(
            &remote,
            json!({"image": "a/image.tar"}),
            &[("a", &artifact)],
        )
        .await;
    assert!(matches!(put, Err(Stop::Errored(_))), "{put:?}");
    let put = job
        .put(&remote, json!({"image": "a/none.tar"}), &[("a", &artifact)])
        .await;
    assert!(errored(put).contains("no such file"));
    sweep(test).await;
}
