//! What must hold between the parts, and PocketCI's keys.

use super::*;

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
fn the_limit_of_a_job_is_its_own_or_the_pipelines() {
    let config = config(
        "max_in_flight: 4\njobs: [{name: a}, {name: b, max_in_flight: 2}, {name: c, serial: on, max_in_flight: 9}, {name: d, serial_groups: [x]}, {name: e, max_in_flight: 0}]",
    );
    let limits: Vec<_> = config.jobs.iter().map(|job| config.limit(job)).collect();
    assert_eq!(limits, [Some(4), Some(2), Some(1), Some(1), None]);
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
