//! Text, types, vars and how faults are told.

use super::*;

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
