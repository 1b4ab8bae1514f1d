//! Large, binary and multipart bodies: signed over the raw bytes, read in JavaScript, mounted into steps, bounded.

use futures_util::stream;
use pocketci_tests::client::{Client, sign};
use pocketci_tests::{Server, ServerOptions, required};
use reqwest::{Body, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECRET: &str = "upload-secret";
const BOUNDARY: &str = "----pocketci";

/// Bytes that are no text and do not repeat in step with any page.
fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn part(head: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n");
    [head.as_bytes(), bytes, b"\r\n"].concat()
}

/// A field that comes twice, and two files of several megabytes.
fn upload(one: &[u8], two: &[u8]) -> Vec<u8> {
    [
        part("name=\"tag\"", b"a"),
        part(
            "name=\"file\"; filename=\"../../x\"\r\nContent-Type: image/png",
            one,
        ),
        part("name=\"tag\"", "ü".as_bytes()),
        part("name=\"file\"; filename=\"two.bin\"", two),
        format!("--{BOUNDARY}--\r\n").into_bytes(),
    ]
    .concat()
}

async fn send(
    client: &Client,
    id: &str,
    body: Vec<u8>,
    chunked: bool,
    signature: &str,
) -> Response {
    let body = match chunked {
        false => Body::from(body),
        true => {
            let pieces: Vec<_> = body.chunks(100_000).map(<[u8]>::to_vec).collect();
            Body::wrap_stream(stream::iter(
                pieces.into_iter().map(Ok::<_, std::io::Error>),
            ))
        }
    };
    client
        .webhook(id)
        .header(
            "content-type",
            format!("multipart/form-data; boundary={BOUNDARY}"),
        )
        .header("x-webhook-signature", signature)
        .body(body)
        .send()
        .await
        .unwrap()
}

async fn json_of(response: Response) -> Value {
    let status = response.status();
    let text = response.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"))
}

/// Reads one file in JavaScript, mounts both into a step, and answers what all of them saw.
fn program(image: &str) -> String {
    format!(
        "export const pipeline = async () => {{
           const req = http.request();
           const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, '0')).join('');
           const [one, two] = req.files;
           const seen = hex(await crypto.subtle.digest('SHA-256', await one.arrayBuffer()));
           const step = await runtime.run({{ name: 'look', image: '{image}', failOnError: true,
             command: {{ path: 'sh', args: ['-c', 'cd {place}in && sha256sum a b raw && wc -c < a && test ! -e x'] }},
             mounts: {{ '{place}in/a': one, '{place}in/b': two, '{place}in/raw': req.bodyFile }} }});
           http.respond({{ body: JSON.stringify({{ files: req.files, form: req.form, seen, out: step.stdout, verified: req.verified,
             encoding: req.contentType, payload: req.payload }}) }});
         }};",
        place = if image.is_empty() { "" } else { "/" },
    )
}

