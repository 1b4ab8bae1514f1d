//! Output through faults: byte for byte, or with a gap that is declared to the byte.

use pocketci_tests::{Client, Server, ServerOptions, TestDatabase, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

pub async fn trigger(client: &Client, id: &str) -> String {
    let (status, answer) = client
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap();
    assert_eq!(status, 202, "{answer}");
    answer["run_id"].as_str().unwrap().to_owned()
}

pub async fn all_events(client: &Client, run: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().map_or(0, |event| event["seq"].as_i64().unwrap());
        let path = format!("/api/runs/{run}/events?follow=0&after={after}");
        let (_, page) = client.get(&path).await.unwrap();
        let page = page.as_array().unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page.iter().cloned());
    }
}

/// The output of a stream with its gaps as `(offset, bytes, reason)`; every offset is checked.
fn stream_of(events: &[Value], step: i64, stream: &str) -> (String, Vec<(i64, i64, String)>) {
    let (mut text, mut gaps, mut end) = (String::new(), Vec::new(), 0);
    for event in events {
        if event["event"] != "log" || event["step"] != step || event["stream"] != stream {
            continue;
        }
        let offset = event["offset"].as_i64().unwrap();
        assert_eq!(offset, end, "{event}");
        let shown = event["text"].as_str().unwrap();
        if let Some(bytes) = event["gap"]["bytes"].as_i64() {
            assert!(shown.contains("are missing here"), "{shown}");
            let reason = event["gap"]["reason"].as_str().unwrap().to_owned();
            gaps.push((offset, bytes, reason));
            end += bytes;
        } else {
            text.push_str(shown);
            end += shown.len() as i64;
        }
    }
    (text, gaps)
}

