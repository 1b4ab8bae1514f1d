//! What tasks see of each other's files.

use crate::bench::Bench;

on_both!(
    inputs_are_copies_and_an_output_at_the_same_path_is_not,
    outputs_exist_empty_and_are_kept_though_the_task_failed,
    names_are_mapped_and_later_outputs_replace_earlier_ones,
    missing_inputs_are_all_named_before_anything_runs,
    paths_nest_and_stay_inside,
    caches_survive_failures_and_jobs_and_belong_to_their_step,
    directories_and_programs_of_inputs,
    across_keeps_artifacts_of_iterations_apart,
);

/// A task that runs a script.
fn task(name: &str, script: &str, more: &str) -> String {
    format!(
        "{{task: {name}, {more} config: {{platform: linux, image: IMAGE, run: {{path: sh, args: [-ec, {script:?}]}}"
    )
}

fn plan(steps: &[String]) -> String {
    let steps: Vec<String> = steps.iter().map(|step| format!("  - {step}\n")).collect();
    format!("jobs:\n- name: job\n  plan:\n{}", steps.concat())
}

async fn inputs_are_copies_and_an_output_at_the_same_path_is_not(bench: Bench) {
    let yaml = plan(&[
        task("make", "echo one > out/file", "") + ", outputs: [{name: out}]}}",
        task("change", "echo two > out/file; touch out/more", "") + ", inputs: [{name: out}]}}",
        task("look", "cat out/file; ls out", "") + ", inputs: [{name: out}]}}",
        task("edit", "cat out/file; echo three > out/file", "")
            + ", inputs: [{name: out}], outputs: [{name: out}]}}",
        task("see", "cat out/file", "") + ", inputs: [{name: out}]}}",
    ]);
    let ran = bench.run(&yaml).await.succeeded();
    assert_eq!(ran.stdout("look"), "one\nfile");
    assert_eq!(ran.stdout("edit"), "one");
    assert_eq!(ran.stdout("see"), "three");
    let kinds: Vec<&str> = ran.steps.values().map(|step| step.kind.as_str()).collect();
    assert_eq!(kinds, ["task"; 5]);
    assert_eq!(ran.step("look").path, "plan[2]");
}

async fn outputs_exist_empty_and_are_kept_though_the_task_failed(bench: Bench) {
    let hook = task("hook", "cat out/log; ls empty | wc -l", "")
        + ", inputs: [{name: out}, {name: empty}]}}";
    let fails = task("fails", "ls out empty; echo why > out/log; exit 3", "")
        + &format!(", outputs: [{{name: out}}, {{name: empty}}]}}, on_failure: {hook}}}");
    let ran = bench.run(&plan(&[fails])).await;
    assert_eq!(ran.outcome, "failed", "{ran:#?}");
    assert_eq!(ran.message, "task \"fails\": exit code 3");
    let hook: Vec<&str> = ran.stdout("hook").split_whitespace().collect();
    assert_eq!(hook, ["why", "0"]);
    assert_eq!(ran.step("fails").exit_code, 3);
    assert_eq!(ran.step("hook").path, "plan[0].on_failure");
}

async fn names_are_mapped_and_later_outputs_replace_earlier_ones(bench: Bench) {
    let make = |text: &str| {
        task(
            "make",
            &format!("echo {text} > out/file"),
            "output_mapping: {out: made},",
        ) + ", outputs: [{name: out}]}}"
    };
    let yaml = plan(&[
        make("first"),
        make("second"),
        task("look", "cat in/file", "input_mapping: {in: made},") + ", inputs: [{name: in}]}}",
    ]);
    assert_eq!(bench.run(&yaml).await.succeeded().stdout("look"), "second");
}

async fn missing_inputs_are_all_named_before_anything_runs(bench: Bench) {
    let yaml = plan(&[
        task("make", "true", "") + ", outputs: [{name: there}]}}",
        task("look", "echo ran", "input_mapping: {b: mapped},")
            + ", inputs: [{name: a}, {name: b}, {name: there}, {name: c, optional: true}]}}",
    ]);
    let ran = bench.run(&yaml).await;
    assert_eq!(ran.outcome, "errored");
    assert_eq!(ran.message, "task \"look\": missing inputs: a, mapped");
    assert_eq!(ran.stdout("look"), "");
    assert_eq!(ran.step("look").status, "error");
}

