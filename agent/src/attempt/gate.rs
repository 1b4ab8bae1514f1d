//! `pipeline.gate`: waits for somebody's decision, which lives on the server and survives this agent.

use super::backend::{Backend, GateState};
use super::{Attempt, SYSTEM};
use crate::js::host::{Answer, Failure};
use bytes::Bytes;
use pocketci_proto::agent as pb;
use serde_json::json;
use std::time::Duration;

/// What is asked for.
pub(crate) struct Gate<'a> {
    /// See [`Backend`].
    pub(crate) call: u32,
    pub(crate) name: &'a str,
    pub(crate) message: &'a str,
    pub(crate) timeout: Duration,
}

/// Opens the gate and resolves when it is approved.
pub(crate) async fn pass(
    attempt: &Attempt,
    backend: &dyn Backend,
    gate: Gate<'_>,
) -> Result<Answer, Failure> {
    let Gate {
        call,
        name,
        timeout,
        ..
    } = gate;
    let failed = |error: String| Failure::from(format!("pipeline.gate {name:?}: {error}"));
    let message = attempt.redactor.text(gate.message);
    let opened = backend.open_gate(call, name, &message, timeout).await;
    let mut gate = opened.map_err(failed)?;
    let id = uuid::Uuid::from_slice(&gate.id).unwrap_or_default();
    if gate.status == "pending" {
        let opened = pb::GateOpened {
            gate_id: gate.id.clone(),
            name: name.to_owned(),
            message: message.clone(),
        };
        attempt.note(pb::noted::Kind::GateOpened(opened));
        let colon = if message.is_empty() { "" } else { ": " };
        say(
            attempt,
            format!("waiting at gate {name:?}{colon}{message}\napprove it with: pocketci gates approve {id}\n"),
        )
        .await;
    }
    while gate.status == "pending" {
        gate = backend.await_gate(&gate.id).await.map_err(failed)?;
    }
    let decided = pb::GateDecided {
        gate_id: gate.id.clone(),
        name: name.to_owned(),
        status: gate.status.clone(),
        by: gate.by.clone(),
    };
    attempt.note(pb::noted::Kind::GateDecided(decided));
    conclude(attempt, name, gate).await
}

async fn conclude(attempt: &Attempt, name: &str, gate: GateState) -> Result<Answer, Failure> {
    let said = if gate.comment.is_empty() {
        String::new()
    } else {
        format!(": {}", gate.comment)
    };
    if gate.status == "approved" {
        say(
            attempt,
            format!("gate {name:?} approved by {}{said}\n", gate.by),
        )
        .await;
        return Ok(Answer::Json(
            json!({ "by": gate.by, "at": gate.at, "comment": gate.comment }),
        ));
    }
    let (told, reason) = match gate.status.as_str() {
        "rejected" => (format!("rejected by {}{said}", gate.by), "rejected"),
        _ => (
            "timed out: nobody approved it in time".to_owned(),
            "timeout",
        ),
    };
    say(attempt, format!("gate {name:?} {told}\n")).await;
    Err(Failure {
        name: "GateError",
        message: format!("pipeline.gate {name:?}: {told}"),
        detail: json!({ "reason": reason, "by": gate.by, "comment": gate.comment }),
    })
}

async fn say(attempt: &Attempt, text: String) {
    attempt.log.append(SYSTEM, Bytes::from(text)).await;
}
