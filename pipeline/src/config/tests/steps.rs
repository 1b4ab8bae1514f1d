//! Steps and task configurations.

use super::*;
use crate::config::model::{Core, PutInputs, VersionChoice};

#[test]
fn around_steps_scalars_become_text_and_within_they_do_not() {
    let config = config(
        "resources: [{name: 1.50, type: yes, version: {ref: 3}, tags: [1, true], check_every: 1m}]\njobs: [{name: 1e6, serial_groups: [7], plan: [{get: '1.5'}]}]",
    );
    assert_eq!(config.resources[0].name, "1.5");
    assert_eq!(config.resources[0].type_name, "true");
    assert_eq!(config.resources[0].tags, ["1", "true"]);
    assert_eq!(config.resources[0].version.as_ref().unwrap()["ref"], "3");
    assert_eq!(config.jobs[0].name, "1e+06");
    assert_eq!(config.jobs[0].serial_groups, ["7"]);
    for steps in [
        "  - get: 1",
        "  - {get: r, passed: [1]}",
        "  - {get: r, tags: [1]}",
        "  - {get: r, tags: x}",
        "  - {get: r, resource: [r]}",
        "  - {get: r, version: {a: null}}",
        "  - {get: r, version: [a]}",
        "  - {put: r, inputs: 3}",
        "  - {put: r, no_get: 'yes'}",
        "  - {put: r, params: [1]}",
        "  - {task: t, file: 1}",
        "  - {task: t, file: a/b, input_mapping: {a: 1}}",
        "  - {task: t, file: a/b, vars: []}",
        "  - {task: t, config: {platform: linux, run: {path: [x]}}}",
        "  - {task: t, config: {platform: linux, run: x}}",
        "  - {task: t, config: {platform: linux, inputs: {a: b}}}",
        "  - {task: t, config: {platform: linux, inputs: [a]}}",
        "  - {task: t, config: {platform: linux, inputs: [{name: a, optionl: true}]}}",
        "  - {task: t, config: {platform: linux, params: []}}",
        "  - {task: t, config: {platform: linux, image_resource: {typ: x}}}",
        "  - {task: t, config: {platform: linux, container_limits: {cpu: lots}}}",
        "  - {task: t, config: {platform: linux, container_limits: {memory: 1.5GB}}}",
        "  - {task: t, config: {platform: linux, container_limits: {memory: -1}}}",
        "  - {task: t, config: {platform: linux, caches: [{path: c, ttl: 5}]}}",
        "  - {task: t, config: {platform: linux, unknown: 1}}",
        "  - {set_pipeline: p, file: a/b, var_files: a}",
        "  - {set_pipeline: p, file: a/b, instance_vars: [a]}",
        "  - {load_var: v, file: a/b, reveal: 1}",
        "  - {do: {get: r}}",
        "  - {do: [[{get: r}]]}",
        "  - {do: [null]}",
        "  - {try: null}",
        "  - {in_parallel: text}",
        "  - {in_parallel: {steps: [{get: r}], fail_fast: 1}}",
        "  - {in_parallel: {stps: []}}",
        "  - {get: r, attempts: 1.5}",
        "  - {get: r, attempts: '2'}",
        "  - {get: r, timeout: 5}",
        "  - {do: [], timeout: 5}",
        "  - {get: r, ensure: null}",
        "  - {get: r, on_success: []}",
        "  - {get: r, across: [{var: 1, values: []}]}",
        "  - {get: r, across: [{var: a, values: [], max_in_flight: some}]}",
        "  - {get: r, across: [text]}",
        "  - {aggregate: [{get: r}]}",
        "  - {Get: r}",
        "  - ensure: {put: r}",
    ] {
        assert!(
            told(&job(steps)).starts_with("p.yml:6:"),
            "{steps}: {}",
            told(&job(steps))
        );
    }
}

