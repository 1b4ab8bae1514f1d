//! Between protocol messages and the model; everything an agent says is checked here.

use crate::model::assignment::Assignment;
use crate::model::receipt::{BodyPlace, Receipt, ReceivedFile};
use crate::model::run::{End, LogData, LogPiece, LogStream, Outcome, Reply, ReplyBy, TriggerKind};
use crate::model::transition::{Holder, Report};
use crate::model::version::Version;
use crate::model::{GateId, JobId, RunId, SessionId};
use crate::store::{Claimed, LogEnd};
use bytes::Bytes;
use pocketci_proto::agent as pb;
use pocketci_proto::api::{Driver, PipelineSettings, RunEventKind};
use pocketci_proto::{INLINE_BODY_BYTES, LOG_CHUNK_BYTES};
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::Status;

/// Longest text that an agent may store in one field (names, messages), in bytes; more is cut.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Largest payload of an event, in bytes of JSON.
const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Longest time that what a step left may be said to be kept: a year, in milliseconds.
const MAX_KEPT_MS: u64 = 365 * 24 * 3600 * 1000;

/// An attempt named by an agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ref {
    pub run_id: RunId,
    pub job_id: JobId,
    pub attempt: i32,
}

impl Ref {
    pub(super) fn holder(self, session_id: SessionId) -> Holder {
        Holder {
            attempt: self.attempt,
            session_id,
        }
    }

    pub(super) fn to_wire(self) -> pb::AttemptRef {
        pb::AttemptRef {
            run_id: self.run_id.to_vec().into(),
            job_id: self.job_id.to_vec().into(),
            attempt: u32::try_from(self.attempt).unwrap_or(0),
        }
    }
}

/// What is said about a message that breaks the protocol.
pub(super) fn broken(what: &str) -> Status {
    Status::invalid_argument(format!("protocol error: {what}"))
}

pub(super) fn attempt_ref(wire: Option<pb::AttemptRef>) -> Result<Ref, Status> {
    let wire = wire.ok_or_else(|| broken("attempt reference missing"))?;
    Ok(Ref {
        run_id: RunId::from_wire(&wire.run_id).map_err(|_| broken("run id"))?,
        job_id: JobId::from_wire(&wire.job_id).map_err(|_| broken("job id"))?,
        attempt: i32::try_from(wire.attempt).map_err(|_| broken("attempt"))?,
    })
}

pub(super) fn duration_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Cuts at a character border.
fn text(mut value: String) -> String {
    if value.len() > MAX_TEXT_BYTES {
        let end = value.floor_char_boundary(MAX_TEXT_BYTES);
        value.truncate(end);
        value.push('…');
    }
    // PostgreSQL's text cannot hold NUL.
    if value.contains('\0') {
        value = value.replace('\0', "\u{fffd}");
    }
    value
}

/// The reply of an agent's pipeline, checked as HTTP.
pub(super) fn reply(status: u32, headers: Vec<pb::Field>, body: Bytes) -> Result<Reply, Status> {
    let status = u16::try_from(status)
        .ok()
        .filter(|status| (200..=599).contains(status))
        .ok_or_else(|| broken("reply status"))?;
    let mut checked = Vec::with_capacity(headers.len());
    for field in headers {
        http::HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| broken("reply header name"))?;
        crate::model::run::header_value(&field.value)
            .ok_or_else(|| broken("reply header value"))?;
        checked.push((field.name, field.value));
    }
    Ok(Reply {
        by: ReplyBy::Pipeline,
        status,
        headers: checked,
        body,
    })
}

/// A fact about the run that the agent knows first.
fn noted_fact(noted: pb::Noted) -> Result<RunEventKind, Status> {
    use pb::noted::Kind;
    let gate = |id: &[u8]| GateId::from_wire(id).map_err(|_| broken("gate id"));
    Ok(
        match noted.kind.ok_or_else(|| broken("note without kind"))? {
            Kind::Emitted(emitted) => {
                if emitted.payload_json.len() > MAX_PAYLOAD_BYTES {
                    return Err(broken("payload of an event is too large"));
                }
                RunEventKind::Emitted {
                    name: text(emitted.name),
                    // The agent wrote it from a value; masking may have touched it.
                    payload: serde_json::from_str(&emitted.payload_json)
                        .unwrap_or_else(|_| text(emitted.payload_json).into()),
                }
            }
            Kind::GateOpened(opened) => RunEventKind::GateOpened {
                gate_id: gate(&opened.gate_id)?,
                name: text(opened.name),
                message: text(opened.message),
            },
            Kind::GateDecided(decided) => RunEventKind::GateDecided {
                gate_id: gate(&decided.gate_id)?,
                name: text(decided.name),
                status: text(decided.status),
                by: text(decided.by),
            },
        },
    )
}

