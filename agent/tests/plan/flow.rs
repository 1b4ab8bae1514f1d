//! How a job goes and ends: hooks, cancelling, time, gates, what is asserted.

use crate::bench::{Bench, Ran, Server, Wanted};
use std::sync::Arc;
use std::time::{Duration, Instant};

on_both!(
    a_cancelled_job_runs_its_hooks_and_is_over_soon,
    a_job_cancelled_before_its_plan_runs_nothing,
    a_task_that_takes_too_long_has_failed,
    a_job_that_takes_too_long_has_failed_and_its_hooks_run,
    attempts_and_try_and_ensure_do_as_they_should,
    fail_fast_stops_the_other_task,
    gates_hold_the_job_and_a_rejection_fails_it,
    what_should_have_run_is_compared,
    what_this_server_does_not_offer_is_said,
    asserts_of_tasks_look_at_code_and_output,
);

const SH: &str = "platform: linux, image: IMAGE, run: {path: sh, args: [-c, ";

fn task(name: &str, script: &str) -> String {
    format!("task: {name}, config: {{{SH}{script:?}]}}}}")
}

fn job(more: &str, steps: &[String]) -> String {
    let steps: Vec<String> = steps.iter().map(|step| format!("  - {step}\n")).collect();
    format!("jobs:\n- name: job\n{more}  plan:\n{}", steps.concat())
}

async fn cancel_when(bench: &Bench, yaml: &str, printed: &str) -> Ran {
    let wanted = Wanted::of(yaml);
    let stop = wanted.stop.clone();
    let watch = |ran: &Ran| {
        if ran.steps.values().any(|step| step.stdout.contains(printed)) {
            stop.cancel();
        }
    };
    bench.watched(&Arc::default(), wanted, watch).await
}

async fn a_cancelled_job_runs_its_hooks_and_is_over_soon(bench: Bench) {
    let hangs = format!(
        "{{{}, on_abort: {{{}}}, on_failure: {{{}}}, ensure: {{{}}}}}",
        task("hangs", "echo begun; sleep 600"),
        task("aborted", "echo after abort"),
        task("failed", "echo no"),
        task("ensured", "echo always"),
    );
    let more = format!("  on_abort: {{{}}}\n", task("job-hook", "echo last"));
    let began = Instant::now();
    let yaml = job(&more, &[hangs, format!("{{{}}}", task("never", "true"))]);
    let ran = cancel_when(&bench, &yaml, "begun").await;
    assert_eq!(
        (ran.outcome.as_str(), ran.reason.as_str()),
        ("aborted", "user"),
        "{ran:#?}"
    );
    assert_eq!(ran.names(), ["hangs", "aborted", "ensured", "job-hook"]);
    assert_eq!(ran.step("hangs").status, "abort");
    assert_eq!(ran.stdout("ensured"), "always");
    assert!(began.elapsed() < Duration::from_secs(30));
}

async fn a_job_cancelled_before_its_plan_runs_nothing(bench: Bench) {
    let yaml = job("", &[format!("{{{}}}", task("never", "true"))]);
    let wanted = Wanted::of(&yaml);
    wanted.stop.cancel();
    let ran = bench.run_at(&Arc::default(), wanted).await;
    assert_eq!(ran.outcome, "aborted");
    assert!(ran.steps.is_empty(), "{ran:#?}");
}

async fn a_task_that_takes_too_long_has_failed(bench: Bench) {
    let slow = format!(
        "{{{}, timeout: 300ms, on_failure: {{{}}}, on_error: {{{}}}, on_abort: {{{}}}}}",
        task("slow", "sleep 600"),
        task("failed", "true"),
        task("errored", "true"),
        task("aborted", "true"),
    );
    let ran = bench.run(&job("", &[slow])).await;
    assert_eq!(ran.outcome, "failed");
    assert_eq!(
        ran.message,
        "task \"slow\": it took longer than its timeout of 300ms"
    );
    assert_eq!(ran.names(), ["slow", "failed"]);
    let ran = bench
        .run(&job(
            "",
            &[format!("{{{}, timeout: soon}}", task("odd", "true"))],
        ))
        .await;
    assert_eq!(ran.outcome, "errored", "{ran:#?}");
}

async fn a_job_that_takes_too_long_has_failed_and_its_hooks_run(bench: Bench) {
    let more = format!(
        "  timeout: 500ms\n  on_failure: {{{}}}\n",
        task("hook", "true")
    );
    let ran = bench
        .run(&job(&more, &[format!("{{{}}}", task("slow", "sleep 600"))]))
        .await;
    assert_eq!(ran.outcome, "failed", "{ran:#?}");
    assert_eq!(ran.names(), ["slow", "hook"]);
}

async fn attempts_and_try_and_ensure_do_as_they_should(bench: Bench) {
    let yaml = job(
        "",
        &[
            format!("{{{}, attempts: 3}}", task("again", "test -e /nowhere")),
            format!("{{{}}}", task("never", "true")),
        ],
    );
    let ran = bench.run(&yaml).await;
    assert_eq!(ran.outcome, "failed");
    let paths: Vec<&str> = ran.steps.values().map(|step| step.path.as_str()).collect();
    assert_eq!(paths, ["plan[0]", "plan[0]#2", "plan[0]#3"]);
    let yaml = job(
        "",
        &[
            format!("{{try: {{{}}}}}", task("tried", "exit 1")),
            format!(
                "{{{}, ensure: {{{}}}}}",
                task("good", "true"),
                task("bad-hook", "exit 1")
            ),
        ],
    );
    let ran = bench.run(&yaml).await;
    assert_eq!(ran.outcome, "failed");
    assert_eq!(ran.names(), ["tried", "good", "bad-hook"]);
    assert_eq!(ran.message, "task \"bad-hook\": exit code 1");
}

