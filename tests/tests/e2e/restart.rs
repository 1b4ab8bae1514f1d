//! An agent that is killed and started again goes on with what it held, and touches nothing else.

use super::durable::{all_events, appears, effects, options, said, steps, trigger};
use pocketci_tests::{Server, ServerOptions, TestDatabase, required, until};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The Docker engine of the tests, by its command line.
pub(crate) struct Engine(String);

impl Engine {
    pub(crate) fn new() -> Self {
        required("POCKETCI_TEST_IMAGE");
        Self(required("POCKETCI_TEST_DOCKER_HOST"))
    }

    pub(crate) fn run(&self, args: &[&str]) -> Vec<String> {
        let mut command = std::process::Command::new("docker");
        let output = command.args(["-H", &self.0]).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().map(str::to_owned).collect()
    }

    /// Ids of containers with a label, running or not.
    pub(crate) fn labelled(&self, label: &str) -> Vec<String> {
        let filter = format!("label={label}");
        self.run(&["ps", "-a", "-q", "--no-trunc", "--filter", &filter])
    }
}

/// Events of one kind with this name of a step, or this number.
fn of_step<'a>(events: &'a [Value], kind: &str, step: u64) -> Vec<&'a Value> {
    let mine = |event: &&Value| event["event"] == kind && event["step"] == step;
    events.iter().filter(mine).collect()
}

