//! Jobs go on where they were: at another agent, and at the same one after its restart.

use pocketci_tests::{Client, Server, ServerOptions, TestDatabase, until};
use serde_json::{Value, json};
use std::path::Path;

const LEASES: [&str; 4] = ["--lease", "2s", "--accept-timeout", "1s"];

pub(super) fn options(database: &TestDatabase) -> ServerOptions {
    ServerOptions {
        storage: Some(database.url.clone()),
        local_agent: false,
        flags: LEASES.to_vec(),
    }
}

pub(super) async fn trigger(client: &Client, id: &str) -> String {
    let (status, answer) = client
        .post(&format!("/api/pipelines/{id}/trigger"), &json!({}))
        .await
        .unwrap();
    assert_eq!(status, 202, "{answer}");
    answer["run_id"].as_str().unwrap().to_owned()
}

pub(super) async fn appears(file: &Path) {
    until(&format!("{} appears", file.display()), || async {
        file.exists().then_some(())
    })
    .await;
}

/// What the test's file of effects has, line by line.
pub(super) fn effects(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("effects")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// JavaScript: `step(name, words)` writes a line of effects; `wait` makes it wait for the file `go` afterwards.
pub(super) fn steps(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "const step = (name, words, more = {{}}) => runtime.run({{ name, command: {{ path: 'sh', args: ['-c',
           `echo \"$0\" >> {folder}/effects; echo {folder} ${{name}}; ${{more.wait ? 'touch {folder}/waits; while [ ! -e {folder}/go ]; do sleep 0.05; done' : ''}}`,
           words] }}, mounts: more.mounts }});\n"
    )
}

/// All events of a run, page by page.
pub(super) async fn all_events(client: &Client, run: &str) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    loop {
        let after = events
            .last()
            .map_or(0, |event| event["seq"].as_i64().unwrap());
        let path = format!("/api/runs/{run}/events?follow=0&after={after}");
        let (_, page) = client.get(&path).await.unwrap();
        let page = page.as_array().unwrap().clone();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// The job's own output of one attempt.
pub(super) async fn said(client: &Client, run: &str, attempt: u64, stream: &str) -> String {
    let events = all_events(client, run).await;
    let mine = |event: &&Value| {
        event["event"] == "log"
            && event["attempt"] == attempt
            && event["step"] == 0
            && event["stream"] == stream
    };
    let texts = events.iter().filter(mine);
    texts.filter_map(|event| event["text"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_agent_was_killed_goes_on_at_another_without_repeating_its_steps() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(options(&database)).await;
    let client = server.client();
    let mut first = server.agent("first", &[]);
    server.agents_connected(1).await;
    let content = steps(folder.path())
        + "export default async () => {
             const facts = [Date.now(), Math.random(), crypto.randomUUID()].join(' ');
             console.log(facts);
             const one = await step('one', 'one ' + facts);
             await new Promise((done) => setTimeout(done, 10));
             storage.set('n', { seen: 1 });
             await step('two', 'two ' + one.startedAt);
             await step('three', 'three ' + facts, { wait: true });
             await step('four', 'four');
           };";
    let id = client.set("durable", &content, json!({})).await;
    let run = trigger(&client, &id).await;
    appears(&folder.path().join("waits")).await;
    let before = effects(folder.path());
    assert_eq!(before.len(), 3, "{before:?}");
    let _second = server.agent("second", &[]);
    first.process.kill();
    until("the third step runs again", || async {
        (effects(folder.path()).len() > 3).then_some(())
    })
    .await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let ended = client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["jobs"][0]["attempt"]),
        (&json!("success"), &json!(2)),
        "{ended} {}",
        client.logs(&run).await
    );
    let after = effects(folder.path());
    let mut expected = before.clone();
    // What had not ended is done again, with the same words.
    expected.extend([before[2].clone(), "four".to_owned()]);
    assert_eq!(after, expected);
    let facts = said(&client, &run, 1, "stdout").await;
    assert_eq!(said(&client, &run, 2, "stdout").await, facts);
    let taken = said(&client, &run, 2, "system").await;
    assert_eq!(
        taken,
        "step 1 'one' is taken from attempt 1's journal\nstep 2 'two' is taken from attempt 1's journal\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_goes_another_way_starts_from_the_top_and_says_so() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(options(&database)).await;
    let client = server.client();
    let mut first = server.agent("first", &[]);
    server.agents_connected(1).await;
    // The attempt's number is the one thing that a journal cannot hold still.
    let content = steps(folder.path())
        + "export default async () => {
             await step('one', 'one');
             await step('two', 'two of attempt ' + pipelineContext.attempt);
             await step('three', 'three', { wait: true });
           };";
    let id = client.set("diverges", &content, json!({})).await;
    let run = trigger(&client, &id).await;
    appears(&folder.path().join("waits")).await;
    let _second = server.agent("second", &[]);
    first.process.kill();
    until("the last step runs again", || async {
        (effects(folder.path()).len() == 6).then_some(())
    })
    .await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let ended = client.finished(&run).await;
    assert_eq!(ended["status"], "success", "{ended}");
    assert_eq!(
        effects(folder.path()),
        [
            "one",
            "two of attempt 1",
            "three",
            "one",
            "two of attempt 2",
            "three"
        ]
    );
    let system = said(&client, &run, 2, "system").await;
    assert!(
        system.contains("starts from the top: call 2 is runtime.run 'two', and was runtime.run 'two' with other arguments in attempt 1"),
        "{system}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_volume_that_died_with_its_agent_only_the_steps_that_mounted_it_run_again() {
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(options(&database)).await;
    let client = server.client();
    let mut first = server.agent("first", &[]);
    server.agents_connected(1).await;
    let content = steps(folder.path())
        + "export default async () => {
             const src = await volumes.create({ name: 'src' });
             await step('plain', 'plain');
             await runtime.run({ name: 'write', command: { path: 'sh', args: ['-c', 'echo content > src/file'] }, mounts: { src } });
             await step('mounts', 'mounts', { mounts: { src } });
             await step('waits', 'waits', { wait: true });
             console.log((await src.readFiles('file')).file);
           };";
    let id = client.set("volume", &content, json!({})).await;
    let run = trigger(&client, &id).await;
    appears(&folder.path().join("waits")).await;
    let _second = server.agent("second", &[]);
    first.process.kill();
    until("the last step runs again", || async {
        (effects(folder.path()).len() == 5).then_some(())
    })
    .await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    let ended = client.finished(&run).await;
    assert_eq!(ended["status"], "success", "{ended}");
    assert_eq!(
        effects(folder.path()),
        ["plain", "mounts", "waits", "mounts", "waits"]
    );
    assert_eq!(said(&client, &run, 2, "stdout").await, "content\n\n");
    let system = said(&client, &run, 2, "system").await;
    assert!(system.contains("volume 'src' is gone"), "{system}");
    assert!(system.contains("step 1 'plain' is taken"), "{system}");
}
