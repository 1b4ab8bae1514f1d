//! Classes of pipelines that the reference's kept cases do not show.

use super::vars::Vars;
use super::*;
use crate::config::model::{Core, PutInputs, VersionChoice};
use serde_json::json;

fn config(text: &str) -> Config {
    match load("p.yml", text, &Vars::new()) {
        Ok(loaded) => loaded.config,
        Err(faults) => panic!("{}\n{text}", report("p.yml", &faults)),
    }
}

fn told(text: &str) -> String {
    match load("p.yml", text, &Vars::new()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(faults) => report("p.yml", &faults),
    }
}

fn warned(text: &str) -> Vec<String> {
    let loaded = load("p.yml", text, &Vars::new());
    loaded
        .expect("a pipeline")
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect()
}

const TASK: &str = "{platform: linux, run: {path: x}}";

/// A pipeline with one job of these steps.
fn job(steps: &str) -> String {
    format!(
        "resources: [{{name: r, type: t}}]\njobs:\n- name: j\n  ensure: {{put: r}}\n  plan:\n{steps}\n"
    )
}

#[test]
fn all_faults_come_at_once_grouped_and_with_their_lines() {
    let text = "groups:\n- {name: g, jobs: [nobody]}\nresources:\n- {name: r, type: git}\n- {name: r}\njobs:\n- name: a\n  plan:\n  - get: ghost\n  - task: t\n    attempts: 0\n    on_failure: {put: slack, unknwon: 1}\n- name: b\n  plan:\n  - {get: r, passed: [a, zzz]}\n";
    assert_eq!(
        told(text),
        "invalid groups:
\tno jobs match 'nobody' for group 'g' (line 2, column 3)
\tjob 'a' belongs to no group (line 7, column 3)
\tjob 'b' belongs to no group (line 13, column 3)
invalid resources:
\tresources[0] and resources[1] have the same name ('r') (line 5, column 3)
\tresources.r has no type (line 4, column 3)
invalid jobs:
\tjobs.a.plan.do[1].on_failure: unknown fields [\"unknwon\"] (line 12, column 30)
\tjobs.a.plan.do[0].get(ghost): unknown resource 'ghost' (line 9, column 5)
\tjobs.a.plan.do[1].task(t): must specify either `file:` or `config:` (line 10, column 5)
\tjobs.a.plan.do[1].attempts: must be greater than 0 (line 10, column 5)
\tjobs.a.plan.do[1].on_failure.put(slack): unknown resource 'slack' (line 12, column 17)
\tjobs.b.plan.do[0].get(r).passed: job 'a' does not interact with resource 'r' (line 15, column 5)
\tjobs.b.plan.do[0].get(r).passed: unknown job 'zzz' (line 15, column 5)
"
    );
}

#[test]
fn faults_of_types_do_not_hide_others_nor_make_new_ones() {
    let text = "resources:\n- {name: r, type: git, sources: {}}\n- {name: s, type: 1, source: []}\njobs:\n- name: a\n  serial: maybe\n  plan:\n  - {get: r, trigger: 1}\n  - {task: t, config: {platform: 3}}\n  - {load_var: v}\n  - 7\n";
    assert_eq!(
        told(text),
        "p.yml:2:24: resources.r: unknown field \"sources\"
p.yml:3:30: resources.s.source: expected a map, not a list
p.yml:8:23: jobs.a.plan.do[0].trigger: expected true or false, not a number
p.yml:9:34: jobs.a.plan.do[1].config.platform: expected text (write it in quotes), not a number
p.yml:11:5: jobs.a.plan.do[3]: expected a map, not a number
p.yml:6:11: jobs.a.serial: expected true or false, not text
invalid jobs:
\tjobs.a.plan.do[2].load_var(v): no file specified (line 10, column 5)
"
    );
}

#[test]
fn duplicate_keys_are_refused_anywhere_with_their_places() {
    let text = "a: {x: 1, x: 2}\njobs:\n- name: a\n  name: b\njobs: []\n";
    assert_eq!(
        told(text),
        "p.yml:1:11: duplicate key \"x\"\np.yml:4:3: duplicate key \"name\"\np.yml:5:1: duplicate key \"jobs\"\n"
    );
    assert!(told("a: {yes: 1, on: 2}\njobs: [{name: a}]").contains("duplicate key \"true\""));
    // A merge is no duplicate, and what is written wins.
    let merged = config(&job(
        "  - &t {get: r, params: {a: 1}}\n  - {<<: *t, get: x, resource: r}",
    ));
    assert_eq!(
        merged.jobs[0].inputs()[1].params,
        *json!({"a": 1}).as_object().unwrap()
    );
}

#[test]
fn what_is_no_pipeline_is_refused_in_one_line() {
    for (text, part) in [
        ("- a", "a pipeline must be a map, not a list"),
        ("text", "a pipeline must be a map, not text"),
        ("", "jobs: pipeline must contain at least one job"),
        ("jobs:", "jobs: pipeline must contain at least one job"),
        ("jobs: {a: 1}", "jobs: expected a list, not a map"),
        ("jobs: [a: [1}]", "p.yml:1:11: mismatched bracket"),
        ("a: *b", "p.yml:1:4"),
        ("jobs: [{name: a, <<: ((m))}]", "merge key"),
        ("? [a]\n: 1", "a key must be text, not a list"),
        ("jobs: [{name: .inf}]", ".inf is no number"),
    ] {
        assert!(told(text).contains(part), "{text}: {}", told(text));
    }
    assert_eq!(warned("jobs: [{name: a}]\n---\njobs: []\n").len(), 1);
}

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
fn cycles_are_found_through_globs_hooks_and_pocketcis_edges() {
    let jobs = |jobs: &str| {
        format!(
            "resources: [{{name: r, type: t}}]\njobs:\n- {{name: x, plan: [{{get: r}}]}}\n{jobs}"
        )
    };
    for (text, start) in [
        ("- {name: a, plan: [{get: r, passed: [a]}]}", "a"),
        ("- {name: a, plan: [{get: r, passed: ['[ab]']}]}", "a"),
        (
            "- {name: a, plan: [{get: r}], ensure: {get: s, resource: r, passed: [b]}}\n- {name: b, plan: [{get: r, passed: [a]}]}",
            "a",
        ),
        (
            "- {name: a, depends_on: [b]}\n- {name: b, triggers: {passed: [a]}}",
            "a",
        ),
        (
            "- {name: a, depends_on: [b], plan: [{get: r}]}\n- {name: b, plan: [{get: r, passed: [a]}]}",
            "a",
        ),
    ] {
        let line = format!("pipeline contains a cycle that starts at Job '{start}'");
        let told = told(&jobs(text));
        assert!(told.contains(&line), "{text}: {told}");
    }
    config(&jobs(
        "- {name: a, plan: [{get: r, passed: [x]}]}\n- {name: b, depends_on: [a, x], plan: [{get: r, passed: ['[ax]']}]}",
    ));
}

#[test]
fn groups_types_sources_and_display_are_checked() {
    for (text, line) in [
        (
            "groups: [{jobs: [a]}]",
            "groups[0]: identifier cannot be an empty string",
        ),
        (
            "groups: [{name: g, jobs: [a, b]}]",
            "no jobs match 'b' for group 'g'",
        ),
        ("groups: [{name: g}]", "job 'a' belongs to no group"),
        (
            "groups: [{name: g, jobs: [a]}, {name: g}, {name: g}]",
            "group 'g' appears 3 times. Duplicate names are not allowed.",
        ),
        ("prototypes: [{type: t}]", "prototypes[0] has no name"),
        ("prototypes: [{name: p}]", "prototypes.p has no type"),
        (
            "resource_types: [{name: p, type: t}]\nprototypes: [{name: p, type: t}]",
            "resource_types[0] and prototypes[0] have the same name ('p')",
        ),
        (
            "resource_types: [{name: p, type: t, check_every: 5}]",
            "expected a duration such as 1m, or never, not a number",
        ),
        (
            "resource_types: [{name: p, type: t, check_every: often}]",
            "time: invalid duration \"often\"",
        ),
        (
            "var_sources: [{name: v, type: nope, config: {}}]",
            "unknown credential manager type: nope",
        ),
        (
            "var_sources: [{name: v, type: credhub, config: {}}]",
            "credential manager type credhub is not supported in pipeline yet",
        ),
        (
            "var_sources: [{name: v, type: dummy, config: {}}]",
            "failed to create credential manager v: invalid vars config: <nil>",
        ),
        (
            "var_sources: [{name: v, type: dummy, config: 1}]",
            "invalid dummy credential manager config: float64",
        ),
        (
            "var_sources: [{name: v, type: vault, config: {client_token: t}}]",
            "credential manager v is invalid: invalid URL (must begin with http:// or https://)",
        ),
        (
            "var_sources: [{name: v, type: vault, config: {url: 'http://v'}}]",
            "must configure client token or auth backend",
        ),
        (
            "var_sources: [{name: v, type: dummy, config: {vars: {a: ((v:b))}}}]",
            "could not resolve inter-dependent var sources: v",
        ),
        (
            "display: {background_image: 'data:x'}",
            "background_image scheme must be either http, https or relative",
        ),
        (
            "display: {background_image: '://x'}",
            "background_image is not a valid URL: ://x",
        ),
    ] {
        let told = told(&format!("{text}\njobs: [{{name: a}}]"));
        assert!(told.contains(line), "{text}: {told}");
    }
    config(
        "var_sources: [{name: b, type: dummy, config: {vars: {x: ((a:y))}}}, {name: a, type: dummy, config: {vars: {}}}]\njobs: [{name: a}]",
    );
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

#[test]
fn pocketcis_keys_are_known_and_checked() {
    config(&format!(
        "max_in_flight: 2\nnotifications: {{ops: {{type: slack, token: t}}}}\nassert: {{execution: [a]}}\nresources: [{{name: r, type: t}}]\njobs:\n- name: a\n  webhook_trigger: 'payload.ref == \"x\"'\n  triggers:\n    webhook: {{filter: 'provider == \"github\"', dedup_key: 'headers[\"x-id\"]', params: {{REF: payload.ref}}}}\n    schedule: {{cron: '*/5 * * * 1-5'}}\n  gate: {{message: ok?, timeout: 1h}}\n  timeout: 2h\n  assert: {{execution: [t]}}\n  plan:\n  - get: r\n  - {{task: t, config: {{platform: linux, image: busybox, env: {{A: 1}}, limits: {{cpu: 2, memory: 10mb, cpu_kind: shared}}, run: {{path: x}}, inputs: [{{name: r, size_gb: 1}}], caches: [{{path: c, scope: job}}]}}, parallelism: 2, assert: {{code: 1, stdout: a, stderr: b}}}}\n  - {{task: u, uri: 'https://example.invalid/t.yml'}}\n  - {{notify: [ops], message: done, async: true}}\n  - {{notify: ops, message_file: r/m}}\n  - {{gate: g, message: sure?, timeout: 5m}}\n  - {{gate: {{name: h}}}}\n  - {{build_image: {{context: r, tag: x/y, push: true, build_args: {{A: 1}}, registry: {{hostname: h, password: 'secret:P'}}}}}}\n  - {{agent: helper, prompt: hi, model: m/x, config: {TASK}, tools: [{{task: t}}], limits: {{max_turns: 3}}}}\n  - {{try: [{{task: v, config: {TASK}}}]}}\n- {{name: b, depends_on: [a], triggers: {{webhook: , passed: [a]}}}}\n- {{name: c, triggers: {{schedule: {{every: 10m}}}}}}"
    ));
    for (job, line) in [
        (
            "webhook_trigger: 'a ==='",
            "jobs.j.webhook_trigger: the expression is neither CEL",
        ),
        (
            "triggers: {webhook: {filter: ')'}}",
            "jobs.j.triggers.webhook.filter: ",
        ),
        (
            "triggers: {webhook: {dedup_key: '('}}",
            "jobs.j.triggers.webhook.dedup_key: ",
        ),
        (
            "triggers: {webhook: {params: {A: ''}}}",
            "jobs.j.triggers.webhook.params.A: an expression is needed",
        ),
        (
            "triggers: {webhok: {}}",
            "jobs.j.triggers: unknown field \"webhok\"",
        ),
        (
            "triggers: {schedule: {}}",
            "jobs.j.triggers.schedule: must specify either cron or every",
        ),
        (
            "triggers: {schedule: {cron: '* * *'}}",
            "jobs.j.triggers.schedule: expected five fields",
        ),
        (
            "triggers: {schedule: {every: 0s}}",
            "must be greater than 0",
        ),
        (
            "triggers: {schedule: {every: 1h, cron: '@daily'}}",
            "not both",
        ),
        (
            "triggers: {passed: [zz]}",
            "jobs.j.triggers.passed: unknown job 'zz'",
        ),
        (
            "triggers: {passed: ['']}",
            "jobs.j.triggers.passed: contains an empty job name",
        ),
        (
            "triggers: {passed: [k, k]}",
            "jobs.j.triggers.passed: lists 'k' more than once",
        ),
        (
            "depends_on: [j]",
            "jobs.j.depends_on: a job cannot wait for itself",
        ),
        (
            "depends_on: k",
            "jobs.j.depends_on: expected a list, not text",
        ),
        (
            "gate: {timeout: soon}",
            "jobs.j.gate.timeout: time: invalid duration \"soon\"",
        ),
        ("timeout: -1h", "jobs.j.timeout: time: invalid duration"),
        (
            "max_in_flight: many",
            "jobs.j.max_in_flight: expected a whole number, not text",
        ),
        (
            "plan: [{notify: x, message: m}]",
            "jobs.j.plan.do[0].notify(x): unknown notification 'x'",
        ),
        (
            "plan: [{notify: []}]",
            "must name at least one notification",
        ),
        (
            "plan: [{notify: ops}]",
            "must specify either `message:` or `message_file:`",
        ),
        ("plan: [{gate: ''}]", "identifier cannot be an empty string"),
        (
            "plan: [{gate: g, timeout: x}]",
            "jobs.j.plan.do[0].gate(g): invalid duration 'x'",
        ),
        (
            "plan: [{build_image: {tag: t}}]",
            "jobs.j.plan.do[0].build_image: no context specified",
        ),
        (
            "plan: [{agent: a}]",
            "jobs.j.plan.do[0].agent(a): must specify one of `prompt:`",
        ),
        (
            "plan: [{agent: a, prompt: p, foo: 1}]",
            "unknown fields [\"foo\"]",
        ),
        (
            "plan: [{task: t, uri: 'ftp://x'}]",
            "unsupported URI scheme in 'ftp://x'",
        ),
        (
            "plan: [{task: t, uri: 'http://x', file: a/b}]",
            "must specify one of `file:` or `uri:`, not both",
        ),
        (
            "plan: [{task: t, file: a/b, parallelism: -1}]",
            "must be 0 or more, not -1",
        ),
        (
            "plan: [{task: t, config: {platform: l, caches: [{path: a, scope: all}]}}]",
            "expected \"job\" or \"task\"",
        ),
    ] {
        let told = told(&format!(
            "notifications: {{ops: {{}}}}\njobs:\n- {{name: j, {job}}}\n- {{name: k}}"
        ));
        assert!(told.contains(line), "{job}: {told}");
    }
}

#[test]
fn vars_are_replaced_before_types_are_looked_at() {
    let mut vars = Vars::new();
    vars.set("n", json!(2)).unwrap();
    vars.set("groups", json!(["a"])).unwrap();
    vars.set("more", json!({"serial": true})).unwrap();
    let text = "jobs: [{name: j-((n)), max_in_flight: ((n)), serial_groups: ((groups)), \"<<\": ((more))}]";
    let loaded = load("p.yml", text, &vars).unwrap();
    let job = &loaded.config.jobs[0];
    assert_eq!(
        (job.name.as_str(), job.max_in_flight, job.serial),
        ("j-2", Some(2), true)
    );
    assert_eq!(job.limit(), Some(1));
    let faults = load(
        "p.yml",
        "jobs:\n- name: ((n.x))\n- name: a((more))\n",
        &vars,
    )
    .unwrap_err();
    assert_eq!(
        report("p.yml", &faults),
        "p.yml:2:9: cannot access field 'x' of non-map value ('int') from var: n.x\np.yml:3:9: cannot interpolate non-primitive value (map[string]interface {}) from var: more\n"
    );
    // What is not known stays, and is then of the wrong type.
    assert!(load("p.yml", "jobs: [{name: a, serial: ((s))}]", &vars).is_err());
}

#[test]
fn a_tasks_file_is_read_as_strictly_as_an_inline_configuration() {
    let mut vars = Vars::new();
    vars.set("image", json!("busybox")).unwrap();
    let text = "platform: linux\nimage_resource: {type: registry-image, source: {repository: ((image))}}\nparams: {A: 1, B: ((later))}\nrun: {path: sh, args: [-c, ls]}\n";
    let task = load_task(text, &vars).unwrap();
    assert_eq!(
        task.image_resource.as_ref().unwrap().source["repository"],
        "busybox"
    );
    assert_eq!(task.params["B"], "((later))");
    assert!(task_faults(&task).is_empty());
    let faults = load_task("platfrm: linux\nrun: {path: 1}\n", &vars).unwrap_err();
    assert_eq!(
        report("t.yml", &faults),
        "t.yml:2:13: task.run.path: expected text (write it in quotes), not a number\nt.yml:1:1: task: unknown field \"platfrm\"\n"
    );
    assert_eq!(
        task_faults(&load_task("inputs: [{path: a}]", &vars).unwrap()).len(),
        2
    );
}
