//! What running jobs ask: secrets, storage, keys seen, approvals, other pipelines.
//!
//! Every call is checked against the store: the session must hold the attempt, so an agent that lost a job can neither
//! read its pipeline's secrets nor write its values. What a call changes is changed once, however often it is sent.

use super::builds::Build;
use super::convert::{Ref, attempt_ref, broken};
use super::{Link, journal, sends, store_status};
use crate::model::derived;
use crate::model::gate::{Decision, Gate, GateStatus, NewGate};
use crate::model::run::{Trigger, TriggerKind};
use crate::model::{GateId, PipelineId, RunId};
use crate::runs::dispatch::SessionEntry;
use crate::runs::{MAX_TRIES, NotStarted, StartRun};
use crate::store::{MAX_VALUE_BYTES, MAX_VALUES, Sighting, StoreError, Write, Written};
use pb::call_reply::Kind as Reply;
use pb::call_request::Kind as Ask;
use pocketci_pipeline::merge_patch::pick;
use pocketci_proto::agent as pb;
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use tonic::Status;

/// Most secrets in one call.
const MAX_SECRETS: usize = 1_000;
/// Longest name, key or message in a call, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Most keys or values in one answer.
const MAX_LISTED: i64 = 1_000;
/// Bytes of values in one answer; more are left out, and the call says so.
const MAX_LISTED_BYTES: usize = 3 << 20;
/// How long a key that was seen is remembered.
const SEEN_FOR: Duration = Duration::from_secs(7 * 86_400);
/// Longest time that a gate may stay open.
const MAX_GATE_TIMEOUT: Duration = Duration::from_secs(90 * 86_400);
/// How often a waiting call looks at its gate.
const GATE_LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest wait of one call.
const MAX_GATE_WAIT: Duration = Duration::from_secs(60);

/// Answers one call.
pub(super) async fn answer(
    link: &Link,
    entry: &SessionEntry,
    request: pb::CallRequest,
) -> Result<pb::CallReply, Status> {
    let attempt = attempt_ref(request.r#ref)?;
    let ask = request.kind.ok_or_else(|| broken("call without kind"))?;
    let session_id = entry.session_id;
    // The journal's verbs are fenced themselves.
    let ask = match ask {
        Ask::AppendJournal(ask) => {
            return reply(journal::append(link, attempt, session_id, ask).await?);
        }
        Ask::ReadJournal(ask) => {
            return reply(journal::read(link, attempt, session_id, &ask).await?);
        }
        Ask::ClearJournal(_) => return reply(journal::clear(link, attempt, session_id).await?),
        other => other,
    };
    let held = link
        .runs()
        .store()
        .held_run(attempt.job_id, attempt.attempt, entry.session_id)
        .await
        .map_err(|error| store_status(&error))?;
    let (run_id, pipeline_id) = held
        .filter(|(run_id, _)| *run_id == attempt.run_id)
        .ok_or_else(|| Status::failed_precondition("this attempt is not (or no longer) yours"))?;
    let job = Job {
        link,
        attempt,
        run_id,
        pipeline_id,
    };
    let build = Build { link, attempt };
    reply(match ask {
        Ask::Secrets(ask) => job.secrets(&ask.names).await?,
        Ask::Storage(ask) => job.storage(ask).await?,
        Ask::Dedup(ask) => job.dedup(&ask).await?,
        Ask::OpenGate(ask) => job.open_gate(ask).await?,
        Ask::AwaitGate(ask) => job.await_gate(&ask).await?,
        Ask::Trigger(ask) => job.trigger(ask).await?,
        Ask::SaveOutput(ask) => build.save_output(ask).await?,
        Ask::SaveInputMetadata(ask) => build.save_metadata(ask).await?,
        Ask::SaveVersions(ask) => build.save_versions(ask).await?,
        Ask::SetPipeline(ask) => build.set_pipeline(ask).await?,
        Ask::NoteSend(ask) => {
            let noted = sends::noted(ask, entry, &job.attempt, job.pipeline_id)?;
            let store = link.runs().store();
            store.record_send(noted).await.map_err(failed)?;
            Reply::Saved(pb::Saved {})
        }
        Ask::AppendJournal(_) | Ask::ReadJournal(_) | Ask::ClearJournal(_) => {
            return Err(broken("call without kind"));
        }
    })
}

fn reply(kind: Reply) -> Result<pb::CallReply, Status> {
    Ok(pb::CallReply { kind: Some(kind) })
}

/// The job that asks.
struct Job<'a> {
    link: &'a Link,
    attempt: Ref,
    run_id: RunId,
    pipeline_id: PipelineId,
}

fn failed(error: StoreError) -> Status {
    store_status(&error)
}

/// Texts that both stores can hold.
fn check(what: &str, text: &str) -> Result<(), Status> {
    if text.len() > MAX_TEXT_BYTES || text.contains('\0') {
        return Err(Status::invalid_argument(format!(
            "{what} must have at most {MAX_TEXT_BYTES} bytes and no NUL character"
        )));
    }
    Ok(())
}

