//! The nesting of plans.

use super::*;
use serde_json::{Value, json};

fn job(value: Value) -> Job {
    serde_json::from_value(value).expect("a job")
}

#[test]
fn modifiers_nest_in_the_fixed_order() {
    let job = job(json!({"name": "j", "plan": [{
        "task": "t", "timeout": "1h", "attempts": 3, "fail_fast": true,
        "across": [{"var": "v", "values": ["a"], "max_in_flight": "all"}],
        "on_success": {"do": []}, "on_failure": {"try": {"put": "a"}}, "on_error": {"put": "b"},
        "on_abort": {"put": "c"}, "ensure": {"put": "d", "no_get": true}
    }]}));
    let mut names = Vec::new();
    let mut plan = &serde_json::to_value(plan_of(&job)).expect("json")["do"][0];
    while let Some((key, inner)) = plan.as_object().and_then(|map| map.iter().next()) {
        names.push(key.clone());
        plan = &inner["step"];
    }
    assert_eq!(
        names.join(" > "),
        "ensure > on_error > on_abort > on_failure > on_success > across > attempts > task"
    );
}

#[test]
fn a_timeout_wraps_composites_and_belongs_to_the_step_elsewhere() {
    let job = job(json!({"name": "j", "plan": [
        {"get": "g", "timeout": "1m"}, {"do": [], "timeout": "2m"}, {"load_var": "v", "timeout": "3m"}
    ]}));
    assert_eq!(
        serde_json::to_value(plan_of(&job)).expect("json"),
        json!({"do": [
            {"get": {"get": "g", "timeout": "1m"}},
            {"timeout": {"duration": "2m", "step": {"do": []}}},
            {"timeout": {"duration": "3m", "step": {"load_var": {"load_var": "v"}}}},
        ]})
    );
}

#[test]
fn hooks_of_the_job_are_around_its_plan_and_tags_come_from_the_nearest() {
    let job = job(
        json!({"name": "j", "tags": ["job"], "ensure": {"put": "p"}, "plan": [
            {"do": [{"get": "a"}, {"get": "b", "tags": ["own"]}], "tags": ["do"]}
        ]}),
    );
    assert_eq!(
        serde_json::to_value(plan_of(&job)).expect("json"),
        json!({"ensure": {
            "step": {"do": [{"do": [
                {"get": {"get": "a", "tags": ["do"]}},
                {"get": {"get": "b", "tags": ["own"]}},
            ]}]},
            "hook": {"put": {"put": "p", "tags": ["job"]}},
        }})
    );
}

#[test]
fn a_jobs_gate_comes_before_its_hooks_and_its_timeout_inside_of_them() {
    let job = job(
        json!({"name": "j", "gate": {"message": "sure?"}, "timeout": "1h",
        "ensure": {"put": "p"}, "plan": [{"get": "a"}]}),
    );
    assert_eq!(
        serde_json::to_value(plan_of(&job)).expect("json"),
        json!({"do": [
            {"gate": {"gate": "j", "message": "sure?"}},
            {"ensure": {
                "step": {"timeout": {"duration": "1h", "step": {"do": [{"get": {"get": "a"}}]}}},
                "hook": {"put": {"put": "p"}},
            }},
        ]})
    );
}

#[test]
fn a_plan_survives_json() {
    let job = job(json!({"name": "j", "on_abort": {"notify": ["x"]}, "plan": [
        {"in_parallel": {"steps": [{"get": "a", "version": {"r": "1"}, "attempts": 2}], "limit": 2}},
        {"set_pipeline": "self", "file": "a/p.yml", "instance_vars": {"b": [1]}},
        {"gate": "g", "timeout": "1h"}, {"build_image": {"context": "a", "tag": "t"}},
        {"agent": "x", "tools": [1]}, {"run": "m", "type": "p"},
    ]}));
    let plan = plan_of(&job);
    let text = serde_json::to_string(&plan).expect("json");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("plan"), plan);
    let text = serde_json::to_string(&job).expect("json");
    assert_eq!(serde_json::from_str::<Job>(&text).expect("job"), job);
}
