//! YAML pipelines on the command line: checked, formatted, compared with what is stored.

use pocketci_tests::process::{run, run_with_input};
use pocketci_tests::{Server, ServerOptions};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};

const PIPELINE: &str = "# with a comment\nresources:\n- {name: src, type: git, source: {uri: ((uri)), depth: ((depth))}}\njobs:\n- name: build\n  plan:\n  - get: src\n    trigger: yes\n";

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn file(folder: &tempfile::TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_file_is_judged_with_all_its_faults_and_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good.yml", PIPELINE);
    let judged = run(&["validate-pipeline", "-c", &good]);
    assert_eq!(
        (out(&judged).as_str(), err(&judged).as_str()),
        ("looks good\n", "")
    );
    let bad = file(
        &folder,
        "bad.yml",
        "jobs:\n- name: a\n  serial: 1\n  plan:\n  - get: ghost\n  - {put: slack, x: 1}\n- name: b\n  plan: [{load_var: v}]\n",
    );
    let judged = run(&["validate-pipeline", "-c", &bad]);
    assert_eq!(judged.status.code(), Some(1));
    assert_eq!(out(&judged), "");
    assert_eq!(
        err(&judged),
        "bad.yml:3:11: jobs.a.serial: expected true or false, not a number
invalid jobs:
\tjobs.a.plan.do[1]: unknown fields [\"x\"] (line 6, column 18)
\tjobs.b.plan.do[0].load_var(v): no file specified (line 8, column 10)
error: bad.yml has 3 faults
"
    );
    std::fs::write(folder.path().join("bytes.yml"), b"jobs:\n- name: \xff\n").unwrap();
    let judged = run(&[
        "validate-pipeline",
        "-c",
        &bad.replace("bad.yml", "bytes.yml"),
    ]);
    assert_eq!(judged.status.code(), Some(1));
    assert!(
        err(&judged).contains("bytes.yml:2: the file is not UTF-8"),
        "{}",
        err(&judged)
    );
    let odd = file(&folder, "odd.yml", "x: 1\njobs: [{name: Build}]\n");
    let judged = run(&["validate-pipeline", "-c", &odd]);
    assert!(judged.status.success() && err(&judged).starts_with("warning: invalid_identifier: "));
    let judged = run(&["validate-pipeline", "-c", &odd, "--strict"]);
    assert_eq!(judged.status.code(), Some(1));
    assert!(
        err(&judged).contains("odd.yml:1:1: unknown field \"x\""),
        "{}",
        err(&judged)
    );
}

#[test]
fn flags_win_over_files_and_later_files_over_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = file(
        &folder,
        "p.yml",
        "jobs:\n- name: ((a))\nuser_data: [((a)), ((b)), ((c)), ((d.e)), ((nobody))]\n",
    );
    let first = file(&folder, "first.yml", "a: file1\nb: file1\nc: {n: 1}\n");
    let second = file(&folder, "second.yml", "b: file2\nc: 7\n");
    let args = [
        "validate-pipeline",
        "-c",
        &pipeline,
        "-o",
        "-l",
        &first,
        "-l",
        &second,
        "-v",
        "a=flag",
        "-y",
        "d.e=[1, true]",
    ];
    let judged = run(&args);
    assert_eq!(
        out(&judged),
        "jobs:\n- name: flag\nuser_data:\n- flag\n- file2\n- 7\n- - 1\n  - true\n- ((nobody))\n",
        "{}",
        err(&judged)
    );
    assert_eq!(
        run(&["validate-pipeline", "-c", &pipeline, "-v", "a"])
            .status
            .code(),
        Some(2)
    );
    for wrong in [
        ["-y", "a=[1"],
        ["-l", "/no/such/file"],
        ["-v", "a..b=1"],
        ["-l", &pipeline.replace("p.yml", "list.yml")],
    ] {
        file(&folder, "list.yml", "- 1");
        let judged = run(&["validate-pipeline", "-c", &pipeline, wrong[0], wrong[1]]);
        assert_eq!(judged.status.code(), Some(5), "{wrong:?}");
        assert_eq!(err(&judged).lines().count(), 1, "{}", err(&judged));
    }
}

