//! Runs and their events.

use super::super::wake::Wake;
use super::super::{Enqueued, NewRun, Result, RunFilter, RunStore, RunView};
use super::rows::{self, Id, all, first, id};
use super::{Failable, SqliteStore, enqueue};
use crate::model::RunId;
use crate::model::run::{Event, Job, Reply};
use async_trait::async_trait;
use pocketci_proto::api::RunStatus;
use rusqlite::{Connection, Row, params_from_iter};

const VIEW: &str =
    "SELECT r.*, p.name AS pipeline_name FROM runs r JOIN pipelines p ON p.id = r.pipeline_id";

#[async_trait]
impl RunStore for SqliteStore {
    async fn enqueue(&self, run: NewRun) -> Result<Enqueued> {
        let wakes = self.wakes.clone();
        let queued = run.jobs.iter().any(|job| job.hand_to.is_none());
        self.writer
            .write(
                move |connection| enqueue::enqueue(connection, &run),
                move |result| {
                    if queued && *result == Enqueued::Stored {
                        wakes.publish(Wake::JobQueued);
                    }
                },
            )
            .await
    }

    async fn run(&self, wanted: RunId) -> Result<Option<RunView>> {
        self.read(move |connection| {
            let sql = format!("{VIEW} WHERE r.id = ?");
            let Some(mut view) = first(connection, &sql, [id(wanted)], bare_view)? else {
                return Ok(None);
            };
            view.jobs = jobs(connection, wanted)?;
            view.reply = reply(connection, wanted)?;
            Ok(Some(view))
        })
        .await
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunView>> {
        self.read(move |connection| list(connection, &filter)).await
    }

    async fn replies(&self, ids: &[RunId]) -> Result<Vec<(RunId, Reply)>> {
        let ids: Vec<Id> = ids.iter().copied().map(id).collect();
        self.read(move |connection| {
            let marks = vec!["?"; ids.len()].join(",");
            let sql = format!("SELECT * FROM replies WHERE run_id IN ({marks})");
            all(connection, &sql, params_from_iter(ids), rows::reply)
        })
        .await
    }

    async fn events(&self, run: RunId, after: i64, limit: i64) -> Result<Option<Vec<Event>>> {
        self.read(move |connection| {
            let known = first(
                connection,
                "SELECT 1 FROM runs WHERE id = ?",
                [id(run)],
                |_| Ok(()),
            )?;
            if known.is_none() {
                return Ok(None);
            }
            let sql = "SELECT * FROM run_events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?";
            all(connection, sql, (id(run), after, limit), rows::event).map(Some)
        })
        .await
    }
}

fn bare_view(row: &Row<'_>) -> Failable<RunView> {
    Ok(RunView {
        run: rows::run(row)?,
        pipeline_name: row.get("pipeline_name")?,
        jobs: Vec::new(),
        reply: None,
    })
}

fn jobs(connection: &Connection, run: RunId) -> Failable<Vec<(Job, Option<String>)>> {
    all(
        connection,
        "SELECT j.*, a.name AS agent_name FROM jobs j LEFT JOIN agents a ON a.id = j.agent_id
         WHERE j.run_id = ? ORDER BY j.id",
        [id(run)],
        |row| Ok((rows::job(row)?, row.get("agent_name")?)),
    )
}

fn reply(connection: &Connection, run: RunId) -> Failable<Option<Reply>> {
    let found = first(
        connection,
        "SELECT * FROM replies WHERE run_id = ?",
        [id(run)],
        rows::reply,
    )?;
    Ok(found.map(|(_, reply)| reply))
}

fn list(connection: &Connection, filter: &RunFilter) -> Failable<Vec<RunView>> {
    let (state, outcome) = match filter.status {
        None => (None, None),
        Some(RunStatus::Queued) => (Some("queued"), None),
        Some(RunStatus::Running) => (Some("running"), None),
        Some(RunStatus::Success) => (None, Some("succeeded")),
        Some(RunStatus::Failed) => (None, Some("failed")),
        Some(RunStatus::Errored) => (None, Some("errored")),
        Some(RunStatus::Aborted) => (None, Some("aborted")),
        Some(RunStatus::Skipped) => (None, Some("skipped")),
    };
    let sql = format!(
        "{VIEW} WHERE (?1 IS NULL OR r.pipeline_id = ?1) AND (?2 IS NULL OR r.state = ?2)
         AND (?3 IS NULL OR r.outcome = ?3) AND (?4 IS NULL OR r.id < ?4) ORDER BY r.id DESC LIMIT ?5"
    );
    let params = (
        filter.pipeline_id.map(id),
        state,
        outcome,
        filter.after.map(id),
        filter.limit,
    );
    all(connection, &sql, params, bare_view)
}