const LINES: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_goes_on_with_its_containers_and_no_byte_is_lost() {
    let engine = Engine::new();
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let mut agent = server.agent("restarts", &[]);
    server.agents_connected(1).await;
    let content = format!(
        "export default async () => {{
           const v = await volumes.create({{ name: 'v' }});
           const run = (name, script) => runtime.run({{ name, image: 'busybox', mounts: {{ v }}, command: {{ path: 'sh', args: ['-c', script] }} }});
           await run('before', 'echo before >> v/effects');
           console.log('once', Date.now());
           const r = await run('long', 'echo long >> v/effects; i=0; while [ $i -lt {LINES} ]; do echo line $i; echo err $i >&2; i=$((i+1)); sleep 0.02; done; exit 3');
           console.log(r.code, r.stdout.length, r.stderr.split('\\n').length);
           console.log((await v.readFiles('effects')).effects);
         }};"
    );
    let id = client
        .set("restarts", &content, json!({ "driver": "docker" }))
        .await;
    let run = trigger(&client, &id).await;
    until("the long step prints", || async {
        client.logs(&run).await.contains("line 20\n").then_some(())
    })
    .await;
    let label = format!("pocketci.run={run}");
    let before = engine.labelled(&label);
    assert_eq!(before.len(), 1);
    agent.kill_and_restart();
    until("the agent goes on", || async {
        client.logs(&run).await.contains("line 250\n").then_some(())
    })
    .await;
    assert_eq!(
        engine.labelled(&label),
        before,
        "the container is the same one"
    );
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(1)),
        "{ended} {}",
        agent.process.log()
    );
    let events = all_events(&client, &run).await;
    for (stream, word) in [("stdout", "line"), ("stderr", "err")] {
        let logged = of_step(&events, "log", 2);
        let logged = logged.iter().filter(|event| event["stream"] == stream);
        let text: String = logged.filter_map(|event| event["text"].as_str()).collect();
        let expected: String = (0..LINES).map(|n| format!("{word} {n}\n")).collect();
        assert_eq!(text, expected, "{stream} byte for byte");
    }
    for kind in ["step_started", "step_finished"] {
        for step in [1, 2] {
            assert_eq!(of_step(&events, kind, step).len(), 1, "{kind} {step}");
        }
    }
    let console = said(&client, &run, 1, "stdout").await;
    assert_eq!(console.matches("once").count(), 1, "{console}");
    assert!(console.contains("3 2590 301\nbefore\nlong\n"), "{console}");
    until("nothing is left", || async {
        let volumes = engine.run(&["volume", "ls", "-q", "--filter", &format!("label={label}")]);
        (engine.labelled(&label).is_empty() && volumes.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_removes_what_is_nobodys_and_touches_nothing_else() {
    let engine = Engine::new();
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let mut agent = server.agent("sweeper", &[]);
    server.agents_connected(1).await;
    let create = |labels: &[&str]| {
        let mut args = vec!["create"];
        args.extend(labels.iter().flat_map(|label| ["--label", label]));
        args.extend(["busybox", "sleep", "600"]);
        engine.run(&args).remove(0)
    };
    let job = "pocketci.job=0190a0a0-0000-7000-8000-000000000000";
    let of = |server: &str| {
        let hash = Sha256::digest(format!("sweeper\n{server}").as_bytes());
        format!("pocketci.server={}", hex::encode(&hash[..8]))
    };
    let (mine, elsewhere) = (of(&server.grpc), of("http://elsewhere:1"));
    let foreign = [
        create(&[]),
        create(&["pocketci.agent=another", &mine, job, "pocketci.attempt=1"]),
        create(&["pocketci.agent=sweeper-2", &mine, job]),
        create(&["pocketci.agent=sweeper", &elsewhere, job]),
        create(&["pocketci.agent=sweeper", job, "pocketci.attempt=1"]),
    ];
    let left = create(&["pocketci.agent=sweeper", &mine, job, "pocketci.attempt=1"]);
    let all = || engine.run(&["ps", "-a", "-q", "--no-trunc"]);
    agent.kill_and_restart();
    until("what is nobody's is removed", || async {
        (!all().contains(&left)).then_some(())
    })
    .await;
    for id in &foreign {
        assert!(all().contains(id), "not this agent's");
        engine.run(&["rm", "-f", id]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_step_dies_with_its_agent_and_another_attempt_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let mut agent = server.agent("native", &[]);
    server.agents_connected(1).await;
    let content = steps(folder.path())
        + "export default async () => {
             await step('one', 'one');
             await step('two', 'two $$', { wait: true });
             await step('three', 'three');
           };";
    let content = content.replace("echo \"$0\"", "echo $$ \"$0\"");
    let id = client.set("native", &content, json!({})).await;
    let run = trigger(&client, &id).await;
    appears(&folder.path().join("waits")).await;
    let before = effects(folder.path());
    let (pid, _) = before[1].split_once(' ').unwrap();
    agent.kill_and_restart();
    until("the step runs again", || async {
        (effects(folder.path()).len() == 3).then_some(())
    })
    .await;
    // Its new parent may not have looked at its end.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "it died: {stat}");
    std::fs::write(folder.path().join("go"), "").unwrap();
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(2)),
        "{ended}"
    );
    let done: Vec<String> = effects(folder.path())
        .iter()
        .filter_map(|line| line.split(' ').nth(1).map(str::to_owned))
        .collect();
    assert_eq!(done, ["one", "two", "two", "three"]);
    let system = said(&client, &run, 2, "system").await;
    assert!(system.contains("step 1 'one' is taken"), "{system}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_step_of_a_job_that_is_not_durable_dies_with_its_agent_too() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(options(&database)).await;
    let client = server.client();
    let mut agent = server.agent("native", &[]);
    server.agents_connected(1).await;
    let content = steps(folder.path())
        + "export default async () => { await step('one', '', { wait: true }); };";
    let content = content.replace("echo \"$0\"", "echo $$");
    let settings = json!({ "settings": { "durable": false } });
    let id = client.set("plain", &content, settings).await;
    let run = trigger(&client, &id).await;
    appears(&folder.path().join("waits")).await;
    let pid = effects(folder.path()).remove(0);
    agent.kill_and_restart();
    until("the process is gone", || async {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let ended = client.finished(&run).await;
    // The job was not held, so it starts from the top when its lease has ended.
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(2)),
        "{ended}"
    );
    assert_eq!(effects(folder.path()).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_died_with_its_agents_process_is_made_again_in_another_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let mut agent = server.agent("native", &[]);
    server.agents_connected(1).await;
    let content = steps(folder.path())
        + "export default async () => {
             const src = await volumes.create({ name: 'src' });
             await step('mounts', 'mounts', { mounts: { src } });
             await pipeline.gate('go');
             await step('after', 'after');
           };";
    let id = client.set("volume", &content, json!({})).await;
    let run = trigger(&client, &id).await;
    until("the gate is open", || async {
        client
            .logs(&run)
            .await
            .contains("waiting at gate")
            .then_some(())
    })
    .await;
    agent.kill_and_restart();
    until("the step runs again", || async {
        (effects(folder.path()).len() == 2).then_some(())
    })
    .await;
    let gates = client
        .get(&format!("/api/gates?run={run}"))
        .await
        .unwrap()
        .1;
    let gate = gates[0]["id"].as_str().unwrap();
    let path = format!("/api/gates/{gate}/approve");
    let (status, answer) = client.post(&path, &json!({})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(2)),
        "{ended}"
    );
    assert_eq!(effects(folder.path()), ["mounts", "mounts", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_stopped_while_its_agent_was_down_is_stopped() {
    let engine = Engine::new();
    let server = Server::start(ServerOptions {
        local_agent: false,
        ..ServerOptions::default()
    })
    .await;
    let client = server.client();
    let mut agent = server.agent("stopped", &[]);
    server.agents_connected(1).await;
    let content = "export default async () => { await runtime.run({ image: 'busybox', command: { path: 'sh', args: ['-c', 'echo ready; sleep 600'] } }); };";
    let id = client
        .set("stopped", content, json!({ "driver": "docker" }))
        .await;
    let run = trigger(&client, &id).await;
    until("the container runs", || async {
        client.logs(&run).await.contains("ready").then_some(())
    })
    .await;
    agent.process.kill();
    client
        .post(&format!("/api/runs/{run}/stop"), &json!({}))
        .await
        .unwrap();
    agent.kill_and_restart();
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["reason"]),
        (&json!("aborted"), &json!("user"))
    );
    until("nothing is left", || async {
        engine
            .labelled(&format!("pocketci.run={run}"))
            .is_empty()
            .then_some(())
    })
    .await;
}
