//! What steps left behind: output, effects, children and values, compared with what they were told to leave.

use super::load::{Kind, Try, output, told};
use super::verdict::{RunRecord, Verdict};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

impl Verdict {
    /// Every log is what its step wrote, or says where it has a gap.
    pub fn logs(&mut self, runs: &[RunRecord], tries: &[Try]) {
        let kinds: HashMap<&str, Kind> = tries
            .iter()
            .map(|one| (one.body.as_str(), one.kind))
            .collect();
        for run in runs {
            let Some((nonce, lines)) = run.told.as_deref().and_then(told) else {
                continue;
            };
            let mut whole: BTreeSet<String> = BTreeSet::new();
            for (attempt, step, name) in steps(run) {
                let expected = output(&name, lines);
                match log(run, attempt, step, &expected) {
                    Log::Wrong(what) => {
                        self.fault(run, format!("attempt {attempt} step {step}: {what}"))
                    }
                    Log::Gap => {
                        self.note("logs with a declared gap");
                        whole.insert(name);
                    }
                    Log::Part(length) => {
                        if run.outcome == "succeeded" && attempt == i64::from(run.attempts) {
                            let of = expected.len();
                            self.fault(
                                run,
                                format!("step {step} of the last attempt: {length} of {of} bytes"),
                            );
                        }
                    }
                    Log::Whole => {
                        self.note("logs equal byte for byte");
                        whole.insert(name);
                    }
                }
            }
            let expected = match kinds.get(run.told.as_deref().unwrap_or("")) {
                Some(kind) => kind.steps(),
                None => &["a"],
            };
            for end in expected {
                if run.outcome == "succeeded" && !whole.contains(&format!("{nonce}-{end}")) {
                    self.fault(
                        run,
                        format!("it succeeded without the whole log of step {end}"),
                    );
                }
            }
        }
    }

    /// No effect twice for one attempt; none of a run that is not there; all of a run that succeeded.
    pub fn effects(&mut self, runs: &[RunRecord], tries: &[Try], file: &Path) {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for line in text.lines() {
            *seen.entry(line).or_default() += 1;
        }
        for (line, count) in seen.iter().filter(|(_, count)| **count > 1) {
            self.faults
                .push(format!("the effect \"{line}\" is there {count} times"));
        }
        let known: BTreeSet<&str> = runs.iter().map(|run| run.id.as_str()).collect();
        let done: BTreeSet<(&str, &str)> = text
            .lines()
            .filter_map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                Some((*words.first()?, *words.get(2)?))
            })
            .collect();
        for (run, step) in done.iter().filter(|(run, _)| !known.contains(run)) {
            self.faults.push(format!(
                "step {step} of run {run} ran, but there is no such run"
            ));
        }
        let kinds: HashMap<&str, Kind> = tries
            .iter()
            .map(|one| (one.body.as_str(), one.kind))
            .collect();
        for run in runs.iter().filter(|run| run.outcome == "succeeded") {
            let kind = kinds.get(run.told.as_deref().unwrap_or(""));
            let steps: &[&str] = match (run.is_child, kind) {
                (true, _) => &["a"],
                (false, Some(Kind::Native)) => &["a", "b"],
                (false, _) => &[],
            };
            for step in steps
                .iter()
                .filter(|step| !done.contains(&(run.id.as_str(), **step)))
            {
                self.fault(
                    run,
                    format!("it succeeded, but its step {step} left no effect"),
                );
            }
        }
        *self.notes.entry("effects of native steps").or_default() += text.lines().count();
    }

    /// Each successful parent has one child: not none, not two.
    pub fn children(&mut self, runs: &[RunRecord], tries: &[Try]) {
        let nonces: BTreeSet<&str> = tries
            .iter()
            .filter(|one| one.kind == Kind::Parent)
            .map(|one| one.nonce.as_str())
            .collect();
        let told_nonce = |run: &RunRecord| run.told.as_deref().and_then(told).map(|told| told.0);
        for nonce in nonces {
            let parents: Vec<&RunRecord> = runs
                .iter()
                .filter(|run| !run.is_child && told_nonce(run).as_deref() == Some(nonce))
                .collect();
            let succeeded = parents
                .iter()
                .filter(|run| run.outcome == "succeeded")
                .count();
            let child = format!("{nonce}-child");
            let children = runs
                .iter()
                .filter(|run| run.is_child && told_nonce(run).as_deref() == Some(&child));
            let children = children.count();
            if !(succeeded..=parents.len()).contains(&children) {
                self.faults.push(format!(
                    "{nonce}: {children} child runs of {} parents, {succeeded} of which succeeded",
                    parents.len()
                ));
            }
        }
    }

    /// A value that a successful run wrote is there.
    pub async fn values(
        &mut self,
        runs: &[RunRecord],
        tries: &[Try],
        database: &tokio_postgres::Client,
    ) {
        let rows = database
            .query("SELECT key, value FROM stored_values", &[])
            .await
            .expect("values can be read");
        let values: HashMap<String, String> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let kinds: HashMap<&str, Kind> = tries
            .iter()
            .map(|one| (one.body.as_str(), one.kind))
            .collect();
        for run in runs.iter().filter(|run| run.outcome == "succeeded") {
            let body = run.told.as_deref().unwrap_or("");
            if kinds.get(body) != Some(&Kind::Storage) {
                continue;
            }
            let Some((nonce, _)) = told(body) else {
                continue;
            };
            // Two deliveries of one caller write the same key.
            let ours = |value: &str| {
                runs.iter().any(|run| {
                    value.contains(&run.id)
                        && run
                            .told
                            .as_deref()
                            .and_then(told)
                            .is_some_and(|told| told.0 == nonce)
                })
            };
            if !values.get(&nonce).is_some_and(|value| ours(value)) {
                self.fault(run, format!("its value is {:?}", values.get(&nonce)));
            }
        }
    }
}

/// Attempt, number and name of every step that began.
fn steps(run: &RunRecord) -> Vec<(i64, i64, String)> {
    run.events
        .iter()
        .filter(|event| event["event"] == "step_started")
        .filter_map(|event| {
            Some((
                event["attempt"].as_i64()?,
                event["step"].as_i64()?,
                event["name"].as_str()?.to_owned(),
            ))
        })
        .collect()
}

enum Log {
    Whole,
    /// A beginning of it.
    Part(usize),
    /// Something is missing, and the log says so.
    Gap,
    Wrong(String),
}

fn log(run: &RunRecord, attempt: i64, step: i64, expected: &str) -> Log {
    let of_step = |event: &&Value| event["attempt"] == attempt && event["step"] == step;
    let mut at = 0;
    let mut gap = false;
    for event in run.events.iter().filter(of_step) {
        let kind = event["event"].as_str().unwrap_or("");
        gap |= kind.contains("gap") || event["gap"].is_object() || event["gap"] == true;
        if kind != "log" || event["stream"] != "stdout" {
            continue;
        }
        let (Some(offset), Some(text)) = (event["offset"].as_u64(), event["text"].as_str()) else {
            return Log::Wrong(format!("output that no step wrote: {event}"));
        };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if offset < at || (offset > at && !gap) {
            return Log::Wrong(format!(
                "output at {offset} after {at} bytes, without a declared gap"
            ));
        }
        if expected
            .get(offset..)
            .and_then(|rest| rest.get(..text.len()))
            != Some(text)
        {
            return Log::Wrong(format!("other bytes at {offset} than the step wrote"));
        }
        at = offset + text.len();
    }
    match (gap, at == expected.len()) {
        (true, _) => Log::Gap,
        (false, true) => Log::Whole,
        (false, false) => Log::Part(at),
    }
}
