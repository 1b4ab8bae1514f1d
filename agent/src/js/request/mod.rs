//! What a pipeline asks of the host beside steps: read from JSON, checked, typed.
//!
//! The prelude turns its arguments into JSON text (never into host objects), so everything a program can say passes
//! through [`Request::parse`]: it answers any text with a request or with a sentence, and never panics.

mod outside;
mod time;

pub use outside::{Backend, Fetch, Notify, NotifyContext, Redirect, SendWebhook};
pub use time::Time;

use super::host::RunRequest;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest name of a volume, gate, event or storage key, in bytes.
const MAX_NAME_BYTES: usize = 512;
/// Most tries after the first one of an outgoing webhook.
const MAX_RETRIES: u32 = 10;
/// Largest payload of an event, in bytes of JSON; the server takes no larger one.
const MAX_PAYLOAD_BYTES: usize = 256 * 1024;
/// Longest message of a gate, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// How long a gate stays open unless said otherwise.
const GATE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// A request of the pipeline's.
pub enum Request {
    /// Starts a container that stays; answers with its id.
    StartSandbox(RunRequest),
    /// Runs a command in a sandbox.
    Exec {
        /// From [`Request::StartSandbox`].
        sandbox: String,
        /// The container's own fields are ignored.
        run: RunRequest,
    },
    /// Removes a sandbox.
    CloseSandbox {
        /// From [`Request::StartSandbox`].
        sandbox: String,
    },
    /// Creates or finds a volume of this run; answers `{name, path}`.
    CreateVolume {
        /// `None` gives it a name.
        name: Option<String>,
    },
    /// Reads files of a volume as text.
    ReadFiles {
        /// Its name.
        volume: String,
        /// Relative to its root.
        paths: Vec<String>,
    },
    /// An HTTP request.
    Fetch(Fetch),
    /// A signed call of another system's webhook.
    SendWebhook(SendWebhook),
    /// An event of the run.
    EmitEvent {
        /// Its name.
        name: String,
        /// JSON text.
        payload: String,
    },
    /// A message to people.
    Notify(Box<Notify>),
    /// The pipeline's own storage.
    Storage(Storage),
    /// Whether this key was seen before; answers a boolean.
    Dedup {
        /// The value of the expression.
        key: String,
    },
    /// Waits for an approval.
    Gate {
        /// Its name.
        name: String,
        /// For those who decide.
        message: String,
        /// How long it stays open.
        timeout: Duration,
    },
    /// Starts a run of another pipeline.
    Trigger {
        /// Its name.
        pipeline: String,
        /// Jobs asked for.
        jobs: Vec<String>,
        /// Arguments.
        args: Vec<String>,
    },
}

