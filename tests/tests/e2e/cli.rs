//! The command line: one clear message for each mistake, exit codes with a meaning.

use pocketci_tests::process::run;
use pocketci_tests::{Server, ServerOptions};
use std::process::Output;

fn told(output: &Output) -> (i32, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    )
}

fn file(folder: &tempfile::TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn set_pipeline_tells_each_mistake_in_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(
        &folder,
        "good.ts",
        "export const pipeline = async (): Promise<void> => {};\n",
    );
    let broken = file(
        &folder,
        "broken.ts",
        "export const pipeline = () => {\n  const a = ;\n};\n",
    );
    let flags = vec!["--auth-token", "right"];
    let server = Server::start(ServerOptions {
        flags,
        local_agent: false,
        ..ServerOptions::default()
    });
    // With a token the harness cannot ask /api/agents; readiness is enough here.
    let server = server.await;
    let set = |file: &str, more: &[&str]| {
        let mut args = vec!["set-pipeline", file, "--server", &server.url];
        args.extend(more);
        told(&run(&args))
    };
    let (code, message) = set(&broken, &["--auth-token", "right"]);
    assert_eq!(code, 1);
    assert!(
        message.starts_with("broken.ts:2:13: ") && message.contains("> 2 |   const a = ;"),
        "{message}"
    );
    let (code, message) = set(&good.replace("good", "missing"), &["--auth-token", "right"]);
    assert_eq!(code, 5);
    assert!(
        message.starts_with("error: cannot read the pipeline's file ")
            && message.contains("missing.ts"),
        "{message}"
    );
    let (code, message) = set(&good, &["--auth-token", "wrong"]);
    assert_eq!(code, 3);
    assert!(
        message.contains("refuses the token") && message.contains("--auth-token"),
        "{message}"
    );
    let (code, message) = told(&run(&[
        "set-pipeline",
        &good,
        "--server",
        "http://127.0.0.1:9",
    ]));
    assert_eq!(code, 4);
    assert!(
        message.starts_with("error: cannot reach the server at http://127.0.0.1:9/: "),
        "{message}"
    );
    let (code, message) = told(&run(&["set-pipeline", &good, "--server", "nonsense"]));
    assert!(code == 5 && message.contains("is not a URL"), "{message}");
    let done = run(&[
        "set-pipeline",
        &good,
        "--server",
        &server.url,
        "--auth-token",
        "right",
        "--webhook-secret",
        "s",
    ]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0));
    assert!(
        said.contains("pipeline \"good\" created, revision 1") && said.contains("/api/webhooks/"),
        "{said}"
    );
    let again = run(&[
        "set-pipeline",
        &good,
        "--server",
        &server.url,
        "--auth-token",
        "right",
    ]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("\"good\" unchanged"));
}

#[test]
fn validate_pipeline_needs_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good.js", "export default () => {};");
    let output = run(&["validate-pipeline", "-c", &good]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), &b"looks good\n"[..])
    );
    let two = file(
        &folder,
        "two.ts",
        "import a from './a';\nimport b from './b';\nexport const pipeline = [a, b];\n",
    );
    let (code, message) = told(&run(&["validate-pipeline", "-c", &two]));
    assert_eq!(code, 1);
    assert!(
        message.contains("'./a'") && message.contains("'./b'") && message.contains("2 faults"),
        "all at once: {message}"
    );
    let (code, message) = told(&run(&["validate-pipeline", "-c", "nothing.txt"]));
    assert!(code == 5 && message.contains("ends in .ts"), "{message}");
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let storage = format!("sqlite://{}", folder.path().join("a.db").display());
    let (code, message) = told(&run(&[
        "server",
        "--port",
        &port,
        "--grpc-port",
        "0",
        "--storage",
        &storage,
    ]));
    assert!(
        code == 5 && message.contains(&format!("cannot listen on 127.0.0.1:{port} for HTTP")),
        "{message}"
    );
    let (code, message) = told(&run(&[
        "server",
        "--storage",
        "sqlite:///nowhere/at/all.db",
    ]));
    assert!(
        code == 5 && message.contains("cannot open sqlite:///nowhere/at/all.db"),
        "{message}"
    );
    let (code, message) = told(&run(&["server", "--storage", "mysql://x"]));
    assert!(
        code == 2 && message.contains("expected sqlite://FILE or postgres://"),
        "{message}"
    );
    let (code, message) = told(&run(&["server", "--lease", "10ms", "--max-webhooks", "0"]));
    assert!(
        code == 5 && message.contains("--lease must") && message.contains("--max-webhooks must"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_a_wrong_token_ends_with_one_sentence() {
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let (code, message) = told(&run(&[
        "agent",
        "--server",
        &server.grpc,
        "--token",
        "wrong",
        "--name",
        "x",
        "--driver",
        "native",
    ]));
    assert_eq!(code, 5);
    let last = message.lines().last().unwrap();
    assert!(
        last.contains("refuses this agent: the agent token is missing, wrong or revoked"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_followed_listed_and_run_again() {
    let server = Server::start(ServerOptions::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let program = "export default async () => { console.log('args', pipelineContext.args.join('+')); console.error('bad');
        if (pipelineContext.args.length > 1) throw new Error('too many'); };";
    let path = file(&folder, "p.ts", program);
    let at = ["--server", &server.url];
    let cli = |args: &[&str]| {
        let mut all = args.to_vec();
        all.extend(at);
        run(&all)
    };
    assert!(
        cli(&["set-pipeline", &path, "--driver", "native"])
            .status
            .success()
    );
    let ok = cli(&["pipeline", "run", "p", "one"]);
    assert_eq!(
        (
            ok.status.code(),
            String::from_utf8_lossy(&ok.stdout).as_ref()
        ),
        (Some(0), "args one\n")
    );
    assert!(String::from_utf8_lossy(&ok.stderr).contains("bad\n"));
    let failed = cli(&["pipeline", "run", "p", "one", "two"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&failed.stderr).contains("p.ts:2:"),
        "the author's own line"
    );
    let listed = cli(&["runs", "ls", "--json", "--status", "failed"]);
    let page: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = page["items"][0]["id"].as_str().unwrap();
    let again = cli(&["rerun", id]);
    let new = String::from_utf8_lossy(&again.stdout).trim().to_owned();
    assert_eq!(cli(&["logs", &new, "-f"]).status.code(), Some(1));
    assert!(String::from_utf8_lossy(&cli(&["logs", &new]).stdout).contains("args one+two"));
    assert!(
        String::from_utf8_lossy(&cli(&["runs", "show", &new]).stdout).contains("status:   failed")
    );
    let token = cli(&["agents", "token", "create", "--name", "ci"]);
    assert!(String::from_utf8_lossy(&token.stdout).starts_with("pat_"));
    assert!(cli(&["pipeline", "rm", "p"]).status.success());
    assert_eq!(
        told(&cli(&["pipeline", "get", "p"])),
        (3, "error: no pipeline \"p\" here".into())
    );
}