pub(super) fn report(
    kind: Option<pb::report::Kind>,
    agent_name: &str,
    lease: Duration,
) -> Result<Report, Status> {
    use pb::report::Kind;
    Ok(match kind.ok_or_else(|| broken("report without kind"))? {
        Kind::Accepted(_) => Report::Accepted {
            agent_name: agent_name.to_owned(),
            lease,
        },
        Kind::Rejected(rejected) => Report::Rejected {
            reason: text(rejected.reason),
        },
        Kind::Respond(respond) => {
            Report::Respond(reply(respond.status, respond.headers, respond.body)?)
        }
        Kind::StepStarted(step) => Report::Step(RunEventKind::StepStarted {
            step: step_number(step.step)?,
            name: text(step.name),
            kind: text(step.kind),
            image: text(step.image),
        }),
        Kind::StepFinished(step) => Report::Step(RunEventKind::StepFinished {
            step: step_number(step.step)?,
            status: match step.status.as_str() {
                "complete" | "abort" | "error" => step.status,
                _ => return Err(broken("step status")),
            },
            exit_code: step.exit_code,
            message: text(step.message),
            kept_ms: step.kept_ms.min(MAX_KEPT_MS).try_into().unwrap_or_default(),
        }),
        Kind::Noted(noted) => Report::Step(noted_fact(noted)?),
        Kind::Finished(finished) => Report::Finished {
            end: End {
                outcome: Outcome::parse(&finished.outcome).ok_or_else(|| broken("outcome"))?,
                reason: text(finished.reason),
                actor: String::new(),
                message: text(finished.message),
            },
            final_log_seq: i64::try_from(finished.final_log_seq)
                .map_err(|_| broken("final log sequence"))?,
        },
    })
}

fn step_number(step: u32) -> Result<i32, Status> {
    i32::try_from(step).map_err(|_| broken("step number"))
}

/// Longest reason of a gap, in bytes.
const MAX_GAP_REASON_BYTES: usize = 32;

/// A chunk of output and its number; what is packed in it is tried, so that whoever reads it later can.
pub(super) fn log_piece(chunk: pb::LogChunk) -> Result<(i64, LogPiece), BrokenChunk> {
    use pb::log_chunk::Stream;
    let stream = match chunk.stream() {
        Stream::Stdout => LogStream::Stdout,
        Stream::Stderr => LogStream::Stderr,
        Stream::System => LogStream::System,
        Stream::Unspecified => return Err(BrokenChunk::Field("stream")),
    };
    let seq = i64::try_from(chunk.seq).ok().filter(|seq| *seq >= 1);
    let piece = LogPiece {
        step: i32::try_from(chunk.step).map_err(|_| BrokenChunk::Field("step"))?,
        stream,
        offset: i64::try_from(chunk.offset).map_err(|_| BrokenChunk::Field("offset"))?,
        data: log_data(chunk)?,
    };
    if piece.offset.checked_add(piece.size()).is_none() {
        return Err(BrokenChunk::Field("offset"));
    }
    Ok((seq.ok_or(BrokenChunk::Field("sequence"))?, piece))
}