async fn paths_nest_and_stay_inside(bench: Bench) {
    let yaml = plan(&[
        task("make", "echo a > a/file; echo b > b/file", "")
            + ", outputs: [{name: a}, {name: b}]}}",
        task(
            "look",
            "cat file sub/b/file etc/deep/file; echo new > sub/b/out/made",
            "",
        ) + ", inputs: [{name: a, path: .}, {name: b, path: sub/b}, {name: c, path: ../../etc/deep}], \
              outputs: [{name: nested, path: sub/b/out}]}, input_mapping: {c: a}}",
        task("see", "cat nested/made", "") + ", inputs: [{name: nested}]}}",
    ]);
    let ran = bench.run(&yaml).await.succeeded();
    assert_eq!(ran.stdout("look"), "a\nb\na");
    assert_eq!(ran.stdout("see"), "new");
}

async fn caches_survive_failures_and_jobs_and_belong_to_their_step(bench: Bench) {
    let step =
        |name: &str, script: &str| task(name, script, "") + ", caches: [{path: kept/deep}]}}";
    let add =
        "cat kept/deep/* 2>/dev/null || echo none; date +%N > kept/deep/$(ls kept/deep | wc -l)";
    let failing = format!("{add}; exit 1");
    let ran = bench.run(&plan(&[step("one", &failing)])).await;
    assert_eq!(
        (ran.outcome.as_str(), ran.stdout("one")),
        ("failed", "none")
    );
    let yaml = plan(&[step("one", add), step("other", add)]);
    let ran = bench.run(&yaml).await.succeeded();
    assert_ne!(ran.stdout("one"), "none", "saved by the failed one");
    assert_eq!(ran.stdout("other"), "none", "each step has its own");
    let ran = bench.run(&plan(&[step("one", add)])).await.succeeded();
    assert_eq!(ran.stdout("one").lines().count(), 2);
    // At the same time the second begins with an empty one.
    let both = format!(
        "{{in_parallel: [{}, {}]}}",
        step("one", "ls kept/deep | wc -l; sleep 1"),
        step("one", "ls kept/deep | wc -l; sleep 1")
    );
    let ran = bench.run(&plan(&[both])).await.succeeded();
    let mut counts: Vec<&str> = ran.steps.values().map(|step| step.stdout.trim()).collect();
    counts.sort_unstable();
    assert_eq!(counts, ["0", "3"]);
    let told: String = ran.steps.values().map(|step| step.system.clone()).collect();
    assert!(told.contains("in use by another job"), "{told}");
}

async fn directories_and_programs_of_inputs(bench: Bench) {
    let script = "printf '#!/bin/sh\\necho ran in; pwd | tail -c 5; cat here' > repo/ci.sh; chmod +x repo/ci.sh; echo > repo/here";
    let yaml = plan(&[
        task("make", script, "") + ", outputs: [{name: repo}]}}",
        "{task: dir, config: {platform: linux, image: IMAGE, inputs: [{name: repo}], \
          run: {path: ./ci.sh, dir: repo}}}"
            .to_owned(),
        "{task: path, config: {platform: linux, image: IMAGE, inputs: [{name: repo}], \
          run: {path: repo/ci.sh}}}"
            .to_owned(),
    ]);
    let ran = bench.run(&yaml).await;
    assert_eq!(ran.stdout("dir"), "ran in\nrepo", "{ran:#?}");
    // It runs elsewhere, where there is no file `here`.
    assert!(ran.stdout("path").starts_with("ran in"), "{ran:#?}");
    assert_eq!(ran.outcome, "failed");
}

async fn across_keeps_artifacts_of_iterations_apart(bench: Bench) {
    let make = task(
        "make-((.:v))",
        "cat base/file; echo ((.:v)) > own/file; cat own/file",
        "",
    ) + ", inputs: [{name: base}], outputs: [{name: own}]}}";
    let yaml = plan(&[
        task("base", "echo base > base/file", "") + ", outputs: [{name: base}]}}",
        format!("{{across: [{{var: v, values: [a, b], max_in_flight: all}}], do: [{make}]}}"),
        task("look", "true", "") + ", inputs: [{name: own}]}}",
    ]);
    let ran = bench.run(&yaml).await;
    assert_eq!(ran.stdout("make-a"), "base\na", "{ran:#?}");
    assert_eq!(ran.stdout("make-b"), "base\nb");
    assert_eq!(ran.step("make-b").path, "plan[1]{v=b}.do[0]");
    assert_eq!(ran.message, "task \"look\": missing inputs: own");
}
