//! What must be true of every run when all faults are over: looked up by the API, compared with what callers and steps know.

use super::load::{Kind, Try, output, told};
use crate::Client;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Instant;

/// A run as the store has it.
pub struct RunRecord {
    /// Its id.
    pub id: String,
    /// `succeeded`, …
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// The last one's number.
    pub attempts: i32,
    /// Attempts that were lost with their agents.
    pub lost: i32,
    /// Highest event.
    pub event_seq: i64,
    /// The webhook's body, or the argument of a child.
    pub told: Option<String>,
    /// Whether another pipeline started it.
    pub is_child: bool,
    /// By, status and body.
    pub reply: Option<(String, i32, String)>,
    /// All of them.
    pub events: Vec<Value>,
}

/// All runs with everything that is known of them.
pub async fn runs(database: &tokio_postgres::Client, client: &Client) -> Vec<RunRecord> {
    let sql = "SELECT r.id::text, r.outcome, r.reason, j.attempt, j.lost, r.event_seq, r.trigger_kind = 'pipeline',
            convert_from(q.body, 'UTF8'), p.by, p.status, convert_from(p.body, 'UTF8'), r.trigger_data
        FROM runs r JOIN jobs j ON j.run_id = r.id LEFT JOIN receipts q ON q.id = r.receipt_id
            LEFT JOIN replies p ON p.run_id = r.id ORDER BY r.id";
    let rows = database.query(sql, &[]).await.expect("runs can be read");
    let mut runs = Vec::new();
    for row in rows {
        let id: String = row.get(0);
        let (body, by): (Option<String>, Option<String>) = (row.get(7), row.get(8));
        let trigger: Value = serde_json::from_str(row.get(11)).unwrap_or_default();
        runs.push(RunRecord {
            events: events(client, &id).await,
            outcome: row.get::<_, Option<String>>(1).unwrap_or_default(),
            reason: row.get(2),
            attempts: row.get(3),
            lost: row.get(4),
            event_seq: row.get(5),
            is_child: row.get(6),
            told: body.or_else(|| trigger["args"][0].as_str().map(str::to_owned)),
            reply: by.map(|by| (by, row.get(9), row.get(10))),
            id,
        });
    }
    runs
}

/// All events of a run: one answer has a page of them.
pub async fn events(client: &Client, run: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all
            .last()
            .and_then(|event| event["seq"].as_i64())
            .unwrap_or(0);
        let path = format!("/api/runs/{run}/events?follow=0&after={after}");
        let (status, page) = client.get(&path).await.expect("events are answered");
        assert_eq!(status, 200, "{page}");
        match page.as_array() {
            Some(page) if !page.is_empty() => all.extend(page.iter().cloned()),
            _ => return all,
        }
    }
}

/// Sentences about what is wrong; empty is good.
#[derive(Default)]
pub struct Verdict {
    /// See the type.
    pub faults: Vec<String>,
    /// Facts for the figures.
    pub notes: BTreeMap<&'static str, usize>,
}

impl Verdict {
    fn fault(&mut self, run: &RunRecord, what: String) {
        let told = run.told.as_deref().unwrap_or("");
        self.faults.push(format!(
            "run {} ({}, {} attempts, told {told}): {what}",
            run.id, run.outcome, run.attempts
        ));
    }

    fn note(&mut self, what: &'static str) {
        *self.notes.entry(what).or_default() += 1;
    }

    /// Exactly one end, of a kind that the faults explain; events without holes.
    pub fn one_end(&mut self, runs: &[RunRecord]) {
        for run in runs {
            let count = |name: &str| {
                let named = run.events.iter().filter(|event| event["event"] == name);
                named.count()
            };
            let last = run.events.last().map(|event| event["event"].clone());
            if (count("run_finished"), count("job_finished")) != (1, 1)
                || last.as_ref().and_then(Value::as_str) != Some("run_finished")
            {
                self.fault(run, format!("not exactly one end, said last: {last:?}"));
            }
            let numbers = run.events.iter().map(|event| event["seq"].as_i64());
            if !numbers.eq((1..=run.event_seq).map(Some)) {
                self.fault(run, "its events have holes or repeats".into());
            }
            match (run.outcome.as_str(), run.reason.as_str()) {
                ("succeeded", _) => {}
                ("errored", "agent_lost") if run.lost >= 3 => {
                    self.note("runs given up after lost agents")
                }
                (outcome, reason) => {
                    let message = run.events.last().map(|event| event["message"].clone());
                    self.fault(run, format!("ended as {outcome} {reason}: {message:?}"));
                }
            }
        }
    }

    /// An accepted webhook has its run; one that was not has one at most; nothing else has one.
    pub fn accepted_is_stored(&mut self, runs: &[RunRecord], tries: &[Try]) {
        let mut by_body: HashMap<&str, usize> = HashMap::new();
        for run in runs.iter().filter(|run| !run.is_child) {
            *by_body
                .entry(run.told.as_deref().unwrap_or(""))
                .or_default() += 1;
        }
        for one in tries {
            let stored = by_body.remove(one.body.as_str()).unwrap_or(0);
            if stored > 1 || (one.accepted() && stored != 1) {
                self.faults.push(format!(
                    "{stored} runs of the webhook {}, whose caller got {:?}",
                    one.body, one.answer
                ));
            }
            match &one.answer {
                Ok((200..=299, _)) => self.note("answers 2xx"),
                Ok((503, _)) => self.note("answers 503"),
                Ok(other) => {
                    let told = format!("a caller got {other:?}; expected 2xx or 503");
                    self.faults.push(told);
                }
                Err(_) => self.note("connections broken before the answer"),
            }
        }
        for body in by_body.keys() {
            self.faults
                .push(format!("a run of a webhook that nobody sent: {body:?}"));
        }
    }

    /// What a caller got is what is stored. A 202 says only that the run is stored: where the server could not ask its
    /// store at the deadline (`away`: when that was so), a later reply of the pipeline may be stored.
    pub fn replies(&mut self, runs: &[RunRecord], tries: &[Try], away: &[(Instant, Instant)]) {
        let by_body: HashMap<&str, &RunRecord> = runs
            .iter()
            .filter_map(|run| Some((run.told.as_deref()?, run)))
            .collect();
        for one in tries.iter().filter(|one| one.accepted()) {
            let (Some(run), Ok((status, body))) = (by_body.get(one.body.as_str()), &one.answer)
            else {
                continue;
            };
            let stored = run.reply.as_ref().map(|(_, status, body)| (*status, body));
            if stored == Some((i32::from(*status), body)) {
                continue;
            }
            let asked = one.at - one.took;
            let hidden = away
                .iter()
                .any(|(began, over)| *began <= one.at && *over >= asked);
            if *status == 202 && body.contains(&run.id) && hidden {
                self.note("202 given while the store was out of reach");
            } else {
                self.fault(
                    run,
                    format!("the caller got {status} {body:?}, stored is {stored:?}"),
                );
            }
        }
    }

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