fn log_data(chunk: pb::LogChunk) -> Result<LogData, BrokenChunk> {
    use pb::log_chunk::Encoding;
    let encoding = Encoding::try_from(chunk.encoding);
    if let Some(gap) = chunk.gap {
        let bytes = i64::try_from(gap.bytes).ok().filter(|bytes| *bytes >= 1);
        let told = (1..=MAX_GAP_REASON_BYTES).contains(&gap.reason.len())
            && gap
                .reason
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        return match bytes {
            Some(bytes) if told && chunk.data.is_empty() => Ok(LogData::Gap {
                bytes,
                reason: gap.reason,
            }),
            _ => Err(BrokenChunk::Field("gap")),
        };
    }
    if chunk.data.is_empty() || chunk.data.len() > LOG_CHUNK_BYTES {
        return Err(BrokenChunk::Field("length"));
    }
    match encoding {
        Ok(Encoding::Raw) if chunk.size == 0 || chunk.size as usize == chunk.data.len() => {
            Ok(LogData::Raw(chunk.data))
        }
        Ok(Encoding::Raw) => Err(BrokenChunk::Field("size")),
        Ok(Encoding::Zstd) => {
            pocketci_proto::log::unpack(&chunk.data, u64::from(chunk.size))?;
            Ok(LogData::Packed {
                frame: chunk.data,
                size: i64::from(chunk.size),
            })
        }
        Err(_) => Err(BrokenChunk::Field("encoding")),
    }
}

