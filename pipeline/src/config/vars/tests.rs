//! What `((vars))` become, and what is refused.

use super::*;
use crate::config::tree;
use serde_json::{Map, Value, json};

#[test]
fn every_case_of_the_reference_comes_out_as_in_concourse() {
    let Some(text) = crate::config::conformance::read("interpolation.json") else {
        return;
    };
    let cases: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    assert!(cases.len() >= 45, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        let told = outcome(case);
        let expected = match case.get("err") {
            Some(error) => Err(error.as_str().expect("text").to_owned()),
            None => Ok(case["out"].clone()),
        };
        let same = match (&told, &expected) {
            (Ok(told), Ok(expected)) => told == expected,
            (Err(told), Err(expected)) => told.contains(expected),
            _ => false,
        };
        if !same {
            wrong.push(format!("{name}: expected {expected:?}, not {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Both ways: as a tree when a pipeline is set, as a value when a step runs.
fn outcome(case: &Value) -> Result<Value, String> {
    let known = |value: &Value| Vars::from(value.as_object().cloned().unwrap_or_default());
    let vars = known(&case["vars"]);
    let mut named = NamedVars::default();
    for (source, values) in case
        .get("named")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        named
            .sources
            .insert(source.clone(), Box::new(known(values)));
    }
    let lookup = Chain(vec![&vars, &named]);
    let root = tree::parse(case["template"].as_str().expect("text"))
        .expect("YAML")
        .root;
    let joined = |errors: Vec<VarError>| {
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    let mode = if case["expect_all"] == true {
        Mode::Strict
    } else {
        Mode::Lax
    };
    let of_value = interpolate(&root.to_value(), &lookup, mode).map_err(joined);
    if mode == Mode::Lax {
        let of_tree = interpolate_tree(root, &lookup)
            .map(|node| node.to_value())
            .map_err(|errors| joined(errors.into_iter().map(|(_, error)| error).collect()));
        assert_eq!(of_tree, of_value, "{case}");
    }
    of_value
}

#[test]
fn a_name_with_fields_sets_a_field() {
    let mut vars = Vars::new();
    vars.set("a.b", json!(1)).expect("set");
    vars.set("a.c", json!(2)).expect("set");
    vars.set("\"x.y\"", json!(3)).expect("set");
    assert!(vars.set("a.", json!(1)).is_err());
    let value = interpolate(
        &json!(["((a))", "((\"x.y\"))", "((a.b))"]),
        &vars,
        Mode::Strict,
    );
    assert_eq!(value, Ok(json!([{"b": 1, "c": 2}, 3, 1])));
}

#[test]
fn local_vars_are_only_found_by_the_dot_and_never_a_missing_source() {
    let local = Local::of(Vars::from(Map::from_iter([(
        "v".into(),
        json!({"f": true}),
    )])));
    let mut named = NamedVars::default();
    named.sources.insert("s".into(), Box::new(Vars::new()));
    let lookup = Chain(vec![&local, &named]);
    let value = interpolate(
        &json!({"a": "((.:v.f))", "b": "((v))", "c": "((.:w))"}),
        &lookup,
        Mode::Lax,
    );
    assert_eq!(value, Ok(json!({"a": true, "b": "((v))", "c": "((.:w))"})));
    assert_eq!(
        interpolate(&json!("((.:w))"), &lookup, Mode::Strict),
        Err(vec![VarError::Undefined(vec![".:w".into()])])
    );
}

#[test]
fn the_vars_used_are_listed_once() {
    let value = json!({"((k))": ["((s:p.q))", "x-((a))-((a))", 1, null], "b": "(( no ))"});
    let told: Vec<String> = used(&value)
        .expect("vars")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(told, ["a", "k", "s:p.q"]);
    assert!(used(&json!("((a..b))")).is_err());
}

#[test]
fn what_vars_put_in_together_has_a_limit() {
    let large = Value::String("x".repeat(1 << 20));
    let vars = Vars::from(serde_json::Map::from_iter([("large".to_owned(), large)]));
    let used = |times: usize| Value::String("((large))-".repeat(times));
    assert!(interpolate(&used(15), &vars, Mode::Strict).is_ok());
    let errors = interpolate(&used(10_000), &vars, Mode::Strict).unwrap_err();
    assert_eq!(errors, [VarError::TooLarge { limit: 16 }]);
    let list = Value::Array(vec![Value::String("((large))".to_owned()); 10_000]);
    assert!(interpolate(&list, &vars, Mode::Lax).is_err());
}
