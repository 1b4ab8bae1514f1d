//! `pocketci run` and `pocketci init`: no server anywhere.

use nix::sys::signal::Signal;
use pocketci_tests::process::{run, start};
use pocketci_tests::until;
use std::process::Command;

fn write(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_first_pipeline_is_written_checked_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("ci").display().to_string();
    let made = run(&["init", &place]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let checked = Command::new("tsc").args(["-p", &place]).output().unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
    let file = format!("{place}/pipeline.ts");
    let ran = run(&[
        "run",
        &file,
        "--driver",
        "native",
        "--webhook-body",
        "{\"name\": \"you\"}",
    ]);
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{out}");
    assert!(
        out.contains("reply 200\n  hello you") && out.contains("[greet] hello you"),
        "{out}"
    );
    let again = run(&["init", &place]);
    assert_eq!(again.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    assert!(run(&["init", &place, "--force"]).status.success());
}

#[test]
fn outcomes_are_exit_codes_and_output_is_plain_without_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let code = |source: &str, more: &[&str]| {
        let file = write(&folder, "p.ts", source);
        let mut args = vec!["run", &file, "--driver", "native"];
        args.extend(more);
        let ran = run(&args);
        let out = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(!out.contains('\u{1b}'), "{out:?}");
        (
            ran.status.code().unwrap(),
            out + &String::from_utf8_lossy(&ran.stderr),
        )
    };
    assert_eq!(code("export default () => {};", &[]).0, 0);
    let (failed, told) = code("export default () => {\n  throw new Error('no');\n};", &[]);
    assert_eq!(failed, 1);
    assert!(
        told.contains("p.ts:2:13") && told.contains("failed in"),
        "{told}"
    );
    assert_eq!(
        code(
            "export default () => { for (;;); };",
            &["--js-cpu-time", "100ms"]
        )
        .0,
        5
    );
    assert_eq!(code("export default () => {", &[]).0, 1);
    let (rejected, told) = code("export default async () => { await gate('x'); };", &[]);
    assert_eq!(rejected, 1);
    assert!(told.contains("--approve"), "{told}");
    assert_eq!(
        code(
            "export default async () => { await gate('x'); };",
            &["--approve"]
        )
        .0,
        0
    );
    let event = write(
        &folder,
        "event.json",
        r#"{"method": "PUT", "headers": {"X-GitHub-Event": "push"}, "query": {"a": "1"}, "body": {"ref": "main"}}"#,
    );
    let (ok, told) = code(
        "export default () => { const r = http.request(); console.log(r.provider, r.eventType, r.method, r.query.a, webhookTrigger('payload.ref == \"main\"')); };",
        &["--event", &event],
    );
    assert_eq!(ok, 0, "{told}");
    assert!(told.contains("github push PUT 1 true"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_run_and_its_processes() {
    let folder = tempfile::tempdir().unwrap();
    let nap = 700_000 + u64::from(std::process::id());
    let file = write(
        &folder,
        "p.ts",
        &format!(
            "export default async () => {{ const r = await runtime.run({{ command: {{ path: 'sh', args: ['-c', 'echo ready; sleep {nap}'] }} }}); console.log('status', r.status); }};"
        ),
    );
    let mut process = start(&["run", &file, "--driver", "native"], folder.path());
    until("the step runs", || async {
        process.log().contains("ready").then_some(())
    })
    .await;
    process.signal(Signal::SIGINT);
    assert_eq!(process.wait(), Some(130), "{}", process.log());
    assert!(process.log().contains("aborted in"), "{}", process.log());
    let left = Command::new("pgrep")
        .args(["-f", &format!("sleep {nap}")])
        .output()
        .unwrap();
    assert!(left.stdout.is_empty());
}

#[test]
fn a_terminal_gets_colours_and_a_line_that_is_alive() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        &folder,
        "p.ts",
        "export default async () => { await runtime.run({ name: 'unit tests', command: { path: 'sh', args: ['-c', 'echo one; sleep 0.4; echo err >&2'] } }); };",
    );
    let program = pocketci_tests::pocketci().display();
    let command = format!("{program} run {file} --driver native");
    let ran = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{out}");
    assert!(
        out.contains("[unit tests]\u{1b}[0m one") && out.contains("\u{1b}[31merr"),
        "{out:?}"
    );
    assert!(out.contains("unit tests runs"), "{out:?}");
    assert!(out.contains("\u{1b}[32msucceeded in"), "{out:?}");
}

/// What `deploy` takes is what `build` has put.
const JOBS: &str = "
resources: [{name: out, type: mock, source: {}}]
jobs:
- name: deploy
  plan:
  - {get: out, passed: [build]}
  - {task: show, config: {platform: linux, inputs: [{name: out}], run: {path: cat, args: [out/version]}}}
- name: build
  plan:
  - {task: unit, config: {platform: linux, run: {path: sh, args: [-c, 'echo built; exit CODE']}}}
  - {put: out, params: {version: from-build}}
";

#[test]
fn the_jobs_of_a_yaml_pipeline_run_in_the_order_in_which_versions_pass_them() {
    let folder = tempfile::tempdir().unwrap();
    let of = |code: &str, more: &[&str]| {
        let file = write(&folder, "p.yml", &JOBS.replace("CODE", code));
        let mut args = vec!["run", &file, "--driver", "native"];
        args.extend(more);
        let ran = run(&args);
        let out = String::from_utf8_lossy(&ran.stdout).into_owned();
        let err = String::from_utf8_lossy(&ran.stderr).into_owned();
        (ran.status.code().unwrap(), out, err)
    };
    let (code, out, err) = of("0", &[]);
    assert_eq!(code, 0, "{out}{err}");
    let (built, shown) = (out.find("[unit] built"), out.find("[show] from-build"));
    assert!(built.unwrap() < shown.unwrap(), "{out}");
    let (code, out, err) = of("3", &[]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        err.contains("job deploy: not run, as build did not succeed"),
        "{err}"
    );
    let (code, out, _) = of("0", &["--job", "deploy"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("[show] mock") && !out.contains("built"),
        "{out}"
    );
    let (code, _, err) = of("0", &["--job", "none"]);
    assert_ne!(code, 0);
    assert!(err.contains("no job \"none\""), "{err}");
}