impl Job<'_> {
    async fn secrets(&self, names: &[String]) -> Result<Reply, Status> {
        if names.len() > MAX_SECRETS {
            return Err(broken("too many secrets in one call"));
        }
        for name in names {
            check("a secret's name", name)?;
        }
        let opened = self.link.runs().open_secrets(self.pipeline_id, names).await;
        let opened = opened.map_err(failed)?;
        if !opened.is_empty() && self.is_anonymous().await? {
            let named: Vec<&str> = opened.keys().map(String::as_str).collect();
            return Err(Status::permission_denied(format!(
                "the run was started by an unverified webhook, so it gets no secrets (it asked for {}): give the pipeline a \
                 webhook secret that its sender signs with, or lend such runs its rights with webhook.run_as = \"pipeline\"",
                named.join(", ")
            )));
        }
        let values = opened.into_iter().collect();
        Ok(Reply::Secrets(pb::ResolvedSecrets { values }))
    }

    /// Whether the run has no rights.
    async fn is_anonymous(&self) -> Result<bool, Status> {
        let trigger = self.link.runs().store().trigger(self.run_id).await;
        // A run that is gone has none.
        Ok(trigger
            .map_err(failed)?
            .is_none_or(|trigger| trigger.anonymous))
    }

    async fn storage(&self, ask: pb::StorageCall) -> Result<Reply, Status> {
        let (store, id, key) = (self.link.runs().store(), self.pipeline_id, ask.key.as_str());
        check("the key", key)?;
        let given = || -> Result<Value, Status> {
            if ask.value_json.len() > MAX_VALUE_BYTES {
                return Err(too_large());
            }
            // PostgreSQL's text cannot hold NUL; JSON can, escaped.
            serde_json::from_str(&ask.value_json).map_err(|_| broken("value is no JSON"))
        };
        let answer = match ask.verb.as_str() {
            "get" => store
                .value(id, key)
                .await
                .map_err(failed)?
                .unwrap_or_default(),
            "set" => self.write(key, Write::Patch, given()?).await?,
            "put" => self.write(key, Write::Replace, given()?).await?,
            "delete" => json!(store.delete_value(id, key).await.map_err(failed)?),
            "list" => json!(
                store
                    .value_keys(id, key, MAX_LISTED)
                    .await
                    .map_err(failed)?
            ),
            "all" => {
                let fields: Vec<String> =
                    serde_json::from_value(given()?).map_err(|_| broken("fields"))?;
                self.all(key, &fields).await?
            }
            _ => return Err(broken("storage verb")),
        };
        Ok(Reply::Json(answer.to_string()))
    }

    async fn write(&self, key: &str, write: Write, value: Value) -> Result<Value, Status> {
        let store = self.link.runs().store();
        let written = store.put_value(self.pipeline_id, key, write, value).await;
        match written.map_err(failed)? {
            Written::Done => Ok(Value::Null),
            Written::TooLarge => Err(too_large()),
            Written::Full => Err(Status::resource_exhausted(format!(
                "this pipeline has {MAX_VALUES} keys, the most there can be; delete some"
            ))),
        }
    }

    async fn all(&self, prefix: &str, fields: &[String]) -> Result<Value, Status> {
        let found = self
            .link
            .runs()
            .store()
            .values(self.pipeline_id, prefix, MAX_LISTED)
            .await;
        let mut bytes = 0;
        let mut listed = Vec::new();
        for (key, value) in found.map_err(failed)? {
            let entry = json!({ "path": key, "payload": pick(&value, fields) });
            bytes += entry.to_string().len();
            if bytes > MAX_LISTED_BYTES {
                return Err(Status::resource_exhausted(
                    "the values have more than 3 MiB together; name fields, or a longer prefix",
                ));
            }
            listed.push(entry);
        }
        Ok(Value::Array(listed))
    }

    async fn dedup(&self, ask: &pb::DedupCall) -> Result<Reply, Status> {
        let hash = <[u8; 32]>::try_from(ask.key_hash.as_ref()).map_err(|_| broken("key hash"))?;
        let sighting = Sighting {
            pipeline_id: self.pipeline_id,
            hash,
            run_id: self.run_id,
            call: number(ask.call)?,
        };
        let seen = self
            .link
            .runs()
            .store()
            .seen_before(sighting, SEEN_FOR)
            .await;
        Ok(Reply::Seen(seen.map_err(failed)?))
    }

    async fn open_gate(&self, ask: pb::OpenGate) -> Result<Reply, Status> {
        check("the gate's name", &ask.name)?;
        check("the gate's message", &ask.message)?;
        let gate = NewGate {
            id: GateId::new(),
            run_id: self.run_id,
            job_id: self.attempt.job_id,
            call: number(ask.call)?,
            name: ask.name,
            message: ask.message,
            timeout: Duration::from_millis(ask.timeout_ms).min(MAX_GATE_TIMEOUT),
        };
        let name = gate.name.clone();
        let opened = self.link.runs().store().open_gate(gate).await;
        let opened = opened.map_err(failed)?;
        if opened.name != name {
            // Whoever approved that one did not approve this one.
            return Err(Status::failed_precondition(format!(
                "its number belongs to gate {:?}; give one of them another name",
                opened.name
            )));
        }
        Ok(Reply::Gate(wire(opened)))
    }

    /// Answers when the gate is decided, or the wait is over.
    async fn await_gate(&self, ask: &pb::AwaitGate) -> Result<Reply, Status> {
        let id = GateId::from_wire(&ask.gate_id).map_err(|_| broken("gate id"))?;
        let wait = Duration::from_millis(u64::from(ask.wait_ms)).min(MAX_GATE_WAIT);
        let until = Instant::now() + wait;
        let store = self.link.runs().store();
        loop {
            let found = store.gate(id).await.map_err(failed)?;
            let mut gate = found
                .filter(|gate| gate.run_id == self.run_id)
                .ok_or_else(|| Status::not_found("no such gate"))?;
            if gate.status == GateStatus::Pending && gate.expires_at <= OffsetDateTime::now_utc() {
                let decision = Decision {
                    status: GateStatus::TimedOut,
                    actor: "timeout".to_owned(),
                    comment: String::new(),
                };
                if let Some((now, _)) = store.decide_gate(id, decision).await.map_err(failed)? {
                    gate = now;
                }
            }
            if gate.status != GateStatus::Pending || Instant::now() >= until {
                return Ok(Reply::Gate(wire(gate)));
            }
            tokio::select! {
                () = tokio::time::sleep(GATE_LOOK_EVERY) => {}
                () = self.link.inner.shutdown.cancelled() => {
                    return Err(Status::unavailable("the server is stopping"));
                }
            }
        }
    }

    async fn trigger(&self, ask: pb::TriggerPipeline) -> Result<Reply, Status> {
        for text in ask.jobs.iter().chain(&ask.args).chain([&ask.name]) {
            check("an argument", text)?;
        }
        let runs = self.link.runs();
        let content = json!([ask.name, ask.jobs, ask.args]).to_string();
        // The same for every attempt, so that it is started once.
        let parts: [&[u8]; 4] = [
            b"triggerPipeline",
            &self.attempt.job_id.to_vec(),
            &ask.call.to_be_bytes(),
            content.as_bytes(),
        ];
        let id = derived::run_id(derived::made_at(self.run_id), &parts);
        let anonymous = self.is_anonymous().await?;
        let trigger = Trigger {
            kind: TriggerKind::Pipeline,
            args: ask.args,
            jobs: ask.jobs,
            check: None,
            one_off: None,
            anonymous: false,
        };
        for _ in 0..MAX_TRIES {
            let named = runs
                .store()
                .pipeline_by_name(&ask.name)
                .await
                .map_err(failed)?;
            let unknown = || Status::not_found(format!("there is no pipeline {:?} here", ask.name));
            let named = named.ok_or_else(unknown)?;
            let pipeline = runs.reload_pipeline(named.id).await.map_err(failed)?;
            let pipeline = pipeline.ok_or_else(unknown)?;
            if pipeline.paused {
                return Err(Status::failed_precondition(format!(
                    "pipeline {:?} is paused",
                    ask.name
                )));
            }
            // Nobody gets rights by way of another pipeline, unless that one lends its own.
            let trigger = Trigger {
                anonymous: anonymous && !pipeline.lends_rights(),
                ..trigger.clone()
            };
            let start = StartRun {
                id: Some(id),
                ..StartRun::new(pipeline, trigger)
            };
            if let Some(settled) = runs.start(start).await.map_err(failed)?.settled() {
                let (run_id, _) = settled.map_err(|why| match why {
                    NotStarted::QueueFull => {
                        Status::resource_exhausted("too many jobs are queued; try again later")
                    }
                    NotStarted::Refused(refused) => {
                        Status::failed_precondition(refused.to_string())
                    }
                })?;
                return Ok(Reply::RunId(run_id.to_vec().into()));
            }
        }
        Err(Status::unavailable(
            "the pipeline keeps changing; try again",
        ))
    }
}

fn too_large() -> Status {
    Status::invalid_argument(format!(
        "the value has more than {MAX_VALUE_BYTES} bytes of JSON"
    ))
}

fn number(call: u32) -> Result<i32, Status> {
    i32::try_from(call).map_err(|_| broken("call number"))
}

fn wire(gate: Gate) -> pb::Gate {
    pb::Gate {
        id: gate.id.to_vec().into(),
        status: gate.status.as_str().to_owned(),
        by: gate.actor,
        comment: gate.comment,
        decided_at: gate
            .decided_at
            .and_then(|at| at.format(&Rfc3339).ok())
            .unwrap_or_default(),
    }
}
