//! docs/subscriptions.md is carried out: its commands, and its receiver in Python, which verifies both signatures.

use super::delivery;
use crate::docs::{blocks, read};
use pocketci_tests::process::run;
use pocketci_tests::{Server, until};
use serde_json::json;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

const PAGE: &str = "docs/subscriptions.md";

/// The page's receiver; ends when dropped.
struct Python {
    child: Child,
    home: tempfile::TempDir,
}

impl Python {
    fn start(port: u16, secret: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let said = std::fs::File::create(home.path().join("said")).unwrap();
        let child = Command::new("python3")
            .args(["-c", &blocks(&read(PAGE), "python")[0]])
            .env("PORT", port.to_string())
            .env("SECRET", secret)
            .stdin(Stdio::null())
            .stdout(said)
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 runs");
        Self { child, home }
    }

    /// What it printed, once there are so many lines.
    async fn lines(&self, count: usize) -> Vec<String> {
        until(
            &format!("the receiver has printed {count} lines"),
            || async {
                let said = std::fs::read_to_string(self.home.path().join("said")).ok()?;
                let lines: Vec<String> = said.lines().map(str::to_owned).collect();
                (lines.len() >= count).then_some(lines)
            },
        )
        .await
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    taken.local_addr().unwrap().port()
}

fn command(server: &Server, line: &str) -> std::process::Output {
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let mut args = words;
    args.extend(["--server", &server.url]);
    run(&args)
}

async fn listening(port: u16) {
    until("the receiver listens", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_works_as_it_is_written() {
    let server = super::server().await;
    let port = free_port();
    let python = Python::start(port, "hunter2");
    listening(port).await;
    let page = read(PAGE).replace("127.0.0.1:9000", &format!("127.0.0.1:{port}"));
    let shell = blocks(&page, "sh");
    for line in shell[0].lines() {
        let done = command(&server, line);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(
            done.status.success(),
            "{line}: {said}{}",
            String::from_utf8_lossy(&done.stderr)
        );
        if line.contains(" ping ") {
            assert!(said.contains("< 204 from 127.0.0.1:"), "{said}");
        }
        if line.contains(" deliveries ") {
            assert!(said.contains("delivered"), "{said}");
        }
    }
    assert_eq!(python.lines(1).await, ["verified workflow-completed new"]);

    let client = server.client();
    super::ran(&client, "told", "").await;
    let mut told = python.lines(3).await;
    told[1..].sort();
    assert_eq!(
        told[1..],
        [
            "verified job-completed new",
            "verified workflow-completed new"
        ]
    );
    let kept = delivery(&client, "event=job-completed", "delivered").await;
    let done = command(
        &server,
        &format!("pocketci resend {}", kept["id"].as_str().unwrap()),
    );
    assert!(done.status.success());
    assert_eq!(python.lines(4).await[3], "verified job-completed again");
    let body = command(
        &server,
        &format!("pocketci delivery {} --body", kept["id"].as_str().unwrap()),
    );
    assert_eq!(
        String::from_utf8(body.stdout).unwrap(),
        kept["body"].as_str().unwrap()
    );
    // Neither of these finds anything to do, and both say so.
    for line in shell[1].lines() {
        let done = command(&server, line);
        assert!(
            done.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_receiver_knows_the_servers_own_secrets_and_refuses_others() {
    let server = super::server().await;
    let client = server.client();
    let (port, wrong) = (free_port(), free_port());
    let url = |port: u16| format!("http://127.0.0.1:{port}/");
    for (name, port) in [("right", port), ("wrong", wrong)] {
        let body = json!({ "url": url(port), "events": ["job-completed"], "secret": "first", "schedule_seconds": [] });
        let path = format!("/api/subscriptions/{name}");
        super::send(&client, reqwest::Method::PUT, &path, &body).await;
    }
    let made = command(&server, "pocketci subscription rotate right");
    let secret = String::from_utf8(made.stdout).unwrap();
    let right = Python::start(port, secret.trim());
    let other = Python::start(wrong, "another secret");
    listening(port).await;
    listening(wrong).await;
    let pinged = command(&server, "pocketci subscription ping right");
    assert_eq!(pinged.status.code(), Some(0));
    assert_eq!(right.lines(1).await, ["verified ping new"]);
    let pinged = command(&server, "pocketci subscription ping wrong --json");
    assert_eq!(pinged.status.code(), Some(1));
    assert_eq!(other.lines(1).await, ["refused ping new"]);
    let tried: serde_json::Value = serde_json::from_slice(&pinged.stdout).unwrap();
    assert_eq!(tried["log"][0]["response"]["status"], 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_has_every_verb() {
    let server = super::server().await;
    let put = "pocketci subscription put s --url https://receiver.example/h --event job-completed --secret hunter2 \
               --header X-A=top-secret --filter payload.job.status!=\"success\" --schedule 5s,1m --rate 2.5 --json";
    for (line, code, word) in [
        (put, 0, "\"created\": true"),
        (
            "pocketci subscription put s --url ftp://x",
            3,
            "http and https",
        ),
        (
            "pocketci subscription put s --filter= --rename t",
            0,
            "\"t\" changed",
        ),
        ("pocketci subscription get t", 0, "f52fbd32b2b3"),
        ("pocketci subscription get t --json", 0, "60.0"),
        ("pocketci subscription ls", 0, "https://receiver.example/h"),
        ("pocketci subscription disable t", 0, "disabled"),
        ("pocketci subscription ping t", 3, "enable it first"),
        ("pocketci subscription enable t", 0, "active"),
        ("pocketci subscription put t --header X-A=", 0, "changed"),
        ("pocketci deliveries --state lost", 3, "delivered"),
        (
            "pocketci resend --subscription t --since 1h --dry-run",
            0,
            "0 events",
        ),
        ("pocketci resend", 2, "<ID>"),
        ("pocketci subscription delete t", 0, "deleted"),
        ("pocketci subscription get t", 3, "no subscription"),
    ] {
        let done = command(&server, line);
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(done.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(word), "{line}: {said}");
        assert!(
            !said.contains("hunter2") && !said.contains("top-secret"),
            "{line}: {said}"
        );
    }
}
