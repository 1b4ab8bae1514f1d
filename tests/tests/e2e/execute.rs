//! `pocketci execute`: inputs go, one task runs, outputs come back.

use pocketci_tests::{Server, ServerOptions, pocketci, until};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use uuid::Uuid;

/// Files of a test.
pub struct Files(TempDir);

impl Files {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

pub fn command(server: &Server, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(pocketci());
    command
        .args(["execute", "--server", &server.url, "--driver", "native"])
        .args(args)
        .current_dir(folder)
        .env_remove("CI_AUTH_TOKEN");
    command
}

/// Runs it to its end: exit code, stdout, stderr.
pub fn execute(server: &Server, folder: &Path, args: &[&str]) -> (i32, String, String) {
    told(command(server, folder, args).output().unwrap())
}

pub fn told(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A task's file that runs a script.
pub fn task(more: &str, script: &str) -> String {
    let script = json!(script);
    format!("platform: linux\n{more}run:\n  path: sh\n  args: [-euc, {script}]\n")
}

pub async fn server() -> Server {
    Server::start(ServerOptions::default()).await
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
