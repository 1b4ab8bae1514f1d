//! `pocketci execute`: inputs go, one task runs, outputs come back; what breaks on the way leaves nothing half.

use nix::sys::signal::Signal;
use pocketci_tests::{Client, Server, ServerOptions, pocketci, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

/// Files of a test.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

fn command(server: &Server, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(pocketci());
    command
        .args(["execute", "--server", &server.url, "--driver", "native"])
        .args(args)
        .current_dir(folder)
        .env_remove("CI_AUTH_TOKEN");
    command
}

/// Runs it to its end: exit code, stdout, stderr.
fn execute(server: &Server, folder: &Path, args: &[&str]) -> (i32, String, String) {
    told(command(server, folder, args).output().unwrap())
}

fn told(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A task's file that runs a script.
fn task(more: &str, script: &str) -> String {
    let script = json!(script);
    format!("platform: linux\n{more}run:\n  path: sh\n  args: [-euc, {script}]\n")
}

async fn server() -> Server {
    Server::start(ServerOptions::default()).await
}

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
async fn two_inputs_go_and_an_output_comes_back_byte_for_byte() {
    let server = server().await;
    let script =
        "cp -R one/. made/; cat two/deep/b >> made/a; test -x one/run; test -L one/link; echo done";
    let config = task(
        "inputs: [{name: one}, {name: two, path: two}]\noutputs: [{name: made}]\n",
        script,
    );
    let files = Files::new(&[
        ("task.yml", &config),
        ("x/a", "first,"),
        ("x/run", ""),
        ("y/deep/b", "second"),
    ]);
    // Several pages, and no text.
    let big: Vec<u8> = (0..900_001u32).map(|i| (i * 31 % 251) as u8).collect();
    fs::write(files.path().join("x/big"), &big).unwrap();
    std::os::unix::fs::symlink("a", files.path().join("x/link")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(files.path().join("x/run"), executable).unwrap();
    let args = [
        "-c",
        "task.yml",
        "-i",
        "one=x",
        "-i",
        "two=y",
        "-o",
        "made=out/new",
    ];
    let (code, out, talk) = execute(&server, files.path(), &args);
    assert_eq!((code, out.as_str()), (0, "done\n"), "{talk}");
    assert_eq!(fs::read(files.path().join("out/new/big")).unwrap(), big);
    assert_eq!(files.read("out/new/a"), "first,second");
    assert_eq!(
        fs::read_link(files.path().join("out/new/link")).unwrap(),
        Path::new("a")
    );
    assert!(
        talk.contains("-- input \"one\": 4 files, ")
            && talk.contains("-- output \"made\": 4 files, "),
        "{talk}"
    );
    let client = server.client();
    let run = client.newest_run().await;
    let (_, run) = client.get(&format!("/api/runs/{run}")).await.unwrap();
    assert_eq!(
        (&run["pipeline_name"], &run["jobs"][0]["name"]),
        (&json!("one-off"), &json!("task"))
    );
    // It is no build, and its inputs are its own.
    let (_, builds) = client.get("/api/pipelines/one-off/builds").await.unwrap();
    assert_eq!(builds["items"], json!([]));
    let path = format!("/api/runs/{}/rerun", run["id"].as_str().unwrap());
    assert_eq!(client.post(&path, &json!({})).await.unwrap().0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_gives_its_outputs_and_exit_code_1() {
    let server = server().await;
    let config = task(
        "outputs: [{name: report}]\n",
        "echo bad > report/why; exit 3",
    );
    let files = Files::new(&[("task.yml", &config)]);
    let (code, _, talk) = execute(
        &server,
        files.path(),
        &["-c", "task.yml", "-o", "report=got"],
    );
    assert_eq!(code, 1, "{talk}");
    assert_eq!(files.read("got/why"), "bad\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn this_folder_is_the_input_and_what_git_ignores_stays_here() {
    let server = server().await;
    let script = "cd src; find . -type f | sort; echo $COLOR/$SIZE/$*";
    let config = format!(
        "{}params: {{ COLOR: ((color)), SIZE: small }}\n",
        task("inputs: [{name: src}]\n", script)
    );
    let files = Files::new(&[
        ("task.yml", &config),
        (".gitignore", "*.o\n"),
        ("a.c", ""),
        ("a.o", ""),
        ("sub/b.o", ""),
    ]);
    let run = |args: &[&str]| {
        let mut command = command(
            &server,
            files.path(),
            &["-c", "task.yml", "-v", "color=red"],
        );
        told(command.args(args).env("SIZE", "large").output().unwrap())
    };
    let (code, out, talk) = run(&["--", "me", "a b"]);
    let expected = "./.gitignore\n./a.c\n./task.yml\nred/large/a b\n";
    assert_eq!((code, out.as_str()), (0, expected), "{talk}");
    let (code, out, talk) = run(&["--include-ignored"]);
    let expected = "./.gitignore\n./a.c\n./a.o\n./sub/b.o\n./task.yml\nred/large/\n";
    assert_eq!((code, out.as_str()), (0, expected), "{talk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faults_are_told_at_once_and_nothing_is_sent_or_stored() {
    let server = server().await;
    let files = Files::new(&[
        (
            "task.yml",
            "inputs: [{name: a}, {name: b}, {}]\nrun: {path: x}\n",
        ),
        ("odd.yml", "platform: [1]\nwhat: 1\n"),
    ]);
    let args = [
        "-c",
        "task.yml",
        "-i",
        "a=nowhere",
        "-i",
        "c=.",
        "-o",
        "d=.",
    ];
    let (code, out, talk) = execute(&server, files.path(), &args);
    assert_eq!((code, out.as_str()), (1, ""));
    for part in [
        "missing 'platform'",
        "input in position 2",
        "nowhere is no folder",
        "no input \"c\"",
        "input \"b\" is missing",
        "no output \"d\"",
        "7 faults",
    ] {
        assert!(talk.contains(part), "{part}: {talk}");
    }
    let (code, _, talk) = execute(&server, files.path(), &["-c", "odd.yml"]);
    assert!(
        code == 1 && talk.contains("platform") && talk.contains("what"),
        "{talk}"
    );
    // The server trusts no client.
    let client = server.client();
    let id = Uuid::now_v7().to_string();
    let body = json!({ "run_id": id, "uploads": ["c"], "outputs": ["d", "d"], "config": { "inputs": [{"name": "a"}], "what": 1 } });
    let (status, answer) = client.post("/api/execute", &body).await.unwrap();
    assert_eq!(
        (status, &answer["error"]["code"]),
        (422, &json!("invalid_task")),
        "{answer}"
    );
    let body = json!({ "run_id": id, "uploads": ["c"], "outputs": ["d", "d"], "config": { "inputs": [{"name": "a"}] } });
    let (_, answer) = client.post("/api/execute", &body).await.unwrap();
    assert_eq!(
        answer["error"]["details"].as_array().unwrap().len(),
        5,
        "{answer}"
    );
    let old = json!({ "run_id": Uuid::new_v4(), "config": {} });
    assert_eq!(client.post("/api/execute", &old).await.unwrap().0, 400);
    let (_, runs) = client.get("/api/runs").await.unwrap();
    assert_eq!(runs["items"], json!([]));
    let (_, pipelines) = client.get("/api/pipelines").await.unwrap();
    assert_eq!(pipelines["items"], json!([]));
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

#[tokio::test(flavor = "multi_thread")]
async fn inputs_come_from_a_job_where_none_is_sent() {
    let server = server().await;
    let client = server.client();
    let pipeline = "
resources:
- name: repo
  type: mock
  source: { create_files: { word: from the job } }
jobs:
- name: build
  plan:
  - get: code
    resource: repo
  - task: t
    config: { platform: linux, inputs: [{ name: code }], run: { path: 'true' } }
";
    let more = json!({ "content_type": "yaml" });
    client.set("app", pipeline, more).await;
    let (status, _) = client
        .post("/api/pipelines/app/resources/repo/check", &json!({}))
        .await
        .unwrap();
    assert!(status < 300);
    until("there is a version", || async {
        let (_, found) = client
            .get("/api/pipelines/app/resources/repo/versions")
            .await
            .ok()?;
        found["items"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
            .then_some(())
    })
    .await;
    let config = task(
        "inputs: [{name: code}, {name: mine}]\n",
        "cat code/word mine/word",
    );
    let files = Files::new(&[("task.yml", &config), ("m/word", " and from me")]);
    let args = ["-c", "task.yml", "-j", "app/build", "-i", "mine=m"];
    let (code, out, talk) = execute(&server, files.path(), &args);
    assert_eq!(
        (code, out.as_str()),
        (0, "from the job and from me"),
        "{talk}"
    );
    let (_, run) = client
        .get(&format!("/api/runs/{}", client.newest_run().await))
        .await
        .unwrap();
    assert_eq!(run["pipeline_name"], "app");
    let (code, _, talk) = execute(
        &server,
        files.path(),
        &["-c", "task.yml", "-j", "app/build"],
    );
    assert!(
        code == 3 && talk.contains("job \"build\" has none of this name"),
        "{talk}"
    );
    let (code, _, talk) = execute(
        &server,
        files.path(),
        &["-c", "task.yml", "-j", "app/other", "-i", "mine=m"],
    );
    assert!(code == 3 && talk.contains("has no job \"other\""), "{talk}");
}