fn steps(commands: &str) -> String {
    format!(
        "export default async () => {{
           const r = await runtime.run({{ name: 's', command: {{ path: 'sh', args: ['-c', `{commands}`] }} }});
           if (r.code !== 0) throw new Error('code ' + r.code);
         }};"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_arrive_byte_for_byte_through_a_kill_of_the_server() {
    let mut server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let spool = tempfile::tempdir().unwrap();
    let dir = spool.path().to_str().unwrap();
    let _agent = server.agent("a", &["--spool-dir", dir, "--max-step-output", "256MiB"]);
    server.agents_connected(1).await;
    let client = server.client();
    let folder = tempfile::tempdir().unwrap();
    let half = folder.path().join("half");
    let copy = folder.path().join("copy");
    // 100 MB in lines of ten bytes; the server dies in the middle of it.
    let content = steps(&format!(
        "(seq 100000000 104999999; touch {}; seq 105000000 109999999) | tee {}",
        half.display(),
        copy.display()
    ));
    let id = client.set("p", &content, json!({})).await;
    let run = trigger(&client, &id).await;
    until("half is printed", || async { half.exists().then_some(()) }).await;
    server.process.kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.restart().await;
    let client = server.client();
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(1)),
        "{ended}"
    );
    let request = client.request(reqwest::Method::GET, &format!("/api/runs/{run}/logs"));
    let logs = request.send().await.unwrap().bytes().await.unwrap();
    assert_eq!(logs.len(), 100_000_000);
    assert!(logs == std::fs::read(&copy).unwrap());
    let left = std::fs::read_dir(spool.path()).unwrap().count();
    assert_eq!(left, 0, "nothing has a name in the spool");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_makes_a_declared_gap_and_the_rest_is_byte_for_byte() {
    let mut server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let spool = tempfile::tempdir().unwrap();
    let dir = spool.path().to_str().unwrap();
    let flags = [
        "--spool-dir",
        dir,
        "--spool-max",
        "1MiB",
        "--spool-patience",
        "300ms",
    ];
    let agent = server.agent("a", &flags);
    server.agents_connected(1).await;
    let client = server.client();
    let folder = tempfile::tempdir().unwrap();
    let (begun, go, printed) = (
        folder.path().join("begun"),
        folder.path().join("go"),
        folder.path().join("printed"),
    );
    let wait =
        |file: &std::path::Path| format!("while [ ! -e {} ]; do sleep 0.02; done", file.display());
    // Random bytes in Base64, so that packing does not make room for all of it; a copy tells what was printed.
    let copy = folder.path().join("copy");
    let back = folder.path().join("back");
    let content = steps(&format!(
        "touch {}; {}; head -c 12000000 /dev/urandom | base64 -w 79 | tee {}; touch {}; {}; echo the end",
        begun.display(),
        wait(&go),
        copy.display(),
        printed.display(),
        wait(&back),
    ));
    let id = client.set("p", &content, json!({})).await;
    let run = trigger(&client, &id).await;
    until("it begins", || async { begun.exists().then_some(()) }).await;
    server.process.kill();
    std::fs::write(&go, "").unwrap();
    until("everything is printed", || async {
        printed.exists().then_some(())
    })
    .await;
    server.restart().await;
    server.agents_connected(1).await;
    std::fs::write(&back, "").unwrap();
    let client = server.client();
    let ended = client.finished(&run).await;
    assert_eq!(ended["status"], "success", "{ended}");
    let (text, gaps) = stream_of(&all_events(&client, &run).await, 1, "stdout");
    let copy = std::fs::read_to_string(&copy).unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let (at, bytes, reason) = &gaps[0];
    assert_eq!(reason, "spool_full");
    let (at, bytes) = (*at as usize, *bytes as usize);
    assert!(at > 3_000_000 && bytes > 1_000_000, "{gaps:?}");
    let whole = format!("{copy}the end\n");
    assert!(text[..at] == whole[..at] && text[at..] == whole[at + bytes..]);
    let shown = client.logs(&run).await;
    assert!(shown.contains("bytes of output are missing here: the agent's spool was full]"));
    assert!(agent.process.log().contains("output finds no room"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_step_that_prints_too_much_head_and_tail_are_kept() {
    let server = Server::start(ServerOptions {
        flags: vec!["--max-step-output", "2MiB"],
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let id = client
        .set("p", &steps("seq 1 900000; echo done"), json!({}))
        .await;
    let run = trigger(&client, &id).await;
    assert_eq!(client.finished(&run).await["status"], "success");
    let expected: String = (1..=900_000).map(|n| format!("{n}\n")).collect::<String>() + "done\n";
    let (text, gaps) = stream_of(&all_events(&client, &run).await, 1, "stdout");
    let lost = expected.len() - (2 << 20);
    assert_eq!(gaps, [(1 << 20, lost as i64, "limit".to_owned())]);
    assert!(text[..1 << 20] == expected[..1 << 20]);
    assert!(text[1 << 20..] == expected[expected.len() - (1 << 20)..]);
    let output = pocketci_tests::process::run(&["logs", &run, "--server", &server.url]);
    assert!(output.stdout == text.as_bytes(), "stdout is output alone");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("missing here: the step printed more than --max-step-output"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chatty_step_makes_few_chunks_and_few_notifications() {
    let database = TestDatabase::create().await;
    let server = Server::start(ServerOptions {
        storage: Some(database.url.clone()),
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    // A line every millisecond or so, to both streams.
    let loop_ = "i=0; while [ $i -lt 1500 ]; do echo line $i; echo oops $i >&2; i=$((i+1)); sleep 0.001; done";
    let id = client.set("p", &steps(loop_), json!({})).await;
    let (listening, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let (heard, mut notes) = mpsc::unbounded_channel();
    let hearing = tokio::spawn(async move {
        let mut connection = connection;
        while let Some(Ok(message)) =
            std::future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let tokio_postgres::AsyncMessage::Notification(note) = message {
                let _ = heard.send(note.payload().to_owned());
            }
        }
    });
    listening.batch_execute("LISTEN pocketci").await.unwrap();
    let started = Instant::now();
    let run = trigger(&client, &id).await;
    assert_eq!(client.finished(&run).await["status"], "success");
    let tenths = started.elapsed().as_millis() as usize / 100 + 1;
    let events = all_events(&client, &run).await;
    let chunks = events
        .iter()
        .filter(|event| event["event"] == "log")
        .count();
    let facts = events.len() - chunks;
    let id = run.replace('-', "");
    let mut told = 0;
    while let Ok(note) = notes.try_recv() {
        told += note
            .lines()
            .filter(|line| line.get(1..) == Some(&id))
            .count();
    }
    for (stream, word) in [("stdout", "line"), ("stderr", "oops")] {
        let expected: String = (0..1500).map(|n| format!("{word} {n}\n")).collect();
        assert!(stream_of(&events, 1, stream).0 == expected, "{stream}");
    }
    println!("{chunks} chunks, {told} notifications, {facts} facts in {tenths} tenths of a second");
    assert!(
        chunks <= 7 * tenths,
        "{chunks} chunks in {tenths} tenths of a second"
    );
    assert!(
        told <= tenths + facts + 1,
        "{told} notifications, {facts} facts"
    );
    hearing.abort();
}