/// A chunk that sending again cannot mend.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenChunk {
    /// A field has a value that it cannot have.
    #[error("its {0} is not what it may be")]
    Field(&'static str),
    /// It is packed, and not as it says.
    #[error(transparent)]
    Packed(#[from] pocketci_proto::log::Unpack),
    /// Its offset is not where the stream of its step had ended.
    #[error("its offset is {found}, its step's stream had come to {expected}")]
    Offset {
        /// In the chunk.
        found: i64,
        /// End of what came before.
        expected: i64,
    },
}

pub(super) fn log_end(ends: LogEnd) -> pb::LogEnd {
    use pb::log_chunk::Stream;
    let stream = match ends.stream {
        LogStream::Stdout => Stream::Stdout,
        LogStream::Stderr => Stream::Stderr,
        LogStream::System => Stream::System,
    };
    pb::LogEnd {
        step: u32::try_from(ends.step).unwrap_or(0),
        stream: stream.into(),
        offset: u64::try_from(ends.end).unwrap_or(0),
    }
}

/// Tells an agent about its new job. `None` if the job has no lease (cannot be, as it was just claimed).
pub(super) fn assign(
    claimed: Claimed,
    accept_within: Duration,
    lease: Duration,
    reply_within: Duration,
) -> pb::ServerMessage {
    let Claimed {
        run,
        job,
        pipeline_name,
        settings,
        receipt,
        build,
    } = claimed;
    let attempt = Ref {
        run_id: run.id,
        job_id: job.id,
        attempt: job.attempt,
    };
    let reply_ms = if run.wants_reply && !run.replied {
        duration_ms(reply_within).max(1)
    } else {
        0
    };
    let assign = pb::Assign {
        r#ref: Some(attempt.to_wire()),
        accept_within_ms: duration_ms(accept_within),
        lease_ms: duration_ms(lease),
        reply_within_ms: reply_ms,
        revision_id: run.revision_id.to_vec().into(),
        pipeline_id: run.pipeline_id.to_string(),
        pipeline_name,
        job_name: job.name,
        driver: job.driver.map_or("", Driver::as_str).to_owned(),
        trigger: Some(pb::Trigger {
            kind: run.trigger.kind.as_str().to_owned(),
            args: run.trigger.args,
            jobs: run.trigger.jobs,
            webhook: match run.trigger.kind {
                TriggerKind::Webhook => receipt.map(webhook),
                TriggerKind::Manual
                | TriggerKind::Pipeline
                | TriggerKind::Version
                | TriggerKind::Schedule
                | TriggerKind::Check => None,
            },
        }),
        traceparent: String::new(),
        timeout_ms: timeout_ms(&settings, build.as_ref()),
        // The steps of a YAML plan are begun again with the job.
        durable: build.is_none() && settings.durable.unwrap_or(true),
        yaml: build.map(yaml_job),
    };
    pb::ServerMessage {
        kind: Some(pb::server_message::Kind::Assign(assign)),
    }
}

/// The shorter limit on one attempt, of the pipeline and of a one-off task; 0 if there is none.
fn timeout_ms(settings: &PipelineSettings, build: Option<&Assignment>) -> u64 {
    let one_off = build.and_then(|build| build.one_off.as_ref());
    let own = one_off.and_then(|one_off| one_off.timeout_seconds);
    let limits = [settings.timeout_seconds, own];
    let shortest = limits.into_iter().flatten().min();
    shortest.map_or(0, |seconds| seconds.saturating_mul(1000))
}

fn yaml_job(build: Assignment) -> pb::YamlJob {
    let json = |version: &Version| serde_json::json!(version).to_string();
    let inputs = build.inputs.iter();
    pb::YamlJob {
        inputs: inputs
            .map(|(name, resource, version)| pb::ChosenInput {
                name: name.clone(),
                resource: resource.clone(),
                version_json: json(version),
            })
            .collect(),
        build_number: build.number,
        build_env: build.env.into_iter().collect(),
        params: build.params.into_iter().collect(),
        instance_vars_json: String::new(),
        work: match (build.check, build.one_off) {
            (Some((resource, from)), _) => Some(pb::yaml_job::Work::Check(pb::CheckResource {
                resource,
                from_version_json: from.as_ref().map(json).unwrap_or_default(),
                resource_type: false,
            })),
            (None, Some(one_off)) => Some(pb::yaml_job::Work::OneOff(pb::OneOff {
                config_json: one_off.config,
                uploads: one_off.uploads,
                outputs: one_off.outputs,
                privileged: one_off.privileged,
                name: one_off.name,
            })),
            (None, None) => None,
        },
    }
}

fn webhook(receipt: Receipt) -> pb::WebhookRequest {
    let body_bytes = u64::try_from(receipt.body_bytes).unwrap_or_default();
    let body_follows = receipt.body.len() > INLINE_BODY_BYTES
        || receipt.body_place.pages().is_some()
        || (receipt.body_place == BodyPlace::None && body_bytes > 0);
    let query = receipt.query();
    let repeated_headers = repeated(&receipt.headers);
    let field = |(name, value)| pb::Field { name, value };
    pb::WebhookRequest {
        provider: receipt.provider,
        event_type: receipt.event_type,
        method: receipt.method,
        headers: fields(join_headers(receipt.headers)),
        query: fields(query),
        url: receipt.url,
        body_bytes,
        body: if body_follows {
            Bytes::new()
        } else {
            receipt.body
        },
        body_follows,
        repeated_headers,
        delivery_id: receipt.delivery_id.unwrap_or_default(),
        attempt: receipt.attempt.and_then(|n| n.try_into().ok()).unwrap_or(0),
        verified: receipt.verified,
        secret_id: receipt.secret_id.unwrap_or_default(),
        event_key: receipt.event_key.unwrap_or_default(),
        remote_addr: receipt.remote_addr,
        received_at_unix_ms: u64::try_from(receipt.received_at.unix_timestamp_nanos() / 1_000_000)
            .unwrap_or_default(),
        body_sha256: receipt.body_sha256.to_vec().into(),
        form: receipt.form.into_iter().map(field).collect(),
        files: receipt.files.into_iter().map(webhook_file).collect(),
    }
}

fn webhook_file(file: ReceivedFile) -> pb::WebhookFile {
    pb::WebhookFile {
        index: file.index,
        name: file.name,
        filename: file.filename,
        content_type: file.content_type,
        size: file.size,
        sha256: file.sha256,
    }
}

/// A header's value as text. Values are bytes; latin-1 keeps each of them.
fn header_text(value: Vec<u8>) -> String {
    match String::from_utf8(value) {
        Ok(text) => text,
        Err(bytes) => bytes.as_bytes().iter().copied().map(char::from).collect(),
    }
}

/// All lines of the names that came more than once, in order.
fn repeated(lines: &[(String, Vec<u8>)]) -> Vec<pb::Field> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in lines {
        *times.entry(name).or_default() += 1;
    }
    let several = lines.iter().filter(|(name, _)| times[name.as_str()] > 1);
    several
        .map(|(name, value)| pb::Field {
            name: name.clone(),
            value: header_text(value.clone()),
        })
        .collect()
}

/// One entry a name; repeated lines are joined as RFC 9110 section 5.3 allows.
fn join_headers(lines: Vec<(String, Vec<u8>)>) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in lines {
        let value = header_text(value);
        joined
            .entry(name)
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert(value);
    }
    joined
}

fn fields(map: BTreeMap<String, String>) -> Vec<pb::Field> {
    map.into_iter()
        .map(|(name, value)| pb::Field { name, value })
        .collect()
}
