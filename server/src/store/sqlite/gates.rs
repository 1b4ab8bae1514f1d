//! Approvals.

use super::super::outbox::Told;
use super::SqliteStore;
use super::ledger::load_run;
use super::outbox::tell;
use super::rows::{Columns, key, micros, now};
use super::writer::Hints;
use crate::model::derived::event_id;
use crate::model::gate::{Decision, Gate, GateStatus, NewGate};
use crate::model::subscription::EventName;
use crate::model::{GateId, RunId};
use crate::store::{GateFilter, GateStore, Result, codec};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

/// In the order of [`gate`].
const GATE: &str = "g.id, g.run_id, g.name, g.message, g.status, g.actor, g.comment, g.opened_at, g.expires_at, g.decided_at";

fn gate(row: &Row) -> rusqlite::Result<Gate> {
    read(&mut Columns::of(row))
}

fn read(columns: &mut Columns) -> rusqlite::Result<Gate> {
    Ok(Gate {
        id: columns.id(GateId)?,
        run_id: columns.id(RunId)?,
        name: columns.take()?,
        message: columns.take()?,
        status: columns.word(GateStatus::parse)?,
        actor: columns.take()?,
        comment: columns.take()?,
        opened_at: columns.time()?,
        expires_at: columns.time()?,
        decided_at: columns.time_opt()?,
    })
}

fn by_id(connection: &Connection, id: GateId) -> Result<Option<Gate>> {
    let sql = format!("SELECT {GATE} FROM gates g WHERE g.id = ?1");
    let found = connection
        .prepare_cached(&sql)?
        .query_row([id.0.as_bytes()], gate);
    Ok(found.optional()?)
}

fn open(connection: &Connection, new: &NewGate, hints: &mut Hints) -> Result<Gate> {
    let opened = now();
    let sql = "INSERT INTO gates (id, run_id, job_id, call, name, message, status, actor, comment, opened_at, expires_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending', '', '', ?7, ?8) ON CONFLICT (job_id, call) DO NOTHING";
    let inserted = connection.prepare_cached(sql)?.execute(params![
        new.id.0.as_bytes(),
        new.run_id.0.as_bytes(),
        new.job_id.0.as_bytes(),
        new.call,
        new.name,
        new.message,
        micros(opened),
        micros(opened + new.timeout)
    ])?;
    let sql = format!("SELECT {GATE} FROM gates g WHERE g.job_id = ?1 AND g.call = ?2");
    let given = params![new.job_id.0.as_bytes(), new.call];
    let gate = connection.prepare_cached(&sql)?.query_row(given, gate)?;
    if inserted > 0 {
        told(connection, new, &gate, hints)?;
    }
    Ok(gate)
}

/// Leaves the waiting gate for subscribers.
fn told(connection: &Connection, new: &NewGate, gate: &Gate, hints: &mut Hints) -> Result<()> {
    let Some(run) = load_run(connection, gate.run_id)? else {
        return Ok(());
    };
    let told = Told {
        id: event_id(EventName::GateWaiting.as_str(), gate.id.0, 0),
        name: EventName::GateWaiting,
        pipeline_id: Some(run.pipeline_id),
        run_id: Some(gate.run_id),
        job_id: Some(new.job_id),
        attempt: 0,
        at: gate.opened_at,
        status: "",
        data: codec::gate_data(gate),
    };
    tell(connection, &told, hints)
}

fn decide(
    connection: &Connection,
    id: GateId,
    decision: &Decision,
) -> Result<Option<(Gate, bool)>> {
    let sql = "UPDATE gates SET status = ?2, actor = ?3, comment = ?4, decided_at = ?5 \
         WHERE id = ?1 AND status = 'pending' AND (expires_at <= ?5) = (?2 = 'timed_out') \
         AND EXISTS (SELECT 1 FROM runs r WHERE r.id = run_id AND r.outcome IS NULL)";
    let changed = connection.prepare_cached(sql)?.execute(params![
        id.0.as_bytes(),
        decision.status.as_str(),
        decision.actor,
        decision.comment,
        micros(now())
    ])?;
    Ok(by_id(connection, id)?.map(|gate| (gate, changed > 0)))
}

fn list(connection: &Connection, filter: &GateFilter, limit: i64) -> Result<Vec<(Gate, String)>> {
    let sql = format!(
        "SELECT {GATE}, p.name FROM gates g JOIN runs r ON r.id = g.run_id JOIN pipelines p ON p.id = r.pipeline_id \
         WHERE (?1 IS NULL OR g.run_id = ?1) \
         AND (NOT ?2 OR (g.status = 'pending' AND g.expires_at > ?3 AND r.outcome IS NULL)) \
         ORDER BY g.opened_at, g.id LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let given = params![
        key(filter.run_id.map(|id| id.0)),
        filter.open,
        micros(now()),
        limit
    ];
    let found = statement.query_map(given, |row| {
        let mut columns = Columns::of(row);
        Ok((read(&mut columns)?, columns.take()?))
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

#[async_trait]
impl GateStore for SqliteStore {
    async fn open_gate(&self, gate: NewGate) -> Result<Gate> {
        self.writer
            .call(move |connection, hints| open(connection, &gate, hints))
            .await
    }

    async fn gate(&self, id: GateId) -> Result<Option<Gate>> {
        self.readers
            .read(move |connection| by_id(connection, id))
            .await
    }

    async fn gates(&self, filter: GateFilter, limit: i64) -> Result<Vec<(Gate, String)>> {
        self.readers
            .read(move |connection| list(connection, &filter, limit))
            .await
    }

    async fn decide_gate(&self, id: GateId, decision: Decision) -> Result<Option<(Gate, bool)>> {
        self.writer
            .call(move |connection, _| decide(connection, id, &decision))
            .await
    }
}
