//! The protocol of resource scripts: `/opt/resource/check`, `in` and `out` of an image (reference: yaml.md A3).
//!
//! A request is JSON on stdin with exactly the keys that are known (some scripts refuse others), the answer is JSON on
//! stdout, stderr is the log. stdout is never shown: scripts put what is secret there.

use super::{Fetched, StepIo, Stop, Version};
use crate::container::{Driver, Mount, Output, OutputStream, StepExit, StepSpec};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Largest answer of a script; thousands of versions fit.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Pieces of output between the driver and this.
const OUTPUT_PIECES: usize = 16;

/// Where `in` writes.
pub(super) const GET_DIR: &str = "/tmp/build/get";
/// Below which `out` finds artifacts.
pub(super) const PUT_DIR: &str = "/tmp/build/put";

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Check,
    In,
    Out,
}

/// One run of one script.
pub(super) struct Script<'a> {
    pub(super) action: Action,
    pub(super) image: &'a str,
    pub(super) privileged: bool,
    /// The resource's name, for the container's.
    pub(super) name: &'a str,
    pub(super) env: BTreeMap<String, String>,
    pub(super) mounts: Vec<Mount>,
    pub(super) labels: BTreeMap<String, String>,
}

impl Action {
    fn path(self) -> &'static str {
        match self {
            Self::Check => "/opt/resource/check",
            Self::In => "/opt/resource/in",
            Self::Out => "/opt/resource/out",
        }
    }

    fn args(self) -> Vec<String> {
        let dir = match self {
            Self::Check => return Vec::new(),
            Self::In => GET_DIR,
            Self::Out => PUT_DIR,
        };
        vec![dir.to_owned()]
    }
}

/// The request: no key that has nothing to say.
pub(super) fn request(
    source: &Map<String, Value>,
    version: Option<&Version>,
    params: Option<&Value>,
) -> Value {
    let mut request = Map::new();
    request.insert("source".to_owned(), Value::Object(source.clone()));
    if let Some(version) = version {
        request.insert("version".to_owned(), json!(version));
    }
    if let Some(params) = params.filter(|params| is_given(params)) {
        request.insert("params".to_owned(), params.clone());
    }
    Value::Object(request)
}

fn is_given(params: &Value) -> bool {
    match params {
        Value::Null => false,
        Value::Object(params) => !params.is_empty(),
        _ => true,
    }
}

/// Runs a script; answers its stdout.
pub(super) async fn run(
    driver: &dyn Driver,
    script: Script<'_>,
    request: &Value,
    io: &StepIo,
) -> Result<Vec<u8>, Stop> {
    let path = script.action.path();
    let spec = StepSpec {
        name: script.name.to_owned(),
        image: script.image.to_owned(),
        path: path.to_owned(),
        args: script.action.args(),
        env: script.env,
        // With a line end: a script may read a line.
        stdin: Some(Bytes::from(format!("{request}\n"))),
        privileged: script.privileged,
        mounts: script.mounts,
        labels: script.labels,
        host_certificates: true,
        ..StepSpec::default()
    };
    let (sender, pieces) = mpsc::channel(OUTPUT_PIECES);
    let stop = io.stop.child_token();
    let running = driver.run(spec, sender, stop.clone());
    let reading = async {
        let answer = read(pieces, &io.output).await;
        if answer.is_none() {
            stop.cancel();
        }
        answer
    };
    let (exit, answer) = tokio::join!(running, reading);
    let too_long = || {
        let limit = MAX_ANSWER_BYTES >> 20;
        Stop::Errored(format!(
            "{path} wrote more than {limit} MiB to stdout, which is for its answer alone; logs belong on stderr"
        ))
    };
    match exit {
        Err(error) => Err(Stop::errored(&error)),
        Ok(StepExit::Stopped) if io.stop.is_cancelled() => Err(Stop::Stopped),
        Ok(_) if answer.is_none() => Err(too_long()),
        Ok(StepExit::Stopped) => Err(Stop::Stopped),
        Ok(StepExit::Exited { code: 0, .. }) => answer.ok_or_else(too_long),
        Ok(StepExit::Exited { code, oom }) => {
            if oom {
                io.say(&format!(
                    "{path} was killed because it used more memory than there is\n"
                ))
                .await;
            }
            Err(Stop::Failed { exit_code: code })
        }
    }
}

/// Passes stderr on and gathers stdout. `None`, at once, if that is too long: what comes after is not read, which the
/// driver takes for nobody being there.
async fn read(mut pieces: mpsc::Receiver<Output>, to: &mpsc::Sender<Output>) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    while let Some((stream, bytes)) = pieces.recv().await {
        match stream {
            // Nobody wants it: the script still has its result.
            OutputStream::Stderr => drop(to.send((stream, bytes)).await),
            OutputStream::Stdout => {
                if answer.len() + bytes.len() > MAX_ANSWER_BYTES {
                    return None;
                }
                answer.extend_from_slice(&bytes);
            }
        }
    }
    Some(answer)
}

