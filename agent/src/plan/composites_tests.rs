//! Composites over steps that do as a script says.

use super::*;
use pocketci_pipeline::config::model::{AcrossVar, MaxInFlight, TaskStep};
use pocketci_pipeline::plan::Plan;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What steps do, by name, for each of their tries; the last one repeats. `S`ucceed, `F`ail, `E`rror, `A`bort the job,
/// be stoppe`D` by somebody, `H`ang until stopped, `W`ait a while and succeed. Without an entry a step succeeds.
#[derive(Default)]
pub(super) struct Script {
    pub(super) does: BTreeMap<String, Vec<char>>,
}

pub(super) fn script(does: &[(&str, &str)]) -> Script {
    let does = does.iter();
    Script {
        does: does
            .map(|(name, letters)| ((*name).to_owned(), letters.chars().collect()))
            .collect(),
    }
}

/// A job whose values are what they are, but for `((.:v))` as a whole.
#[derive(Default)]
pub(super) struct Stage {
    script: Script,
    ran: Mutex<Vec<String>>,
    paths: Mutex<Vec<String>>,
    faults: Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Job for Stage {
    async fn interpolate(&self, state: &State, value: &Value) -> Result<Value, String> {
        let name = value
            .as_str()
            .and_then(|text| text.strip_prefix("((.:")?.strip_suffix("))"));
        match name {
            Some(name) => state
                .scope
                .var(name)
                .ok_or_else(|| format!("undefined vars: .:{name}")),
            None => Ok(value.clone()),
        }
    }

    fn forgive(&self, _: &State) {}

    async fn fault(&self, state: &State, _: Outcome, said: &str) {
        let fault = format!("{}: {said}", state.path);
        self.faults.lock().unwrap().push(fault);
    }
}

struct Scripted {
    stage: Arc<Stage>,
    name: String,
    halt: Halt,
}

/// How long a `W` waits.
const A_WHILE: Duration = Duration::from_millis(10);

#[async_trait]
impl Step for Scripted {
    async fn run(&self, state: &State) -> Outcome {
        let stage = &self.stage;
        let name = match state
            .job
            .interpolate(state, &self.name.clone().into())
            .await
        {
            Ok(Value::String(name)) => name,
            Ok(other) => other.to_string(),
            Err(_) => return Outcome::Errored,
        };
        let before = {
            let mut ran = stage.ran.lock().unwrap();
            stage.paths.lock().unwrap().push(state.path.to_string());
            let before = ran.iter().filter(|known| **known == name).count();
            ran.push(name.clone());
            before
        };
        let does = stage.script.does.get(&name);
        let letter = does.and_then(|does| does.get(before).or(does.last()));
        let running = stage.running.fetch_add(1, Ordering::SeqCst) + 1;
        stage.most.fetch_max(running, Ordering::SeqCst);
        let outcome = match letter.unwrap_or(&'S') {
            'S' => Outcome::Succeeded,
            'F' => Outcome::Failed,
            'E' => Outcome::Errored,
            'A' => {
                self.halt.stop(Outcome::Aborted);
                Outcome::Aborted
            }
            'D' => Outcome::Aborted,
            'W' => {
                tokio::time::sleep(A_WHILE).await;
                Outcome::Succeeded
            }
            'H' => {
                state.halt.token().cancelled().await;
                state.halt.stopped().unwrap()
            }
            other => panic!("letter {other}"),
        };
        stage.running.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
}

pub(super) fn task(name: &str) -> Plan {
    Plan::Task(Box::new(TaskStep {
        name: name.to_owned(),
        ..TaskStep::default()
    }))
}

async fn play(plan: Plan, script: Script, halt: Halt) -> (Outcome, Arc<Stage>) {
    let stage = Arc::new(Stage {
        script,
        ..Stage::default()
    });
    let leaf = |plan: Plan| -> Arc<dyn Step> {
        let Plan::Task(task) = plan else {
            panic!("only tasks here")
        };
        Arc::new(Scripted {
            stage: stage.clone(),
            name: task.name,
            halt: halt.clone(),
        })
    };
    let steps = tree(plan, &leaf).unwrap();
    let hooks = Halt::new(CancellationToken::new());
    let state = State::new(stage.clone(), Arc::default(), halt.clone(), hooks);
    (steps.run(&state).await, stage)
}

/// The plan's outcome, and what ran in which order.
pub(super) async fn run(plan: Plan, script: Script, halt: Halt) -> (Outcome, Vec<String>) {
    let (outcome, stage) = play(plan, script, halt).await;
    let ran = stage.ran.lock().unwrap().clone();
    (outcome, ran)
}

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