#[test]
fn unknown_keys_of_steps_are_told_as_by_concourse() {
    for (step, path, keys) in [
        ("{get: r, put: r}", "do[0]", "[\"get\"]"),
        ("{get: r, config: {}}", "do[0]", "[\"config\"]"),
        ("{get: r, fail_fast: true}", "do[0]", "[\"fail_fast\"]"),
        ("{try: {get: r, x: 1}}", "do[0].try", "[\"x\"]"),
        (
            "{in_parallel: [{get: r, x: 1}]}",
            "do[0].in_parallel.steps[0]",
            "[\"x\"]",
        ),
        (
            "{do: [{get: r, x: 1, w: 2}]}",
            "do[0].do[0]",
            "[\"x\" \"w\"]",
        ),
        ("{try: {get: r}, tags: [a]}", "do[0]", "[\"tags\"]"),
        (
            "{load_var: v, file: a/b, params: {}}",
            "do[0]",
            "[\"params\"]",
        ),
        ("{get: r, parallelism: 2}", "do[0]", "[\"parallelism\"]"),
    ] {
        let line = format!("\tjobs.j.plan.{path}: unknown fields {keys} ");
        let told = told(&job(&format!("  - {step}")));
        assert!(told.contains(&line), "{step}: {told}");
    }
    assert!(told("jobs: [{name: a, plans: []}]").contains("jobs.a: unknown field \"plans\""));
    assert!(
        told("groups: [{name: g, job: []}]\njobs: [{name: a}]")
            .contains("groups.g: unknown field \"job\"")
    );
    assert!(
        told("display: {image: x}\njobs: [{name: a}]").contains("display: unknown field \"image\"")
    );
    assert!(load("p", "x-y: 1\njobs: [{name: a}]", &Vars::new()).is_ok());
    let strict = load_as(
        "p",
        "x-y: 1\njobs: [{name: a}]",
        &Vars::new(),
        Strictness::Strict,
    );
    assert!(report("p", &strict.unwrap_err()).contains("p:1:1: unknown field \"x-y\""));
}

#[test]
fn faults_of_steps_have_concourses_words_and_paths() {
    for (steps, line) in [
        (
            "  - get: r\n  - {get: r, version: every}",
            "jobs.j.plan.do[1].get(r): repeated name",
        ),
        (
            "  - {get: r, on_abort: {get: r}}",
            "jobs.j.plan.do[0].on_abort.get(r): repeated name",
        ),
        (
            "  - {get: r, resource: s}",
            "jobs.j.plan.do[0].get(r): unknown resource 's'",
        ),
        (
            "  - {get: r, passed: ['[']}",
            "jobs.j.plan.do[0].get(r).passed: invalid glob expression '['",
        ),
        (
            "  - {get: ''}",
            "jobs.j.plan.do[0].get(): identifier cannot be an empty string",
        ),
        (
            "  - {task: t}",
            "jobs.j.plan.do[0].task(t): must specify either `file:` or `config:`",
        ),
        (
            "  - {task: t, config: null}",
            "jobs.j.plan.do[0].task(t): must specify either `file:` or `config:`",
        ),
        (
            "  - {task: t, file: a/b, config: {platform: x}}",
            "jobs.j.plan.do[0].task(t): must specify one of `file:` or `config:`, not both",
        ),
        (
            "  - {task: t, config: {}}",
            "jobs.j.plan.do[0].task(t).config: missing 'platform'",
        ),
        (
            "  - {set_pipeline: p}",
            "jobs.j.plan.do[0].set_pipeline(p): no file specified",
        ),
        (
            "  - {run: Msg, type: p}",
            "jobs.j.plan.do[0].run(p.Msg): unknown prototype 'p'",
        ),
        (
            "  - {run: Msg, type: p}",
            "'Msg' is not a valid identifier: must start with a lowercase letter or a number",
        ),
        (
            "  - {do: [], timeout: nope}",
            "jobs.j.plan.do[0].timeout: invalid duration 'nope'",
        ),
        (
            "  - {do: [], timeout: }",
            "jobs.j.plan.do[0].timeout: invalid duration ''",
        ),
        (
            "  - {get: r, attempts: }",
            "jobs.j.plan.do[0].attempts: must be greater than 0",
        ),
        (
            "  - {put: r, across: []}",
            "jobs.j.plan.do[0].across: no vars specified",
        ),
        (
            "  - {put: r, across: [{var: a, values: []}], attempts: 0}",
            "jobs.j.plan.do[0].across.attempts: must be greater than 0",
        ),
        (
            "  - {put: s, across: [{var: a, values: []}]}",
            "jobs.j.plan.do[0].across.put(s): unknown resource 's'",
        ),
        (
            "  - {load_var: v, file: a/b}\n  - {load_var: v, file: a/b}",
            "jobs.j.plan.do[1].load_var(v): repeated var name",
        ),
    ] {
        let told = told(&job(steps));
        assert!(told.contains(line), "{steps}: {told}");
    }
}

