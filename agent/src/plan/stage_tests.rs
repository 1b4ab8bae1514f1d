//! Steps that do as a script says, for the tests of composites.

use super::*;
use pocketci_pipeline::config::model::TaskStep;
use pocketci_pipeline::plan::Plan;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
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
    pub(super) ran: Mutex<Vec<String>>,
    pub(super) paths: Mutex<Vec<String>>,
    pub(super) faults: Mutex<Vec<String>>,
    running: AtomicUsize,
    pub(super) most: AtomicUsize,
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

    fn masked(&self, text: String) -> String {
        text.replace(SECRET, "***")
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

/// What no path may show.
pub(super) const SECRET: &str = "a-secret-that-is-longer-than-what-a-path-shows";

/// How long a `W` waits.
pub(super) const A_WHILE: Duration = Duration::from_millis(10);

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

pub(super) async fn play(plan: Plan, script: Script, halt: Halt) -> (Outcome, Arc<Stage>) {
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
