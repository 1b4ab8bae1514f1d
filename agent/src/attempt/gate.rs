//! `pipeline.gate`: waits for somebody's decision, which lives on the server and survives this agent.

use super::SYSTEM;
use super::backend::GateState;
use super::host::Parts;
use crate::js::host::{Answer, Failure};
use bytes::Bytes;
use pocketci_proto::agent as pb;
use serde_json::json;
use std::time::Duration;

/// Opens the gate and resolves when it is approved.
pub(super) async fn pass(
    parts: &Parts,
    call: u32,
    name: &str,
    message: &str,
    timeout: Duration,
) -> Result<Answer, Failure> {
    let failed = |error: String| Failure::from(format!("pipeline.gate {name:?}: {error}"));
    let message = parts.attempt.redactor.text(message);
    let opened = parts.backend.open_gate(call, name, &message, timeout).await;
    let mut gate = opened.map_err(failed)?;
    let id = uuid::Uuid::from_slice(&gate.id).unwrap_or_default();
    if gate.status == "pending" {
        let opened = pb::GateOpened {
            gate_id: gate.id.clone(),
            name: name.to_owned(),
            message: message.clone(),
        };
        parts.attempt.note(pb::noted::Kind::GateOpened(opened));
        let colon = if message.is_empty() { "" } else { ": " };
        say(
            parts,
            format!("waiting at gate {name:?}{colon}{message}\napprove it with: pocketci gates approve {id}\n"),
        )
        .await;
    }
    while gate.status == "pending" {
        gate = parts.backend.await_gate(&gate.id).await.map_err(failed)?;
    }
    let decided = pb::GateDecided {
        gate_id: gate.id.clone(),
        name: name.to_owned(),
        status: gate.status.clone(),
        by: gate.by.clone(),
    };
    parts.attempt.note(pb::noted::Kind::GateDecided(decided));
    conclude(parts, name, gate).await
}

async fn conclude(parts: &Parts, name: &str, gate: GateState) -> Result<Answer, Failure> {
    let said = if gate.comment.is_empty() {
        String::new()
    } else {
        format!(": {}", gate.comment)
    };
    if gate.status == "approved" {
        say(
            parts,
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
    say(parts, format!("gate {name:?} {told}\n")).await;
    Err(Failure {
        name: "GateError",
        message: format!("pipeline.gate {name:?}: {told}"),
        detail: json!({ "reason": reason, "by": gate.by, "comment": gate.comment }),
    })
}

async fn say(parts: &Parts, text: String) {
    parts.attempt.log.append(SYSTEM, Bytes::from(text)).await;
}
