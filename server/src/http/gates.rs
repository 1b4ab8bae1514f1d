//! Approvals: list, approve, reject.

use super::App;
use super::error::ApiError;
use super::extract::{ApiQuery, PathId, RawBody, parse, without_nul};
use crate::model::gate::{Decision, Gate, GateStatus};
use crate::model::{GateId, RunId};
use crate::store::GateFilter;
use axum::Json;
use axum::extract::State;
use pocketci_proto::api::{self, DecideGate};
use serde::Deserialize;

/// Gates of one answer.
const MAX_GATES: i64 = 200;
/// Longest name of who decides, and longest comment, in characters.
const MAX_TEXT_CHARS: usize = 1_000;

/// Which gates.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GateQuery {
    run: Option<String>,
    all: Option<bool>,
}

fn view(gate: Gate, pipeline: String) -> api::Gate {
    api::Gate {
        id: gate.id,
        run_id: gate.run_id,
        pipeline,
        name: gate.name,
        message: gate.message,
        status: gate.status.as_str().to_owned(),
        decided_by: gate.actor,
        comment: gate.comment,
        opened_at: gate.opened_at,
        expires_at: gate.expires_at,
        decided_at: gate.decided_at,
    }
}

#[utoipa::path(get, path = "/api/gates", tag = "gates", params(("run" = Option<String>, Query, description = "only of this run"), ("all" = Option<bool>, Query, description = "decided ones too")), responses((status = 200, body = Vec<api::Gate>)))]
pub(super) async fn list(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<GateQuery>,
) -> Result<Json<Vec<api::Gate>>, ApiError> {
    let run_id = query
        .run
        .map(|run| {
            run.parse::<RunId>().map_err(|_| ApiError::NotFound {
                what: "run",
                name: run,
            })
        })
        .transpose()?;
    let filter = GateFilter {
        run_id,
        open: !query.all.unwrap_or(false),
    };
    let gates = app.runs.store().gates(filter, MAX_GATES).await?;
    let listed = gates
        .into_iter()
        .map(|(gate, pipeline)| view(gate, pipeline));
    Ok(Json(listed.collect()))
}

#[utoipa::path(post, path = "/api/gates/{id}/approve", tag = "gates", params(("id" = String, Path)), request_body = DecideGate, responses((status = 200, body = api::Gate), (status = 404), (status = 409, description = "decided already, expired, or its run is over")))]
pub(super) async fn approve(
    State(app): State<App>,
    PathId(id): PathId,
    RawBody(body): RawBody,
) -> Result<Json<api::Gate>, ApiError> {
    decide(&app, id, &body, GateStatus::Approved).await
}

#[utoipa::path(post, path = "/api/gates/{id}/reject", tag = "gates", params(("id" = String, Path)), request_body = DecideGate, responses((status = 200, body = api::Gate), (status = 404), (status = 409, description = "decided already, expired, or its run is over")))]
pub(super) async fn reject(
    State(app): State<App>,
    PathId(id): PathId,
    RawBody(body): RawBody,
) -> Result<Json<api::Gate>, ApiError> {
    decide(&app, id, &body, GateStatus::Rejected).await
}

async fn decide(
    app: &App,
    id: String,
    body: &[u8],
    status: GateStatus,
) -> Result<Json<api::Gate>, ApiError> {
    let asked: DecideGate = if body.is_empty() {
        DecideGate::default()
    } else {
        parse(body)?
    };
    let actor = asked.by.unwrap_or_else(|| "api".to_owned());
    let comment = asked.comment.unwrap_or_default();
    for (what, text) in [("by", &actor), ("comment", &comment)] {
        without_nul(what, text)?;
        if text.chars().count() > MAX_TEXT_CHARS {
            return Err(ApiError::Invalid(format!(
                "{what} must have at most {MAX_TEXT_CHARS} characters"
            )));
        }
    }
    if actor.is_empty() {
        return Err(ApiError::Invalid(
            "by is empty; leave it out instead".into(),
        ));
    }
    let unknown = || ApiError::NotFound {
        what: "gate",
        name: id.clone(),
    };
    let gate_id: GateId = id.parse().map_err(|_| unknown())?;
    let decision = Decision {
        status,
        actor,
        comment,
    };
    let decided = app.runs.store().decide_gate(gate_id, decision).await?;
    let (gate, won) = decided.ok_or_else(unknown)?;
    if !won {
        return Err(ApiError::GateClosed(match gate.status {
            GateStatus::Pending => "it has expired, or its run is over".to_owned(),
            status => format!("it was {} by {}", status.as_str(), gate.actor),
        }));
    }
    let filter = GateFilter {
        run_id: Some(gate.run_id),
        open: false,
    };
    let named = app.runs.store().gates(filter, MAX_GATES).await?;
    let pipeline = named.into_iter().find(|(found, _)| found.id == gate.id);
    Ok(Json(view(
        gate,
        pipeline.map(|(_, name)| name).unwrap_or_default(),
    )))
}
