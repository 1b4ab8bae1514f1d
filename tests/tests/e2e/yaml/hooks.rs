//! Hooks after failure, timeout and abort.

use super::Stack;
use pocketci_tests::until;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_steps_hooks_see_its_outputs_and_the_job_stays_failed() {
    let stack = Stack::plain().await;
    stack.set("hooks").await;
    let run = stack.run("hooks", &["failure"]).await;
    assert_eq!(run["status"], "failed", "{run}");
    let output = stack.client.logs(run["id"].as_str().unwrap()).await;
    for said in ["told: broken", "tidied", "the job failed"] {
        assert!(output.contains(said), "{said}: {output}");
    }
    assert!(!output.contains("never"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_long_has_failed() {
    let stack = Stack::plain().await;
    stack.set("hooks").await;
    let run = stack.run("hooks", &["timeout"]).await;
    assert_eq!(run["status"], "failed", "{run}");
    let output = stack.client.logs(run["id"].as_str().unwrap()).await;
    assert!(output.contains("took too long"), "{output}");
    assert!(!output.contains("never"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_job_runs_on_abort_and_ensure() {
    let stack = Stack::plain().await;
    stack.set("hooks").await;
    let run = stack.start("hooks", &["abort"]).await;
    until("it waits", || async {
        stack
            .client
            .logs(&run)
            .await
            .contains("waiting")
            .then_some(())
    })
    .await;
    let path = format!("/api/runs/{run}/stop");
    stack
        .client
        .post(&path, &json!({ "by": "ann" }))
        .await
        .unwrap();
    let ended = stack.client.finished(&run).await;
    assert_eq!(
        (&ended["status"], &ended["actor"]),
        (&json!("aborted"), &json!("ann"))
    );
    let output = stack.client.logs(&run).await;
    for said in ["it was stopped", "tidied after the stop"] {
        assert!(output.contains(said), "{said}: {output}");
    }
    assert!(!output.contains("never"), "{output}");
}