/// The pipeline's own storage.
#[derive(Debug, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase")]
pub enum Storage {
    /// Answers the value or null.
    Get {
        /// Which.
        key: String,
    },
    /// JSON merge patch.
    Set {
        /// Which.
        key: String,
        /// The patch.
        value: serde_json::Value,
    },
    /// Replaces.
    Put {
        /// Which.
        key: String,
        /// The value.
        value: serde_json::Value,
    },
    /// Answers whether there was one.
    Delete {
        /// Which.
        key: String,
    },
    /// Answers keys in order.
    List {
        /// What they begin with.
        prefix: String,
    },
    /// Answers `{path, payload}` in the order of keys.
    GetAll {
        /// What keys begin with.
        prefix: String,
        /// Members to keep; all if empty.
        fields: Vec<String>,
    },
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Files {
    volume: String,
    paths: Vec<String>,
}

#[derive(Deserialize)]
struct Sandboxed {
    sandbox: String,
}

#[derive(Deserialize)]
struct Gated {
    name: String,
    message: Option<String>,
    timeout: Option<Time>,
}

#[derive(Deserialize)]
struct Triggered {
    name: String,
    jobs: Option<Vec<String>>,
    args: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Emitted {
    name: String,
    payload: String,
}

impl Request {
    /// Reads the argument of `op`; an `Err` says what is wrong with it.
    pub fn parse(op: &str, json: &str, body: Option<Bytes>) -> Result<Self, String> {
        match op {
            "createVolume" => {
                let Named { name } = read(json)?;
                let name = name.filter(|name| !name.is_empty());
                name.as_deref().map_or(Ok(()), check_volume)?;
                Ok(Self::CreateVolume { name })
            }
            "readFiles" => {
                let Files { volume, paths } = read(json)?;
                check_volume(&volume)?;
                Ok(Self::ReadFiles { volume, paths })
            }
            "closeSandbox" => {
                let Sandboxed { sandbox } = read(json)?;
                Ok(Self::CloseSandbox { sandbox })
            }
            "fetch" => Ok(Self::Fetch(Fetch {
                body,
                ..read(json)?
            })),
            "sendWebhook" => {
                let send: SendWebhook = read(json)?;
                if send.retries > MAX_RETRIES {
                    return Err(format!("retries must be at most {MAX_RETRIES}"));
                }
                let body = body.unwrap_or_default();
                Ok(Self::SendWebhook(SendWebhook { body, ..send }))
            }
            "emitEvent" => {
                let Emitted { name, payload } = read(json)?;
                check_name("the event's name", &name)?;
                if payload.len() > MAX_PAYLOAD_BYTES {
                    return Err(format!(
                        "the payload has {} bytes of JSON, more than {MAX_PAYLOAD_BYTES}",
                        payload.len()
                    ));
                }
                Ok(Self::EmitEvent { name, payload })
            }
            "notify" => Ok(Self::Notify(Box::new(read(json)?))),
            "storage" => {
                let storage: Storage = read(json)?;
                if let Storage::Get { key }
                | Storage::Set { key, .. }
                | Storage::Put { key, .. }
                | Storage::Delete { key } = &storage
                {
                    check_name("the key", key)?;
                }
                Ok(Self::Storage(storage))
            }
            "gate" => {
                let Gated {
                    name,
                    message,
                    timeout,
                } = read(json)?;
                check_name("the gate's name", &name)?;
                if message
                    .as_ref()
                    .is_some_and(|message| message.len() > MAX_MESSAGE_BYTES)
                {
                    return Err(format!(
                        "the message has more than {MAX_MESSAGE_BYTES} bytes"
                    ));
                }
                Ok(Self::Gate {
                    name,
                    message: message.unwrap_or_default(),
                    timeout: timeout.map_or(GATE_TIMEOUT, |Time(timeout)| timeout),
                })
            }
            "trigger" => {
                let Triggered { name, jobs, args } = read(json)?;
                check_name("the pipeline's name", &name)?;
                Ok(Self::Trigger {
                    pipeline: name,
                    jobs: jobs.unwrap_or_default(),
                    args: args.unwrap_or_default(),
                })
            }
            _ => Err(format!("{op:?} is not known to this agent")),
        }
    }
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner().to_string();
        // Line and column are the prelude's JSON, which the author never sees.
        let said = inner.split(" at line ").next().unwrap_or(&inner).to_owned();
        match path.as_str() {
            "." | "?" => said,
            _ => format!("{path}: {said}"),
        }
    })
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        return Err(format!(
            "{what} must be a text of 1 to {MAX_NAME_BYTES} bytes without control characters"
        ));
    }
    Ok(())
}

/// Names that are a directory on one driver and an engine's volume on the other.
fn check_volume(name: &str) -> Result<(), String> {
    let sane = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !sane {
        return Err(format!(
            "{name:?} cannot be the name of a volume: use 1 to 64 letters, digits, '-', '_' and '.', beginning with a letter or digit"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_argument_is_told_with_its_place() {
        let told = |op, json| Request::parse(op, json, None).err().unwrap_or_default();
        assert!(told("gate", r#"{"name":1}"#).starts_with("name: invalid type: integer"));
        assert!(told("gate", r#"{"name":"x","timeout":"soon"}"#).contains("timeout"));
        assert!(told("createVolume", r#"{"name":"../x"}"#).contains("cannot be the name"));
        assert!(told("storage", r#"{"verb":"get","key":""}"#).contains("the key"));
        assert!(told("nothing", "{}").contains("not known"));
        assert!(told("fetch", "[").contains("EOF"));
    }

    #[test]
    fn times_are_texts_or_milliseconds() {
        let timeout = |json: &str| match Request::parse("gate", json, None) {
            Ok(Request::Gate { timeout, .. }) => timeout.as_millis(),
            _ => 0,
        };
        assert_eq!(timeout(r#"{"name":"x","timeout":"2h"}"#), 7_200_000);
        assert_eq!(timeout(r#"{"name":"x","timeout":1500}"#), 1500);
        assert_eq!(timeout(r#"{"name":"x"}"#), 86_400_000);
    }
}