async fn upload_is_seen_everywhere(driver: &str, image: &str) {
    let server = Server::start(ServerOptions {
        local_agent: false,
        flags: vec!["--webhook-timeout", "60s"],
        ..ServerOptions::default()
    })
    .await;
    let _agent = server.agent("uploads", &[]);
    server.agents_connected(1).await;
    let client = server.client();
    let more = json!({ "driver": driver, "webhook_secrets": [SECRET] });
    let id = client.set("upload", &program(image), more).await;
    let (one, two) = (bytes(3_000_001, 1), bytes(2_500_000, 2));
    let body = upload(&one, &two);
    for chunked in [false, true] {
        let signature = sign(SECRET, &body);
        let seen = json_of(send(&client, &id, body.clone(), chunked, &signature).await).await;
        let file = |name: &str, kind: &str, bytes: &[u8]| json!({ "name": "file", "filename": name, "contentType": kind, "size": bytes.len(), "sha256": sha(bytes) });
        assert_eq!(
            seen["files"],
            json!([
                file("../../x", "image/png", &one),
                file("two.bin", "", &two)
            ])
        );
        assert_eq!(seen["form"], json!({ "tag": ["a", "ü"] }));
        assert_eq!(
            (&seen["seen"], &seen["verified"]),
            (&json!(sha(&one)), &json!(true))
        );
        let out = format!(
            "{}  a\n{}  b\n{}  raw\n3000001\n",
            sha(&one),
            sha(&two),
            sha(&body)
        );
        assert_eq!(seen["out"], json!(out));
        let (_, receipts) = client.get("/api/receipts?limit=1").await.unwrap();
        let receipt = receipts["items"][0]["id"].as_str().unwrap();
        let kept = client.request(
            reqwest::Method::GET,
            &format!("/api/receipts/{receipt}/body"),
        );
        let kept = kept.send().await.unwrap().bytes().await.unwrap();
        assert!(kept == body, "the kept body differs");
    }
    // One bit, in the spilled file.
    let mut changed = body.clone();
    changed[2_000_000] ^= 1;
    let refused = send(&client, &id, changed, false, &sign(SECRET, &body)).await;
    assert_eq!(refused.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_upload_are_read_and_mounted_natively() {
    upload_is_seen_everywhere("native", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_upload_are_read_and_mounted_into_a_container() {
    required("POCKETCI_TEST_DOCKER_HOST");
    upload_is_seen_everywhere("docker", &required("POCKETCI_TEST_IMAGE")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_multipart_body_is_refused_with_its_reason() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let id = client
        .set("small", "export default async () => { http.respond({ body: String(http.request().files.length) }) }", json!({}))
        .await;
    let many = |count: usize| {
        let mut body = part("name=\"a\"; filename=\"x\"", b"x").repeat(count);
        body.extend_from_slice(format!("--{BOUNDARY}--").as_bytes());
        body
    };
    let ok = send(&client, &id, many(1000), false, "").await;
    assert_eq!(
        (ok.status().as_u16(), ok.text().await.unwrap()),
        (200, "1000".into())
    );
    for (body, status, word) in [
        (many(1001), 413, "more than 1000 parts"),
        (part("name=\"a\"", b"x"), 400, "without its final boundary"),
        (
            b"no boundary at all".to_vec(),
            400,
            "without its final boundary",
        ),
    ] {
        let refused = send(&client, &id, body, true, "").await;
        assert_eq!(refused.status(), status);
        assert!(refused.text().await.unwrap().contains(word), "{word}");
    }
    let (_, found) = client.get("/api/receipts?verdict=malformed").await.unwrap();
    assert_eq!(found["items"].as_array().unwrap().len(), 3);
    assert_eq!(found["items"][0]["body_kept"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_exact_however_the_body_comes() {
    const LIMIT: usize = 1_000_000;
    let server = Server::start(ServerOptions {
        flags: vec!["--max-body-bytes", "1000000"],
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let program = "export default async () => { const r = http.request();
        http.respond({ body: JSON.stringify([r.bodyFile.size, r.bodyFile.sha256, r.bodyEncoding]) }) }";
    let id = client.set("limit", program, json!({})).await;
    for chunked in [false, true] {
        let body = bytes(LIMIT, 3);
        let send = |body: Vec<u8>| async {
            let request = client.webhook(&id);
            let request = match chunked {
                false => request.body(body),
                true => {
                    let pieces: Vec<_> = body.chunks(70_001).map(<[u8]>::to_vec).collect();
                    let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
                    request.body(Body::wrap_stream(stream::iter(pieces)))
                }
            };
            request.send().await
        };
        let taken = json_of(send(body.clone()).await.unwrap()).await;
        assert_eq!(taken, json!([LIMIT, sha(&body), "binary"]));
    }
    let over = too_much(&server, "Content-Length: 1000001\r\n\r\n", &[]).await;
    assert!(over.starts_with("HTTP/1.1 413"), "{over}");
    let chunk = format!(
        "{:x}\r\n{}\r\n1\r\nx\r\n0\r\n\r\n",
        LIMIT,
        "x".repeat(LIMIT)
    );
    let over = too_much(
        &server,
        "Transfer-Encoding: chunked\r\n\r\n",
        chunk.as_bytes(),
    )
    .await;
    assert!(over.starts_with("HTTP/1.1 413"), "{over}");
}

/// The answer to a request for the newest pipeline, up to the end of the connection.
async fn too_much(server: &Server, head: &str, body: &[u8]) -> String {
    let (_, pipelines) = server.client().get("/api/pipelines").await.unwrap();
    let id = pipelines["items"][0]["id"].as_str().unwrap();
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("POST /api/webhooks/{id} HTTP/1.1\r\nHost: x\r\n{head}");
    stream.write_all(request.as_bytes()).await.unwrap();
    // It may be closed while we write.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_every_value_arrive_and_go_back() {
    let server = Server::start(ServerOptions::default()).await;
    let client = server.client();
    let program = "export default async () => { const r = http.request();
        const bytes = new Uint8Array(await r.arrayBuffer());
        if (r.body.length !== 256 || bytes[255] !== 255 || r.bodyEncoding !== 'binary') throw new Error('lost');
        http.respond({ bodyBase64: r.bodyBase64 }) }";
    let id = client
        .set("binary", program, json!({ "webhook_secrets": ["secret"] }))
        .await;
    let all: Vec<u8> = (0..=255).collect();
    let request = client.webhook(&id).body(all.clone());
    let signature = "051ecd1beeb22bbd4b9c7899a8425ad769bd342e9c420e004624417f37dbdf9e";
    let answer = request.header("x-webhook-signature", signature).send();
    assert_eq!(answer.await.unwrap().bytes().await.unwrap(), all);
}