#[test]
fn a_name_below_across_is_free_and_others_only_warn() {
    let across = "across: [{var: v, values: [1]}]";
    assert!(
        warned(&job(&format!(
            "  - {{task: 'T ((.:v))', config: {TASK}, {across}}}"
        )))
        .is_empty()
    );
    assert_eq!(
        warned(&job(&format!(
            "  - {{do: [{{task: 'a B', config: {TASK}}}], {across}}}"
        ))),
        [
            "invalid_identifier: jobs.j.plan.do[0].across.do[0].task(a B): 'a B' is not a valid identifier: illegal character ' '"
        ]
    );
    assert!(warned("jobs: [{name: 1_a.b-日本}]").is_empty());
}

#[test]
fn an_environment_is_text_as_in_concourse() {
    let text = "  - task: a\n    params: {NUM: 1, F: 1.50, B: true, NIL: , L: [1, two], M: {k: v<}, BIG: 12345678901234567890, S: \"007\", W: yes, D: 2024-01-02, O: 0o17, H: 0x10, NEG: -3, E: 1e-7, N: 5}\n    config: {platform: linux, params: {D: 1e3}, env: {X: 2}, run: {path: env}}";
    let config = config(&job(text));
    let Core::Task(task) = &config.jobs[0].plan[0].core else {
        panic!("a task");
    };
    let expected = json!({"NUM": "1", "F": "1.5", "B": "true", "NIL": "", "L": "[1,\"two\"]", "M": "{\"k\":\"v\\u003c\"}",
        "BIG": "12345678901234567000", "S": "007", "W": "true", "D": "2024-01-02", "O": "15", "H": "16", "NEG": "-3",
        "E": "1e-7", "false": "5"});
    assert_eq!(json!(task.params), expected);
    assert_eq!(
        json!(task.config.as_ref().unwrap().params),
        json!({"D": "1000", "X": "2"})
    );
    assert_eq!(env_text_of(&json!({"a": [null]})), "{\"a\":[null]}");
}

#[test]
fn values_with_several_forms_are_read_in_each() {
    let config = config(&job(&format!(
        "  - {{get: a, resource: r, version: every}}\n  - {{get: b, resource: r, version: {{x: z}}}}\n  - {{get: c, resource: r, version: ((v))}}\n  - {{put: p, resource: r, inputs: [' x ']}}\n  - {{put: q, resource: r, inputs: none}}\n  - {{task: t, config: {TASK}, container_limits: {{cpu: 1.9, memory: 1GiB}}}}\n  - {{try: [{{get: d, resource: r}}], attempts: 2}}\n  - {{in_parallel: null}}"
    )));
    let inputs = config.jobs[0].inputs();
    assert_eq!(inputs[0].version, VersionChoice::Every);
    assert_eq!(
        inputs[1].version,
        VersionChoice::Pinned([("x".into(), "z".into())].into())
    );
    assert_eq!(inputs[2].version, VersionChoice::Latest);
    assert_eq!(inputs[3].name, "d");
    let puts: Vec<_> = config.jobs[0]
        .plan
        .iter()
        .filter_map(|step| match &step.core {
            Core::Put(put) => put.inputs.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(
        puts,
        [PutInputs::Named(vec!["x".into()]), PutInputs::Named(vec![])]
    );
    let Core::Task(task) = &config.jobs[0].plan[5].core else {
        panic!("a task");
    };
    let limits = task.container_limits.as_ref().unwrap();
    assert_eq!((limits.cpu, limits.memory), (Some(1), Some(1 << 30)));
    assert_eq!(config.jobs[0].outputs().len(), 3);
}

#[test]
fn inputs_have_their_globs_expanded_and_hooks_count() {
    let text = "resources: [{name: r, type: t}]\njobs:\n- {name: t-a, plan: [{get: r}]}\n- {name: t-b, plan: [{put: r}]}\n- {name: z, plan: [{get: r, passed: ['t-*', t-a], trigger: true}], on_error: {get: h, resource: r}}\n";
    let config = config(text);
    let inputs = config.inputs(&config.jobs[2]);
    assert_eq!(inputs[0].passed, ["t-a", "t-b"]);
    assert!(inputs[0].trigger && inputs[1].name == "h" && inputs[1].resource == "r");
}
