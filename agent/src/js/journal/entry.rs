//! Entries as JSON: results of calls, output, runs of timers and of readings of the clock.

use super::{Entry, Sink};
use crate::container::OutputStream;
use crate::js::host::{Answer, Failure, Printed, RunRequest, RunResult};
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
    let mut arguments = json!([
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
    // Not there without files: journals of earlier versions go on.
    if let (false, Some(list)) = (run.files.is_empty(), arguments.as_array_mut()) {
        let files = run.files.iter();
        let files: Vec<_> = files
            .map(|(path, file)| format!("{path} {file:?}"))
            .collect();
        list.push(json!(files));
    }
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
            Err(_) => binary(body, sink),
        } })
        }
        Err(failure) => json!({ "error": {
            "name": failure.name, "message": failure.message, "detail": failure.detail,
        } }),
    };
    told["label"] = json!(label);
    for data in ["/json", "/error/detail"] {
        if let Some(value) = told.pointer_mut(data) {
            redact_keys(value, sink);
        }
    }
    redact(&mut told, sink);
    told["at"] = json!(at_ms);
    Bytes::from(told.to_string())
}

/// Bytes that are no text.
fn binary(body: &Bytes, sink: &dyn Sink) -> Value {
    let encoded = STANDARD.encode(sink.redact_bytes(body));
    match sink.redact(&encoded) == encoded {
        true => json!({ "base64": encoded }),
        // Their encoding is a secret, and could not be read with a hole in it.
        false => json!({ "text": "***" }),
    }
}

/// Names of members that others than the host chose.
fn redact_keys(value: &mut Value, sink: &dyn Sink) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| redact_keys(item, sink)),
        Value::Object(members) => {
            for (key, mut item) in std::mem::take(members) {
                redact_keys(&mut item, sink);
                members.insert(sink.redact(&key), item);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
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

/// Adds to a journal's first entry when the job's program began (milliseconds since 1970).
pub(super) fn tell_began(first: &mut Entry, began_ms: u64) {
    // An entry is an object that was written here.
    if let Ok(mut told @ Value::Object(_)) = serde_json::from_slice(&first.data) {
        told["began"] = json!(began_ms);
        first.data = Bytes::from(told.to_string());
    }
}

/// When the job's program began, if this entry says it.
pub(super) fn began_ms(data: &Value) -> Option<u64> {
    data["began"].as_u64()
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

/// Where output belongs that came while the journal was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Before the end of this call.
    pub before: u32,
    /// It is the first of its call then: what a try before had printed there, which did not come to an end, counts no more.
    pub first: bool,
}

/// A piece of output; it has no secrets any more.
pub(super) fn write_output(printed: &Printed, place: Option<Place>, at_ms: u64) -> Bytes {
    let mut told = json!({
        "err": printed.stream == OutputStream::Stderr,
        "bytes": STANDARD.encode(&printed.bytes),
        "step": printed.step,
        "at": at_ms,
    });
    if let Some(place) = place {
        told["before"] = json!(place.before);
        told["first"] = json!(place.first);
    }
    Bytes::from(told.to_string())
}

pub(super) fn read_output(data: &Value) -> Option<(Printed, Option<Place>)> {
    let stream = match data["err"].as_bool()? {
        true => OutputStream::Stderr,
        false => OutputStream::Stdout,
    };
    let bytes = STANDARD.decode(data["bytes"].as_str()?).ok()?.into();
    let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
    let step = number(&data["step"]).unwrap_or_default();
    let place = number(&data["before"]).map(|before| Place {
        before,
        first: data["first"] == json!(true),
    });
    let printed = Printed {
        step,
        stream,
        bytes,
    };
    Some((printed, place))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::js::journal::Kept;
    use crate::log::redact::Redactor;
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    #[derive(Default)]
    struct Secrets(Redactor);

    impl Sink for Secrets {
        fn append(&self, _: Vec<Entry>) -> BoxFuture<'static, Kept> {
            async { Kept::Stored }.boxed()
        }
        fn redact(&self, text: &str) -> String {
            self.0.text(text)
        }
        fn redact_bytes(&self, bytes: &Bytes) -> Bytes {
            self.0.bytes(bytes)
        }
    }

    fn stored(ended: Ended, secrets: &[&str]) -> (Bytes, Ended) {
        let sink = Secrets::default();
        secrets.iter().for_each(|secret| sink.0.add(secret));
        let data = write_end(&ended, "fetch", 1, &sink);
        let read = read_end(&serde_json::from_slice(&data).unwrap()).unwrap();
        (data, read)
    }

    fn blob(body: &'static [u8]) -> Ended {
        Ok(Answer::Blob {
            head: json!({ "status": 200 }),
            body: Bytes::from_static(body),
        })
    }

    #[test]
    fn numbers_come_back_as_they_went() {
        let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            // xorshift64
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let number = f64::from_bits(bits);
            if number.is_finite() {
                let (_, read) = stored(Ok(Answer::Json(json!(number))), &[]);
                assert_eq!(read, Ok(Answer::Json(json!(number))), "{bits:x}");
            }
        }
    }

    #[test]
    fn a_body_that_is_no_text_is_stored_without_secrets() {
        let (_, read) = stored(blob(b"\xff a hunter2000 \x00"), &["hunter2000"]);
        assert_eq!(read, blob(b"\xff a *** \x00"));
        let (_, read) = stored(blob(b"\xff\x00\xff\x00"), &["hunter2000"]);
        assert_eq!(read, blob(b"\xff\x00\xff\x00"));
        // Its Base64 is the secret.
        let (data, read) = stored(blob(b"\xff\xfe\xfd\xfc\xfb\xfa"), &["//79/Pv6"]);
        assert!(!String::from_utf8_lossy(&data).contains("//79/Pv6"));
        assert_eq!(read, blob(b"***"));
    }

    #[test]
    fn names_of_members_are_stored_without_secrets() {
        let value = json!({ "a hunter2000": [{ "hunter2000": 1 }] });
        let (_, read) = stored(Ok(Answer::Json(value)), &["hunter2000"]);
        let shown = json!({ "a ***": [{ "***": 1 }] });
        assert_eq!(read, Ok(Answer::Json(shown)));
    }
}
