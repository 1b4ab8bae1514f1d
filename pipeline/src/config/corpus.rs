//! For tests: the reference's pipelines, valid and not, with Concourse's verdicts.

use super::vars::Vars;
use super::*;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

struct Case {
    file: String,
    text: String,
    vars: Vars,
    verdict: Value,
}

fn cases(folder: &Path) -> Vec<Case> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a case's file");
    let manifest = |name: &str| -> Vec<Value> { serde_json::from_str(&read(name)).expect("JSON") };
    let mut all = Vec::new();
    for entry in manifest("valid-manifest.json") {
        let file = entry["file"].as_str().expect("a name").to_owned();
        let vars = entry["vars_file"].as_str().map(|name| {
            let root = tree::parse(&read(name)).expect("YAML").root.to_value();
            Vars::from(root.as_object().cloned().unwrap_or_default())
        });
        all.push(Case {
            text: read(&file),
            file,
            vars: vars.unwrap_or_default(),
            verdict: entry["expect"].clone(),
        });
    }
    for entry in manifest("authored-manifest.json") {
        let file = entry["file"].as_str().expect("a name").to_owned();
        all.push(Case {
            text: read(&file),
            file,
            vars: Vars::new(),
            verdict: entry,
        });
    }
    all
}

/// Without white space at the ends and between lines, as the reference compares.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What is wrong with our verdict on a case.
fn differences(case: &Case, strictness: Strictness) -> Vec<String> {
    let expected = match strictness {
        Strictness::Server => &case.verdict["server"],
        Strictness::Strict => &case.verdict["strict"],
    };
    let mut wrong = Vec::new();
    let told = load_as(&case.file, &case.text, &case.vars, strictness);
    let printed = match &told {
        Ok(_) => String::new(),
        Err(faults) => flat(&report(&case.file, faults)),
    };
    if told.is_ok() != expected["ok"].as_bool().expect("a verdict") {
        wrong.push(format!("accepted: {}; {printed}", told.is_ok()));
    }
    if expected["stage"] == "validate" {
        for error in expected["errors"].as_array().into_iter().flatten() {
            for line in error.as_str().unwrap_or_default().lines().map(flat) {
                if !printed.contains(&line) {
                    wrong.push(format!("missing {line:?} in {printed:?}"));
                }
            }
        }
    }
    if let (Ok(loaded), Strictness::Server) = (&told, strictness) {
        wrong.extend(other_warnings(loaded, expected));
    }
    wrong
        .into_iter()
        .map(|why| format!("{}: {why}", case.file))
        .collect()
}

/// Warnings must be Concourse's, no more and no less; notes are ours.
fn other_warnings(loaded: &Loaded, expected: &Value) -> Option<String> {
    let own: Vec<String> = loaded
        .warnings
        .iter()
        .filter(|warning| warning.kind != WarningKind::Note)
        .map(ToString::to_string)
        .collect();
    let same = match &expected["warnings"] {
        Value::Number(count) => count.as_u64() == u64::try_from(own.len()).ok(),
        Value::Array(texts) => {
            let expected: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
            expected == own
        }
        _ => own.is_empty(),
    };
    (!same).then(|| format!("warnings {own:?}, expected {}", expected["warnings"]))
}

#[test]
fn every_verdict_message_and_warning_is_concourses() {
    let Some(folder) = conformance::folder() else {
        return;
    };
    let cases = cases(&folder);
    assert!(cases.len() >= 132, "{} cases", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .flat_map(|case| {
            [Strictness::Server, Strictness::Strict]
                .into_iter()
                .flat_map(|strictness| differences(case, strictness))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_accepted_survives_json_and_plans() {
    let Some(folder) = conformance::folder() else {
        return;
    };
    for case in cases(&folder) {
        let Ok(loaded) = load(&case.file, &case.text, &case.vars) else {
            continue;
        };
        let json = serde_json::to_string(&loaded.config).expect("JSON");
        let back: Config = serde_json::from_str(&json).expect("a pipeline");
        assert_eq!(back, loaded.config, "{}", case.file);
        for job in &loaded.config.jobs {
            let plan = crate::plan::plan_of(job);
            let json = serde_json::to_string(&plan).expect("JSON");
            let back: crate::plan::Plan = serde_json::from_str(&json).expect("a plan");
            assert_eq!(back, plan, "{}", case.file);
        }
    }
}

#[test]
fn the_largest_pipeline_is_validated_within_its_time() {
    let Some(folder) = conformance::folder() else {
        return;
    };
    /// What the issue allows, for an optimised build; tests are built without and may take ten times as long.
    const ALLOWED: Duration = Duration::from_millis(50);
    let cases = cases(&folder);
    let largest = cases
        .iter()
        .max_by_key(|case| case.text.len())
        .expect("one");
    let began = Instant::now();
    assert!(load(&largest.file, &largest.text, &largest.vars).is_ok());
    let took = began.elapsed();
    eprintln!("{}: {} bytes in {took:?}", largest.file, largest.text.len());
    assert!(took < ALLOWED * 10, "{took:?}");
}
