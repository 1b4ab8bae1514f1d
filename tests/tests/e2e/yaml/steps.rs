//! Steps of all kinds, as the examples use them.

use super::{Stack, statuses};
use pocketci_tests::until;
use serde_json::json;

/// Runs an example; its output.
async fn output_of(stack: &Stack, name: &str) -> String {
    stack.set(name).await;
    let run = stack.run(name, &[]).await;
    let output = stack.client.logs(run["id"].as_str().unwrap()).await;
    assert_eq!(run["status"], "success", "{run} {output}");
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_found_again_by_the_next_build() {
    let stack = Stack::plain().await;
    let first = output_of(&stack, "caches").await;
    assert!(first.contains("build number 1"), "{first}");
    let second = output_of(&stack, "caches").await;
    assert!(second.contains("build number 2"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn across_runs_every_combination() {
    let stack = Stack::plain().await;
    let output = output_of(&stack, "across").await;
    for os in ["alpine", "debian"] {
        for go in ["1.22", "1.23"] {
            assert!(output.contains(&format!("go {go} on {os}")), "{output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_run_at_once_are_tried_again_and_may_fail() {
    let stack = Stack::plain().await;
    let output = output_of(&stack, "parallel").await;
    for said in ["one", "two", "three", "four", "try 1", "try 2"] {
        assert!(output.contains(said), "{said}: {output}");
    }
    assert!(!output.contains("try 3"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_does_to_its_input_is_its_own_affair() {
    let stack = Stack::plain().await;
    let output = output_of(&stack, "artifacts").await;
    let (spoilt, original) = (output.find("spoilt"), output.find("\noriginal"));
    assert!(spoilt.is_some() && original > spoilt, "{output}");
    assert!(output.contains("the word is original"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_sets_a_pipeline() {
    let stack = Stack::plain().await;
    let output = output_of(&stack, "set-pipeline").await;
    assert!(output.contains("job greet has been added"), "{output}");
    let run = stack.run("made", &["greet"]).await;
    assert_eq!(run["status"], "success");
    let again = output_of(&stack, "set-pipeline").await;
    assert!(again.contains("no changes to apply"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_its_approval() {
    let stack = Stack::plain().await;
    stack.set("approval").await;
    let run = stack.start("approval", &[]).await;
    let gate = until("the gate is open", || async {
        let gates = stack.status(&format!("/api/gates?run={run}")).await;
        gates[0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let path = format!("/api/gates/{gate}/approve");
    let (status, answer) = stack
        .client
        .post(&path, &json!({ "by": "ann" }))
        .await
        .unwrap();
    assert_eq!(status, 200, "{answer}");
    let ended = stack.client.finished(&run).await;
    assert_eq!(ended["status"], "success", "{ended}");
    // The pipeline says which jobs must have been executed.
    assert_eq!(
        statuses(&ended),
        [("deploy", "success"), ("(assert)", "success")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_that_does_not_hold_fails_the_run() {
    let stack = Stack::plain().await;
    let content = super::example("hello") + "assert: {execution: [hello, goodbye]}\n";
    stack.set_content("asserting", &content).await;
    let run = stack.run("asserting", &[]).await;
    assert_eq!(
        (&run["status"], &run["reason"]),
        (&json!("failed"), &json!("assertion"))
    );
    let message = run["message"].as_str().unwrap();
    assert!(
        message.contains("[hello, goodbye], got [hello]"),
        "{message}"
    );
}