async fn fail_fast_stops_the_other_task(bench: Bench) {
    let yaml = job(
        "",
        &[format!(
            "{{in_parallel: {{fail_fast: true, steps: [{{{}, on_abort: {{{}}}}}, {{{}}}]}}}}",
            task("hangs", "sleep 600"),
            task("aborted", "true"),
            task("fails", "sleep 1; exit 4"),
        )],
    );
    let ran = bench.run(&yaml).await;
    assert_eq!(
        (ran.outcome.as_str(), ran.message.as_str()),
        ("failed", "task \"fails\": exit code 4")
    );
    assert_eq!(ran.step("hangs").status, "abort");
    assert_eq!(ran.step("aborted").status, "complete");
}

async fn gates_hold_the_job_and_a_rejection_fails_it(bench: Bench) {
    let more = "  gate: {message: first}\n";
    let steps = [
        "{gate: ask, message: really, timeout: 1h}".to_owned(),
        format!("{{{}}}", task("go", "true")),
    ];
    let yaml = job(more, &steps);
    let server = Arc::new(Server::default());
    let ran = bench.run_at(&server, Wanted::of(&yaml)).await.succeeded();
    assert_eq!(server.saved(), ["gate job: first", "gate ask: really"]);
    assert_eq!(ran.names(), ["job", "ask", "go"]);
    assert_eq!(
        (ran.steps[&1].path.as_str(), ran.steps[&2].path.as_str()),
        ("gate", "plan[0]")
    );
    let rejecting = Server {
        rejects: true,
        ..Server::default()
    };
    let ran = bench
        .run_at(&Arc::new(rejecting), Wanted::of(&job("", &steps)))
        .await;
    assert_eq!(ran.outcome, "failed");
    assert!(ran.message.contains("rejected by ann"), "{}", ran.message);
    assert_eq!(ran.names(), ["ask"]);
}

async fn what_should_have_run_is_compared(bench: Bench) {
    let steps = [
        format!("{{{}}}", task("one", "true")),
        format!("{{{}}}", task("two", "exit 1")),
        format!("{{{}}}", task("three", "true")),
    ];
    for (expected, outcome) in [("one, two", "succeeded"), ("one, two, three", "failed")] {
        let more = format!("  assert: {{execution: [{expected}]}}\n");
        let ran = bench.run(&job(&more, &steps)).await;
        assert_eq!(ran.outcome, outcome, "{ran:#?}");
    }
}

async fn what_this_server_does_not_offer_is_said(bench: Bench) {
    let ran = bench
        .run(&job(
            "",
            &["{agent: helper, prompt: hello, model: a/b}".to_owned()],
        ))
        .await;
    assert_eq!(ran.outcome, "errored", "{ran:#?}");
    assert!(
        ran.message.contains("does not run language models"),
        "{}",
        ran.message
    );
    let yaml = format!(
        "{}prototypes: [{{name: p, type: registry-image, source: {{}}}}]\n",
        job("", &["{run: message, type: p}".to_owned()])
    );
    let ran = bench.run(&yaml).await.succeeded();
    assert!(ran.stdout("message").contains("nothing was done"));
}

async fn asserts_of_tasks_look_at_code_and_output(bench: Bench) {
    for (script, assert, outcome, message) in [
        (
            "echo out; echo err >&2",
            "{stdout: ou, stderr: rr, code: 0}",
            "succeeded",
            "",
        ),
        (
            "echo out",
            "{stdout: other}",
            "failed",
            "stdout does not contain \"other\"",
        ),
        (
            "echo out",
            "{stderr: out}",
            "failed",
            "stderr does not contain \"out\"",
        ),
        (
            "exit 2",
            "{code: 1}",
            "failed",
            "expected exit code 1, got 2",
        ),
        ("exit 2", "{code: 2}", "failed", "exit code 2"),
    ] {
        let ran = bench
            .run(&job(
                "",
                &[format!("{{{}, assert: {assert}}}", task("t", script))],
            ))
            .await;
        assert_eq!(ran.outcome, outcome, "{script} {assert}: {ran:#?}");
        assert!(ran.message.ends_with(message), "{}", ran.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deeply_nested_plan_runs_on_the_stack_of_a_worker() {
    let mut step =
        "task: deep, config: {platform: linux, run: {path: echo, args: [here]}}".to_owned();
    for _ in 0..15 {
        step = format!("do: [{{{step}}}], attempts: 2, ensure: {{do: []}}");
    }
    let yaml = job("", &[format!("{{{step}}}")]);
    let bench = Bench::native();
    // On a worker, as in an agent.
    let ran = tokio::spawn(async move { bench.run(&yaml).await })
        .await
        .unwrap();
    assert_eq!(ran.succeeded().stdout("deep"), "here");
}
