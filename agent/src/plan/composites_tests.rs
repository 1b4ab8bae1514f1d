//! Composites over steps that do as a script says.

use super::stage_tests::{A_WHILE, SECRET, Script, play, run, script, task};
use super::*;
use pocketci_pipeline::config::model::{AcrossVar, MaxInFlight};
use pocketci_pipeline::plan::Plan;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

fn halt() -> Halt {
    Halt::new(CancellationToken::new())
}

fn in_parallel(names: &[&str], limit: usize, fail_fast: bool) -> Plan {
    Plan::InParallel {
        steps: names.iter().map(|name| task(name)).collect(),
        limit,
        fail_fast,
    }
}

fn across(vars: Vec<AcrossVar>, fail_fast: bool, step: Plan) -> Plan {
    Plan::Across {
        vars,
        step: Box::new(step),
        fail_fast,
    }
}

fn var(name: &str, values: serde_json::Value, limit: Option<MaxInFlight>) -> AcrossVar {
    AcrossVar {
        var: name.to_owned(),
        values,
        max_in_flight: limit,
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_kept_and_used() {
    let names = ["a", "b", "c", "d", "e"];
    let waits = script(&names.map(|name| (name, "W")));
    let (outcome, stage) = play(in_parallel(&names, 2, false), waits, halt()).await;
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(stage.most.load(Ordering::SeqCst), 2);
    let waits = script(&names.map(|name| (name, "W")));
    let (_, stage) = play(in_parallel(&names, 0, false), waits, halt()).await;
    assert_eq!(stage.most.load(Ordering::SeqCst), 5);
}

#[tokio::test(start_paused = true)]
async fn fail_fast_interrupts_running_siblings_and_starts_no_more() {
    let plan = in_parallel(&["hangs", "fails", "never"], 2, true);
    let does = script(&[("hangs", "H"), ("fails", "F")]);
    let (outcome, ran) = run(plan, does, halt()).await;
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(ran, ["hangs", "fails"]);
    // An error counts more, wherever it comes from.
    let plan = in_parallel(&["hangs", "errs"], 0, true);
    let (outcome, _) = run(plan, script(&[("hangs", "H"), ("errs", "E")]), halt()).await;
    assert_eq!(outcome, Outcome::Errored);
}

#[tokio::test(start_paused = true)]
async fn a_sibling_that_was_interrupted_runs_its_own_hooks() {
    let hangs = Plan::Ensure {
        step: Box::new(Plan::OnAbort {
            step: Box::new(task("hangs")),
            hook: Box::new(task("on_abort")),
        }),
        hook: Box::new(task("ensure")),
    };
    let plan = Plan::InParallel {
        steps: vec![hangs, task("fails")],
        limit: 0,
        fail_fast: true,
    };
    let (outcome, ran) = run(plan, script(&[("hangs", "H"), ("fails", "F")]), halt()).await;
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(ran, ["hangs", "fails", "on_abort", "ensure"]);
}

/// A plan with a step `here` deep inside, and hooks after it.
fn around_here(inner: Plan) -> Plan {
    Plan::Do(vec![
        Plan::Ensure {
            step: Box::new(Plan::OnAbort {
                step: Box::new(inner),
                hook: Box::new(task("on_abort")),
            }),
            hook: Box::new(task("ensure")),
        },
        task("after"),
    ])
}

#[tokio::test(start_paused = true)]
async fn an_abort_stops_the_plan_wherever_it_is_and_runs_hooks() {
    let here = || task("here");
    let places = [
        ("step", here()),
        ("do", Plan::Do(vec![here(), task("next")])),
        ("try", Plan::Try(Box::new(here()))),
        (
            "in_parallel",
            Plan::InParallel {
                steps: vec![here(), task("hangs")],
                limit: 0,
                fail_fast: false,
            },
        ),
        (
            "across",
            across(
                vec![var("v", serde_json::json!([1, 2]), None)],
                false,
                here(),
            ),
        ),
        (
            "attempts",
            Plan::Attempts {
                times: 3,
                step: Box::new(here()),
            },
        ),
        (
            "timeout",
            Plan::Timeout {
                duration: "1h".to_owned(),
                step: Box::new(here()),
            },
        ),
        (
            "on_success",
            Plan::OnSuccess {
                step: Box::new(task("before")),
                hook: Box::new(here()),
            },
        ),
        (
            "on_failure",
            Plan::OnFailure {
                step: Box::new(task("fails")),
                hook: Box::new(here()),
            },
        ),
    ];
    for (place, inner) in places {
        let halt = halt();
        let does = script(&[("here", "H"), ("hangs", "H"), ("fails", "F")]);
        let stopping = halt.clone();
        let stop = tokio::spawn(async move {
            tokio::time::sleep(A_WHILE).await;
            stopping.token().cancel();
        });
        let (outcome, ran) = run(around_here(inner), does, halt).await;
        stop.await.unwrap();
        assert_eq!(outcome, Outcome::Aborted, "{place}");
        assert!(
            ran.ends_with(&["on_abort".to_owned(), "ensure".to_owned()]),
            "{place}: {ran:?}"
        );
        assert!(!ran.contains(&"next".to_owned()), "{place}: {ran:?}");
        assert_eq!(
            ran.iter().filter(|name| *name == "here").count(),
            1,
            "{place}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn across_runs_every_combination_in_order_within_its_limits() {
    let vars = vec![
        var("a", serde_json::json!(["x", "y"]), None),
        var("b", serde_json::json!([1, 2, 3]), None),
    ];
    let step = Plan::Do(vec![task("((.:a))"), task("((.:b))")]);
    let (outcome, stage) = play(across(vars, false, step), Script::default(), halt()).await;
    assert_eq!(outcome, Outcome::Succeeded);
    let ran = stage.ran.lock().unwrap().join(" ");
    assert_eq!(ran, "x 1 x 2 x 3 y 1 y 2 y 3");
    let paths = stage.paths.lock().unwrap().clone();
    assert_eq!(paths[0], "{a=x,b=1}.plan[0]");
    assert_eq!(paths[11], "{a=y,b=3}.plan[1]");
    // Limits of nested vars multiply.
    for (outer, inner, most) in [
        (MaxInFlight::Limit(2), MaxInFlight::Limit(1), 2),
        (MaxInFlight::Limit(2), MaxInFlight::Limit(2), 4),
        (MaxInFlight::All, MaxInFlight::Limit(2), 6),
        (MaxInFlight::Limit(1), MaxInFlight::All, 4),
    ] {
        let vars = vec![
            var("a", serde_json::json!([1, 2, 3]), Some(outer)),
            var("b", serde_json::json!([1, 2, 3, 4]), Some(inner)),
        ];
        let (_, stage) = play(
            across(vars, false, task("w")),
            script(&[("w", "W")]),
            halt(),
        )
        .await;
        assert_eq!(
            stage.most.load(Ordering::SeqCst),
            most,
            "{outer:?} {inner:?}"
        );
        assert_eq!(stage.ran.lock().unwrap().len(), 12);
    }
}

#[tokio::test(start_paused = true)]
async fn across_with_fail_fast_starts_no_more_and_without_goes_on() {
    let values = || vec![var("v", serde_json::json!(["a", "b", "c"]), None)];
    for (fail_fast, expected) in [(true, vec!["a", "b"]), (false, vec!["a", "b", "c"])] {
        let plan = across(values(), fail_fast, task("((.:v))"));
        let (outcome, ran) = run(plan, script(&[("b", "F")]), halt()).await;
        assert_eq!(
            (outcome, ran),
            (
                Outcome::Failed,
                expected.iter().map(|s| s.to_string()).collect()
            )
        );
    }
}

#[tokio::test]
async fn values_of_across_come_from_vars_and_must_be_lists() {
    let inner = across(
        vec![var("v", "((.:list))".into(), None)],
        false,
        task("((.:v))"),
    );
    let lists = serde_json::json!([["a", "b"], []]);
    let plan = across(vec![var("list", lists, None)], false, inner.clone());
    let (outcome, ran) = run(plan, Script::default(), halt()).await;
    assert_eq!(
        (outcome, ran),
        (Outcome::Succeeded, vec!["a".to_owned(), "b".to_owned()])
    );
    let plan = across(
        vec![var("list", serde_json::json!(["text"]), None)],
        false,
        inner.clone(),
    );
    let (outcome, stage) = play(plan, Script::default(), halt()).await;
    assert_eq!(outcome, Outcome::Errored);
    assert_eq!(
        *stage.faults.lock().unwrap(),
        ["{list=text}: across: values of \"v\": expected a list, found a text"]
    );
    let (outcome, _) = run(inner, Script::default(), halt()).await;
    assert_eq!(outcome, Outcome::Errored);
}

#[tokio::test]
async fn paths_say_where_a_step_is_and_which_try() {
    let plan = Plan::Ensure {
        step: Box::new(Plan::Do(vec![
            task("a"),
            Plan::InParallel {
                steps: vec![
                    task("b"),
                    Plan::OnFailure {
                        step: Box::new(Plan::Attempts {
                            times: 2,
                            step: Box::new(task("c")),
                        }),
                        hook: Box::new(Plan::Do(vec![task("d")])),
                    },
                ],
                limit: 1,
                fail_fast: false,
            },
        ])),
        hook: Box::new(Plan::Try(Box::new(task("e")))),
    };
    let (_, stage) = play(plan, script(&[("c", "F")]), halt()).await;
    assert_eq!(
        *stage.paths.lock().unwrap(),
        [
            "plan[0]",
            "plan[1].in_parallel[0]",
            "plan[1].in_parallel[1]",
            "plan[1].in_parallel[1]#2",
            "plan[1].in_parallel[1].on_failure.do[0]",
            "ensure.try",
        ]
    );
}

#[tokio::test]
async fn deep_plans_do_not_overflow_the_stack_and_deeper_ones_are_refused() {
    // 64 levels with all modifiers, in the 2 MiB of a worker's stack.
    let mut plan = task("deep");
    for _ in 0..64 {
        plan = Plan::Do(vec![plan]);
        for kind in ["timeout", "attempts", "across", "success", "ensure"] {
            let (step, hook) = (Box::new(plan), Box::new(task("hook")));
            plan = match kind {
                "timeout" => Plan::Timeout {
                    duration: "1h".to_owned(),
                    step,
                },
                "attempts" => Plan::Attempts { times: 2, step },
                "across" => across(vec![var("v", serde_json::json!([1]), None)], false, *step),
                "success" => Plan::OnSuccess { step, hook },
                _ => Plan::Ensure { step, hook },
            };
        }
    }
    let (outcome, ran) = run(plan, Script::default(), halt()).await;
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(ran.len(), 1 + 2 * 64);

    let mut plan = task("deep");
    for _ in 0..MAX_DEPTH {
        plan = Plan::Try(Box::new(plan));
    }
    let refused = tree(plan, &|_| panic!("never asked"));
    assert!(refused.is_err_and(|said| said.contains("1024 levels")));
}

#[tokio::test]
async fn five_hundred_steps_cost_less_than_a_millisecond_each() {
    let names: Vec<String> = (0..500).map(|number| format!("step-{number}")).collect();
    let plan = Plan::Do(names.iter().map(|name| task(name)).collect());
    let began = Instant::now();
    let (outcome, ran) = run(plan, Script::default(), halt()).await;
    let each = began.elapsed() / 500;
    println!("{each:?} a step");
    assert_eq!((outcome, ran.len()), (Outcome::Succeeded, 500));
    assert!(each < Duration::from_millis(1), "{each:?} a step");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_runs_out_while_an_aborted_job_cleans_up_is_an_abort() {
    // The step aborts the job; its hook, which runs all the same, outlasts the timeout.
    let plan = Plan::Timeout {
        step: Box::new(Plan::InParallel {
            steps: vec![Plan::Ensure {
                step: Box::new(task("aborts")),
                hook: Box::new(task("waits")),
            }],
            limit: 0,
            fail_fast: false,
        }),
        duration: "5ms".to_owned(),
    };
    assert!(A_WHILE > Duration::from_millis(5));
    let does = script(&[("aborts", "A"), ("waits", "W")]);
    let (outcome, ran) = run(plan, does, halt()).await;
    assert_eq!(ran, ["aborts", "waits"]);
    assert_eq!(outcome, Outcome::Aborted);
}

#[tokio::test]
async fn a_value_in_a_path_is_masked_before_it_is_cut() {
    let values = serde_json::json!([SECRET, format!("x{SECRET}")]);
    let plan = across(vec![var("v", values, None)], false, task("t"));
    let (_, stage) = play(plan, Script::default(), halt()).await;
    assert_eq!(*stage.paths.lock().unwrap(), ["{v=***}", "{v=x***}"]);
}
