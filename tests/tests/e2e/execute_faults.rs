//! `pocketci execute` when something breaks: what breaks on the way leaves nothing half.

use crate::execute::{Files, execute, server, task};
use nix::sys::signal::Signal;
use pocketci_tests::{Client, Server, ServerOptions, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

/// A tar with one file.
fn tar_of(name: &str, text: &str) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(format!("{:011o}", text.len()).as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(text.as_bytes());
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

async fn put_input(client: &Client, run: &str, name: &str, tar: Vec<u8>) -> u16 {
    let path = format!("/api/runs/{run}/inputs/{name}");
    let sent = client.request(Method::PUT, &path).body(tar).send().await;
    sent.unwrap().status().as_u16()
}

fn request(run: &str, script: &str) -> Value {
    json!({
        "run_id": run,
        "driver": "native",
        "uploads": ["in"],
        "config": {
            "platform": "linux",
            "inputs": [{ "name": "in" }],
            "run": { "path": "sh", "args": ["-euc", script] },
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_nothing_usable() {
    let server = server().await;
    let client = server.client();
    let run = Uuid::now_v7().to_string();
    let tar = tar_of("file", &"x".repeat(600_000));
    assert_eq!(put_input(&client, &run, "in", tar.clone()).await, 204);
    // The second one takes the place of the first, and is cut in its third page.
    let address = server.url.strip_prefix("http://").unwrap();
    let mut broken = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT /api/runs/{run}/inputs/in HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        tar.len()
    );
    broken.write_all(head.as_bytes()).await.unwrap();
    broken.write_all(&tar[..550_000]).await.unwrap();
    broken.shutdown().await.unwrap();
    let mut answer = String::new();
    broken.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let body = request(&run, "wc -c < in/file");
    let (status, answer) = client.post("/api/execute", &body).await.unwrap();
    assert_eq!(status, 409, "{answer}");
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("\"in\" was not sent")
    );
    assert_eq!(
        client.get(&format!("/api/runs/{run}")).await.unwrap().0,
        404
    );
    // Sent again it is whole, and the run's from then on.
    assert_eq!(put_input(&client, &run, "in", tar.clone()).await, 204);
    for _ in 0..2 {
        let (status, answer) = client.post("/api/execute", &body).await.unwrap();
        assert_eq!((status, &answer["run_id"]), (202, &json!(run)));
    }
    assert_eq!(put_input(&client, &run, "in", tar).await, 409);
    assert_eq!(client.finished(&run).await["status"], "success");
    assert!(client.logs(&run).await.contains("600000"));
    let (_, runs) = client.get("/api/runs").await.unwrap();
    assert_eq!(runs["items"].as_array().unwrap().len(), 1);
    let other = request(&run, "echo other");
    assert_eq!(client.post("/api/execute", &other).await.unwrap().0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_after_the_upload_has_it() {
    let mut server = server().await;
    let client = server.client();
    let run = Uuid::now_v7().to_string();
    assert_eq!(
        put_input(&client, &run, "in", tar_of("file", "kept")).await,
        204
    );
    server.kill_and_restart().await;
    let (status, answer) = client
        .post("/api/execute", &request(&run, "cat in/file"))
        .await
        .unwrap();
    assert_eq!(status, 202, "{answer}");
    assert_eq!(client.finished(&run).await["status"], "success");
    assert_eq!(client.logs(&run).await, "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_gets_the_same_inputs_and_its_outputs_count() {
    let options = ServerOptions {
        local_agent: false,
        flags: vec!["--lease", "1s"],
        ..ServerOptions::default()
    };
    let server = Server::start(options).await;
    let client = server.client();
    let place = tempfile::tempdir().unwrap();
    let began = place.path().join("began");
    let mut first = server.agent("first", &[]);
    server.agents_connected(1).await;
    let run = Uuid::now_v7().to_string();
    assert_eq!(
        put_input(&client, &run, "in", tar_of("file", "same")).await,
        204
    );
    // The first attempt spoils its copy and waits to be killed.
    let began = began.to_str().unwrap();
    let script = format!(
        "if [ -e {began} ]; then cp in/file out/file; else echo spoilt > in/file; cp in/file out/file; touch {began}; sleep 600; fi"
    );
    let mut body = request(&run, &script);
    body["outputs"] = json!(["out"]);
    body["config"]["outputs"] = json!([{ "name": "out" }]);
    assert_eq!(client.post("/api/execute", &body).await.unwrap().0, 202);
    until("the task has begun", || async {
        Path::new(began).exists().then_some(())
    })
    .await;
    let output = format!("/api/runs/{run}/outputs/out");
    assert_eq!(client.get(&output).await.unwrap().0, 409);
    first.process.kill();
    let _second = server.agent("second", &[]);
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(2))
    );
    let got = client.request(Method::GET, &output).send().await.unwrap();
    let tar = got.bytes().await.unwrap();
    let has = |text: &[u8]| tar.windows(text.len()).any(|part| part == text);
    assert!(has(b"same") && !has(b"spoilt"));
    assert_eq!(client.get(&format!("{output}x")).await.unwrap().0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_leads_out_of_its_folder_is_refused() {
    let server = server().await;
    let files = Files::new(&[("mine", "mine")]);
    let mine = files.path().join("mine");
    let script = format!("ln -s {} out/link; ln -s a out/b", mine.display());
    let config = task("outputs: [{name: out}]\n", &script);
    fs::write(files.path().join("task.yml"), config).unwrap();
    let (code, _, talk) = execute(&server, files.path(), &["-c", "task.yml", "-o", "out=got"]);
    assert_eq!(code, 5, "{talk}");
    assert!(
        talk.contains(
            "cannot unpack output \"out\" into got: \"link\": this link leads out of the folder"
        ),
        "{talk}"
    );
    assert!(!files.path().join("got/link").exists());
    assert_eq!(files.read("mine"), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_the_run() {
    let server = server().await;
    let files = Files::new(&[]);
    let began = files.path().join("began");
    let config = task("", &format!("touch {}; sleep 600", began.display()));
    let path = files.path().join("task.yml");
    fs::write(&path, config).unwrap();
    let args = [
        "execute",
        "--server",
        &server.url,
        "--driver",
        "native",
        "-c",
        path.to_str().unwrap(),
    ];
    let mut process = pocketci_tests::process::start(&args, files.path());
    until("the task has begun", || async {
        began.exists().then_some(())
    })
    .await;
    process.signal(Signal::SIGINT);
    assert_eq!(process.wait(), Some(1));
    assert!(
        process.log().contains("stopping the run"),
        "{}",
        process.log()
    );
    let client = server.client();
    let run = client.newest_run().await;
    let (_, run) = client.get(&format!("/api/runs/{run}")).await.unwrap();
    assert_eq!(run["status"], "aborted");
}