fn parse(action: Action, answer: &[u8]) -> Result<Value, Stop> {
    serde_json::from_slice(answer).map_err(|error| {
        // Without the text itself: it may be secret.
        Stop::Errored(format!(
            "{} did not write JSON to stdout (line {}, column {}); logs belong on stderr",
            action.path(),
            error.line(),
            error.column()
        ))
    })
}

/// The versions that `check` answered; nothing at all is none.
pub(super) fn versions(answer: &[u8]) -> Result<Vec<Version>, Stop> {
    if answer.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    match parse(Action::Check, answer)? {
        Value::Null => Ok(Vec::new()),
        Value::Array(found) => found
            .iter()
            .map(|found| version(Action::Check, found))
            .collect(),
        _ => Err(Stop::Errored(format!(
            "{} must write a list of versions to stdout",
            Action::Check.path()
        ))),
    }
}

fn version(action: Action, found: &Value) -> Result<Version, Stop> {
    let wrong = || {
        Stop::Errored(format!(
            "{} wrote a version that is none: expected an object of at least one key with texts as values",
            action.path()
        ))
    };
    let found = found.as_object().ok_or_else(wrong)?;
    let version: Option<Version> = found
        .iter()
        .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    version
        .filter(|version| !version.is_empty())
        .ok_or_else(wrong)
}

/// What `in` or `out` answered.
pub(super) fn fetched(action: Action, answer: &[u8]) -> Result<Fetched, Stop> {
    let answer = parse(action, answer)?;
    let found = match answer.get("version") {
        None | Some(Value::Null) => {
            return Err(Stop::Errored(format!(
                "{} did not tell the version: \"version\" is missing on stdout",
                action.path()
            )));
        }
        Some(found) => version(action, found)?,
    };
    let metadata = match answer.get("metadata") {
        None | Some(Value::Null) => Vec::new(),
        Some(found) => metadata(found).ok_or_else(|| {
            Stop::Errored(format!(
                "{} wrote metadata that is none: expected a list of {{\"name\": …, \"value\": …}}",
                action.path()
            ))
        })?,
    };
    Ok(Fetched {
        version: found,
        metadata,
    })
}

fn metadata(found: &Value) -> Option<Vec<(String, String)>> {
    let text = |field: Option<&Value>| match field {
        None | Some(Value::Null) => Some(String::new()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => Some(value.to_string()),
        Some(_) => None,
    };
    let fields = found.as_array()?.iter();
    fields
        .map(|field| Some((text(field.get("name"))?, text(field.get("value"))?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errored<T: std::fmt::Debug>(result: Result<T, Stop>) -> String {
        match result {
            Err(Stop::Errored(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_has_no_key_with_nothing_to_say() {
        let source = Map::from_iter([("a".to_owned(), json!(1))]);
        let version = Version::from([("ref".to_owned(), "1".to_owned())]);
        assert_eq!(
            request(&source, None, None).to_string(),
            r#"{"source":{"a":1}}"#
        );
        assert_eq!(
            request(&source, Some(&version), Some(&json!({}))),
            json!({"source": {"a": 1}, "version": {"ref": "1"}})
        );
        assert_eq!(
            request(&Map::new(), None, Some(&json!({"p": [1]}))),
            json!({"source": {}, "params": {"p": [1]}})
        );
    }

    #[test]
    fn versions_are_objects_of_texts_and_an_empty_answer_is_none() {
        let found = versions(br#"[{"ref":"1"},{"ref":"2","branch":"b"}]"#).unwrap();
        assert_eq!(found.len(), 2);
        for none in ["", " \n", "[]", "null"] {
            assert_eq!(versions(none.as_bytes()).unwrap(), []);
        }
        for wrong in [
            r#"[{"ref":1}]"#,
            "[{}]",
            "[1]",
            "{}",
            "7",
            r#"[{"ref":null}]"#,
        ] {
            errored(versions(wrong.as_bytes()));
        }
    }

    #[test]
    fn what_a_script_wrote_is_not_repeated() {
        let said = errored(versions(b"hunter2 is no JSON"));
        assert!(
            !said.contains("hunter2") && said.contains("line 1"),
            "{said}"
        );
        let said = errored(versions(br#"[{"password":["hunter2"]}]"#));
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn a_missing_version_is_an_error_and_missing_metadata_is_none() {
        for wrong in [
            "{}",
            r#"{"version":null}"#,
            r#"{"version":{}}"#,
            "",
            r#"{"version":{"a":"b"},"metadata":{}}"#,
        ] {
            errored(fetched(Action::In, wrong.as_bytes()));
        }
        let found = fetched(
            Action::Out,
            br#"{"version":{"a":"b"},"metadata":[{"name":"n","value":"v"},{"name":"n","value":7}]}"#,
        );
        let pairs = [("n", "v"), ("n", "7")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(found.unwrap().metadata, pairs);
        assert_eq!(
            fetched(Action::In, br#"{"version":{"a":"b"}}"#)
                .unwrap()
                .metadata,
            []
        );
    }
}
