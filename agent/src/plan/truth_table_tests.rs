//! All rows of Concourse's own outcomes, where the reference lies beside the project.

use super::stage_tests::{Script, run, task};
use super::{Halt, Outcome};
use pocketci_pipeline::plan::Plan;
use serde::Deserialize;
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

#[derive(Deserialize)]
struct Row {
    case: String,
    plan: String,
    result: String,
    ran: Vec<String>,
}

fn letters(text: &str) -> Vec<char> {
    text.split(',')
        .filter_map(|word| word.trim().chars().next())
        .collect()
}

/// The value of `name=` in a row's plan.
fn value<'a>(plan: &'a str, name: &str) -> Option<&'a str> {
    let at = plan.find(&format!("{name}="))? + name.len() + 1;
    let rest = &plan[at..];
    Some(&rest[..rest.find([' ', ',', ']']).unwrap_or(rest.len())])
}

fn hook(kind: &str, step: Plan, hook: Plan) -> Plan {
    let (step, hook) = (Box::new(step), Box::new(hook));
    match kind {
        "on_success" => Plan::OnSuccess { step, hook },
        "on_failure" => Plan::OnFailure { step, hook },
        "on_error" => Plan::OnError { step, hook },
        "on_abort" => Plan::OnAbort { step, hook },
        "ensure" => Plan::Ensure { step, hook },
        other => panic!("hook {other}"),
    }
}

fn timeout(duration: &str, step: Plan) -> Plan {
    Plan::Timeout {
        duration: duration.to_owned(),
        step: Box::new(step),
    }
}

/// The plan of a row, and what its steps do.
fn plan_of(row: &Row) -> (Plan, Script) {
    let text = row.plan.as_str();
    let mut script = Script::default();
    let mut does = |name: &str, letters: &[char]| {
        script.does.insert(name.to_owned(), letters.to_vec());
        task(name)
    };
    let of = |name: &str| letters(value(text, name).unwrap_or_else(|| panic!("{name} in {text}")));
    const HOOKS: [&str; 5] = ["on_success", "on_failure", "on_abort", "on_error", "ensure"];
    let plan = match row.case.as_str() {
        "try" => Plan::Try(Box::new(does("step", &of("step")))),
        "do" => Plan::Do(vec![does("x", &of("x")), does("y", &of("y"))]),
        kind if HOOKS.contains(&kind) => {
            let step = does("step", &of("step"));
            hook(kind, step, does(kind, &of(kind)))
        }
        "all-hooks" => HOOKS
            .into_iter()
            .fold(does("step", &of("step")), |plan, kind| {
                let letters = value(text, kind).map_or(vec!['S'], letters);
                let after = does(kind, &letters);
                hook(kind, plan, after)
            }),
        "attempts" => Plan::Attempts {
            times: 3,
            step: Box::new(does("step", &letters(text.split_once("tries=").unwrap().1))),
        },
        "in_parallel" | "in_parallel-limit-1" => Plan::InParallel {
            steps: vec![does("x", &of("x")), does("y", &of("y"))],
            limit: usize::from(row.case != "in_parallel"),
            fail_fast: text.contains("fail_fast=true"),
        },
        "timeout" => match text {
            "timeout 30ms: step hangs (returns ctx error)" => timeout("30ms", does("step", &['H'])),
            "timeout 1m: step=S" => timeout("1m", does("step", &['S'])),
            "timeout 1m: step=A" => timeout("1m", does("step", &['A'])),
            "try: timeout 30ms: step hangs" => {
                Plan::Try(Box::new(timeout("30ms", does("step", &['H']))))
            }
            "timeout 30ms: try: step hangs" => {
                timeout("30ms", Plan::Try(Box::new(does("step", &['H']))))
            }
            "attempts 2 x timeout 30ms: hangs then S" => Plan::Attempts {
                times: 2,
                step: Box::new(timeout("30ms", does("step", &['H', 'S']))),
            },
            "timeout 30ms around step hangs, then on_failure" => {
                let step = timeout("30ms", does("step", &['H']));
                hook("on_failure", step, does("on_failure", &['S']))
            }
            "timeout 30ms around step hangs, then on_error" => {
                let step = timeout("30ms", does("step", &['H']));
                hook("on_error", step, does("on_error", &['S']))
            }
            "timeout 30ms: do [step hangs with ensure]" => {
                let step = does("step", &['H']);
                let step = hook("ensure", step, does("ensure", &['S']));
                timeout("30ms", Plan::Do(vec![step]))
            }
            "timeout 30ms: bad duration" => timeout("bad", does("step", &['S'])),
            other => panic!("timeout row {other}"),
        },
        other => panic!("case {other}"),
    };
    (plan, script)
}

fn as_set(names: &[String]) -> BTreeSet<&String> {
    names.iter().collect()
}

#[tokio::test(start_paused = true)]
async fn every_row_of_concourses_outcomes_comes_out_the_same() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/conformance/step-truth-table.json"
    );
    // From the main tree, and from a worktree one level deeper.
    let paths = [path.to_owned(), path.replacen("/../..", "/../../..", 1)];
    let Some(text) = paths
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
    else {
        eprintln!("skipped: no reference beside this project at {path}");
        return;
    };
    let rows: Vec<Row> = serde_json::from_str(&text).unwrap();
    assert!(rows.len() >= 158);
    let mut wrong = Vec::new();
    for row in &rows {
        let (plan, script) = plan_of(row);
        let halt = Halt::new(CancellationToken::new());
        let (outcome, ran) = run(plan, script, halt).await;
        let same_steps = match row.case.as_str() {
            "in_parallel" => as_set(&ran) == as_set(&row.ran),
            _ => ran == row.ran,
        };
        if outcome.as_str() != row.result || !same_steps {
            wrong.push(format!(
                "{} | {}: {} {ran:?} instead of {} {:?}",
                row.case,
                row.plan,
                outcome.as_str(),
                row.result,
                row.ran
            ));
        }
        assert_ne!(outcome, Outcome::TimedOut, "{}", row.plan);
    }
    println!("{} rows compared", rows.len());
    assert!(
        wrong.is_empty(),
        "{} rows differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
