//! What must be true of every run when all faults are over: looked up by the API, compared with what callers and steps know.

use super::load::Try;
use crate::Client;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
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
    pub(super) fn fault(&mut self, run: &RunRecord, what: String) {
        let told = run.told.as_deref().unwrap_or("");
        self.faults.push(format!(
            "run {} ({}, {} attempts, told {told}): {what}",
            run.id, run.outcome, run.attempts
        ));
    }

    pub(super) fn note(&mut self, what: &'static str) {
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
            // The server's own answer says more to the caller than what is kept of it.
            let by_server = stored.is_some_and(|(status, _)| status == 202);
            if by_server && *status == 202 && body.contains(&run.id) {
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
}