#[test]
fn formatting_gives_the_canonical_form_and_can_write_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "p.yml", PIPELINE);
    let canonical = "jobs:\n- name: build\n  plan:\n  - get: src\n    trigger: true\nresources:\n- name: src\n  source:\n    depth: ((depth))\n    uri: ((uri))\n  type: git\n";
    assert_eq!(out(&run(&["format-pipeline", "-c", &path])), canonical);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), PIPELINE);
    assert_eq!(
        out(&run_with_input(&["format-pipeline", "-c", "-"], PIPELINE)),
        canonical
    );
    assert!(
        run(&["format-pipeline", "-c", &path, "-w"])
            .status
            .success()
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), canonical);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let broken = file(&folder, "broken.yml", "jobs: [{name: a, plan: 1}]");
    assert_eq!(
        run(&["format-pipeline", "-c", &broken, "-w"]).status.code(),
        Some(1)
    );
    assert_eq!(
        std::fs::read_to_string(&broken).unwrap(),
        "jobs: [{name: a, plan: 1}]"
    );
}

/// A server that knows one pipeline: what was stored last.
struct FakeServer {
    url: String,
    stored: Arc<Mutex<Option<Value>>>,
}

impl FakeServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stored = Arc::new(Mutex::new(None));
        let own = Arc::clone(&stored);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, &own);
            }
        });
        Self { url, stored }
    }

    fn content(&self) -> String {
        let stored = self.stored.lock().unwrap();
        stored.as_ref().unwrap()["content"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

fn answer(stream: TcpStream, stored: &Mutex<Option<Value>>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap() > 2 {}
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length: ")?
            .trim()
            .parse()
            .ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let mut known = stored.lock().unwrap();
    let created = known.is_none();
    if head.starts_with("PUT") {
        *known = Some(serde_json::from_slice(&body).unwrap());
    }
    let (status, answer) = match known.as_ref() {
        None => (
            404,
            json!({"error": {"code": "pipeline_not_found", "message": "no", "request_id": ""}}),
        ),
        Some(put) => {
            let id = "00000000-0000-7000-8000-000000000001";
            let pipeline = json!({"id": id, "name": "p", "revision_id": id, "revision": 1, "content_type": put["content_type"],
                "content": put["content"], "driver": null, "labels": {}, "webhook_secrets": 1, "paused": false,
                "webhook_path": "/", "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"});
            match head.starts_with("PUT") {
                true => (
                    200,
                    json!({"pipeline": pipeline, "created": created, "changed": ["content"]}),
                ),
                false => (200, pipeline),
            }
        }
    };
    let answer = answer.to_string();
    let length = answer.len();
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
    )
    .unwrap();
}

#[test]
fn setting_shows_what_changes_and_stores_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let server = FakeServer::start();
    let path = file(&folder, "p.yml", PIPELINE);
    let set = |more: &[&str]| {
        let mut args = vec!["set-pipeline", "--server", &server.url];
        args.extend(more);
        run(&args)
    };
    let done = set(&[&path]);
    assert!(done.status.success(), "{}", err(&done));
    assert!(
        err(&done).contains("resource src has been added:\n+ name: src\n"),
        "{}",
        err(&done)
    );
    // Without vars the text is stored as it is, comments and all.
    assert_eq!(server.content(), PIPELINE);
    let done = set(&["-p", "p", "-c", &path, "-n"]);
    assert!(
        err(&done).starts_with("no changes to apply\n"),
        "{}",
        err(&done)
    );
    let done = set(&[
        &path,
        "-n",
        "p",
        "-v",
        "uri=https://example.invalid",
        "-y",
        "depth=1",
        "--non-interactive",
    ]);
    assert_eq!(
        err(&done),
        "resource src has changed:\n  name: src\n  source:\n-   depth: ((depth))\n-   uri: ((uri))\n+   depth: 1\n+   uri: https://example.invalid\n  type: git\n\n"
    );
    assert!(server.content().contains("    depth: 1\n"));
    let shown = run(&["get-pipeline", "p", "-j", "--server", &server.url]);
    let config: Value = serde_json::from_str(&out(&shown)).unwrap();
    assert_eq!(config["resources"][0]["source"]["depth"], 1);
    assert_eq!(
        out(&run(&["get-pipeline", "-p", "p", "--server", &server.url])),
        server.content()
    );
    // An invalid file is told here and never sent.
    let before = server.content();
    let bad = file(&folder, "bad.yml", "jobs: []");
    assert_eq!(set(&[&bad]).status.code(), Some(1));
    assert_eq!(server.content(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_program_is_printed_and_has_no_configuration() {
    let server = Server::start(ServerOptions::default()).await;
    let program = "export default () => {};\n";
    server.client().set("prog", program, json!({})).await;
    let args = ["get-pipeline", "prog", "--server", &server.url];
    assert_eq!(out(&run(&args)), program);
    let shown = run(&[&args[..], &["-j"]].concat());
    assert_eq!(shown.status.code(), Some(5));
    assert!(
        err(&shown).contains("has no configuration"),
        "{}",
        err(&shown)
    );
}
