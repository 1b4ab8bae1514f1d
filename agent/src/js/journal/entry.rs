//! Entries as JSON: results of calls, output, runs of timers and of readings of the clock.

use super::{Entry, Sink};
use crate::container::OutputStream;
use crate::js::host::{Answer, Failure, RunRequest, RunResult};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The end of a call.
pub(super) const DONE: &str = "done";
/// The answer to a call for which the program waited on the spot.
pub(super) const NOW: &str = "now";
/// A piece of a step's output for `onOutput`.
pub(super) const OUTPUT: &str = "output";
/// Timers that fired, one after the other.
pub(super) const TIMERS: &str = "timers";
/// Readings of the clock.
pub(super) const CLOCK: &str = "clock";
/// The seed of all randomness.
pub(super) const SEED: &str = "seed";

/// Names of errors and states of steps that the host gives; what is written is one of these.
const WORDS: [&str; 9] = [
    "Error",
    "TypeError",
    "TimeoutError",
    "GateError",
    "WebhookError",
    "AbortError",
    "NotifyError",
    "complete",
    "abort",
];

fn word(text: &str) -> &'static str {
    let known = WORDS.iter().find(|known| **known == text);
    known.copied().unwrap_or("Error")
}

/// Identifies what a call asks for.
pub(in crate::js) fn content_hash(kind: &str, arguments: &[u8], body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [kind.as_bytes(), arguments, body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The same for a step or sandbox.
pub(in crate::js) fn run_hash(kind: &str, sandbox: &str, run: &RunRequest) -> [u8; 32] {
    let login = run.registry_auth.as_ref();
    let arguments = json!([
        sandbox,
        run.name,
        run.image,
        run.path,
        run.args,
        run.user,
        run.env,
        run.work_dir,
        run.cpu_shares,
        run.memory_bytes,
        run.privileged,
        run.timeout.map(|timeout| timeout.as_nanos().to_string()),
        run.mounts,
        format!("{:?}", run.pull),
        login.map(|login| [&login.username, &login.password, &login.registry]),
        run.no_network,
        run.retries,
        run.stdin.is_some(),
        run.output.is_some(),
    ]);
    let stdin = run.stdin.clone().unwrap_or_default();
    content_hash(kind, arguments.to_string().as_bytes(), &stdin)
}

/// How a call ended.
pub(in crate::js) type Ended = Result<Answer, Failure>;

/// A call's end without secrets, and when (milliseconds since 1970).
pub(super) fn write_end(ended: &Ended, label: &str, at_ms: u64, sink: &dyn Sink) -> Bytes {
    let mut told = match ended {
        Ok(Answer::Nothing) => json!({}),
        Ok(Answer::Json(value)) => json!({ "json": value }),
        Ok(Answer::Run(run)) => json!({ "run": {
            "code": run.code, "stdout": run.stdout, "stderr": run.stderr, "status": run.status,
            "startedAt": run.started_at, "endedAt": run.ended_at, "durationMs": run.duration_ms,
            "attempts": run.attempts, "step": run.step,
        } }),
        Ok(Answer::Blob { head, body }) => {
            json!({ "blob": head, "body": match std::str::from_utf8(body) {
            Ok(text) => json!({ "text": text }),
            Err(_) => json!({ "base64": STANDARD.encode(body) }),
        } })
        }
        Err(failure) => json!({ "error": {
            "name": failure.name, "message": failure.message, "detail": failure.detail,
        } }),
    };
    told["label"] = json!(label);
    redact(&mut told, sink);
    told["at"] = json!(at_ms);
    Bytes::from(told.to_string())
}

fn redact(value: &mut Value, sink: &dyn Sink) {
    match value {
        Value::String(text) => *text = sink.redact(text),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, sink)),
        Value::Object(members) => members.values_mut().for_each(|item| redact(item, sink)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// When something entered the program; 0 if that is not said.
pub(super) fn at_ms(data: &Value) -> u64 {
    data["at"].as_u64().unwrap_or_default()
}

/// What the call was, for people.
pub(super) fn label(data: &Value) -> String {
    data["label"].as_str().unwrap_or("a call").to_owned()
}

/// The end again; `None` if the text is none of ours.
pub(super) fn read_end(data: &Value) -> Option<Ended> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(error) = data.get("error") {
        return Some(Err(Failure {
            name: word(error["name"].as_str()?),
            message: text(&error["message"])?,
            detail: error["detail"].clone(),
        }));
    }
    if let Some(run) = data.get("run") {
        return Some(Ok(Answer::Run(RunResult {
            code: i32::try_from(run["code"].as_i64()?).ok()?,
            stdout: text(&run["stdout"])?,
            stderr: text(&run["stderr"])?,
            status: word(run["status"].as_str()?),
            started_at: text(&run["startedAt"])?,
            ended_at: text(&run["endedAt"])?,
            duration_ms: run["durationMs"].as_u64()?,
            attempts: u32::try_from(run["attempts"].as_u64()?).ok()?,
            step: u32::try_from(run["step"].as_u64()?).ok()?,
        })));
    }
    if let Some(head) = data.get("blob") {
        let body = match (&data["body"]["text"], &data["body"]["base64"]) {
            (Value::String(text), _) => Bytes::from(text.clone()),
            (_, Value::String(text)) => STANDARD.decode(text).ok()?.into(),
            _ => return None,
        };
        let head = head.clone();
        return Some(Ok(Answer::Blob { head, body }));
    }
    match data.get("json") {
        Some(value) => Some(Ok(Answer::Json(value.clone()))),
        None => Some(Ok(Answer::Nothing)),
    }
}

/// A piece of output; it has no secrets any more.
pub(super) fn write_output(stream: OutputStream, bytes: &[u8], at_ms: u64) -> Bytes {
    let stream = matches!(stream, OutputStream::Stderr);
    Bytes::from(json!({ "err": stream, "bytes": STANDARD.encode(bytes), "at": at_ms }).to_string())
}

pub(super) fn read_output(data: &Value) -> Option<(OutputStream, Bytes)> {
    let stream = match data["err"].as_bool()? {
        true => OutputStream::Stderr,
        false => OutputStream::Stdout,
    };
    let bytes = STANDARD.decode(data["bytes"].as_str()?).ok()?;
    Some((stream, bytes.into()))
}

/// An entry without a call.
pub(super) fn plain(kind: &str, data: &Value) -> Entry {
    Entry {
        kind: kind.to_owned(),
        data: Bytes::from(data.to_string()),
        ..Entry::default()
    }
}

/// Adds one to the last run of equal values, or begins a new one.
pub(super) fn count(runs: &mut Vec<(u64, u64)>, value: u64) {
    match runs.last_mut() {
        Some((last, count)) if *last == value => *count += 1,
        _ => runs.push((value, 1)),
    }
}

/// Runs of equal values, as `[[value, how many], …]`.
pub(super) fn read_runs(data: &Value) -> Option<Vec<(u64, u64)>> {
    serde_json::from_value(data["runs"].clone()).ok()
}
