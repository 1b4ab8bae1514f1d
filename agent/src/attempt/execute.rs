//! A job's program from its first line to its end: with the journal that is there, or from the top.

use super::host::{self, JobHost};
use super::{Attempt, Backend, SYSTEM, StopReason, Work, Workshop, finished, journal};
use crate::js::host::{JobContext, WebhookRequest};
use crate::js::journal::Tape;
use crate::js::{self, JobEnd, Limits};
use crate::plan;
use crate::webhook_body::WebhookFile;
use bytes::Bytes;
use pocketci_proto::agent as pb;
use pocketci_proto::api::Driver as DriverName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Runs the job's program, again from the top if it goes another way than its journal.
pub(super) async fn execute(
    workshop: &Arc<Workshop>,
    attempt: &Arc<Attempt>,
    backend: Arc<dyn Backend>,
    work: Work,
) -> pb::Finished {
    let driver_name = match work.assign.driver.as_str() {
        "" => workshop.config.default_driver,
        name => match DriverName::parse(name) {
            Some(driver) => driver,
            None => return finished("errored", "driver", format!("unknown driver {name:?}")),
        },
    };
    if attempt.resumed {
        // Commands of its sandboxes cannot be gone on with, nor done again in this attempt.
        if remove_of(workshop, attempt, Some("sandbox")).await > 0 {
            attempt.stop(StopReason::Interrupted);
            return attempt.end_of_abort();
        }
    }
    if work.assign.yaml.is_some() {
        return Box::pin(execute_plan(workshop, attempt, backend, &work, driver_name)).await;
    }
    let mut journal = match load_journal(attempt, &*backend, &work).await {
        Ok(journal) => journal,
        Err(error) => return error,
    };
    loop {
        let durable = journal.is_some();
        let ended = run_program(workshop, attempt, &backend, &work, driver_name, journal).await;
        if attempt.resumed {
            // Volumes of the webhook's files, which the earlier process had made for steps that went on.
            remove_of(workshop, attempt, None).await;
        }
        return match ended {
            JobEnd::Diverged { message } if durable => {
                journal = start_over(attempt, &*backend, &message).await;
                if attempt.resumed {
                    // This very attempt had begun with it: from the top is another attempt.
                    attempt.stop(StopReason::Interrupted);
                    return attempt.end_of_abort();
                }
                continue;
            }
            JobEnd::Diverged { message } => finished("errored", "internal", message),
            JobEnd::Succeeded => finished("succeeded", "", ""),
            JobEnd::Failed { message } => {
                let message = attempt.redactor.text(&message);
                let text = Bytes::from(format!("{}\n", message.trim_end()));
                attempt.log.append(SYSTEM, text).await;
                finished("failed", "", message)
            }
            JobEnd::Errored { reason, message } => finished("errored", reason, message),
            JobEnd::Aborted => attempt.end_of_abort(),
        };
    }
}

/// Carries out a job of a YAML pipeline, which keeps no journal: what an earlier process began is done by another attempt.
async fn execute_plan(
    workshop: &Arc<Workshop>,
    attempt: &Arc<Attempt>,
    backend: Arc<dyn Backend>,
    work: &Work,
    driver_name: DriverName,
) -> pb::Finished {
    if attempt.resumed {
        attempt.stop(StopReason::Interrupted);
        return attempt.end_of_abort();
    }
    let Some(driver) = workshop.driver(driver_name) else {
        return finished("errored", "driver", host::lacks(driver_name));
    };
    let end = Box::pin(plan::execute(workshop, attempt, backend, work, driver)).await;
    if attempt.is_stopping() {
        // Whatever was being made when it was broken off.
        remove_of(workshop, attempt, None).await;
    }
    end
}

/// Removes containers of the attempt (of one step), and volumes with all of them.
/// How many there were.
pub(super) async fn remove_of(workshop: &Workshop, attempt: &Attempt, step: Option<&str>) -> usize {
    let ours = super::labels(workshop, attempt);
    let is_left = |labels: &BTreeMap<String, String>| {
        let is_ours = ours
            .iter()
            .all(|(name, value)| labels.get(name) == Some(value));
        let found = labels.get("pocketci.step").map(String::as_str);
        is_ours && (step.is_none() || found == step)
    };
    let mut removed = 0;
    for driver in &workshop.drivers {
        removed += driver.sweep(&is_left).await.unwrap_or_default();
    }
    removed
}

/// What earlier attempts left, with the number of its last entry; `None` keeps no journal.
async fn load_journal(
    attempt: &Attempt,
    backend: &dyn Backend,
    work: &Work,
) -> Result<Option<(Tape, u64)>, pb::Finished> {
    if !work.assign.durable {
        return Ok(None);
    }
    if attempt.reference.attempt <= 1 && !attempt.resumed {
        return Ok(Some(Default::default()));
    }
    let read = tokio::select! {
        read = journal::read(backend) => read,
        () = attempt.stopping() => return Err(attempt.end_of_abort()),
    };
    match read {
        Ok(journal) => Ok(Some(journal)),
        Err(why) => {
            let journal = start_over(attempt, backend, &why).await;
            if attempt.resumed {
                // See [`execute`].
                attempt.stop(StopReason::Interrupted);
                return Err(attempt.end_of_abort());
            }
            Ok(journal)
        }
    }
}

/// The journal is of no use: it is cleared, and the job starts from the top, without one if it cannot be cleared.
async fn start_over(attempt: &Attempt, backend: &dyn Backend, why: &str) -> Option<(Tape, u64)> {
    let said = format!("the job cannot go on where it was and starts from the top: {why}\n");
    attempt.log.append(SYSTEM, Bytes::from(said)).await;
    attempt.log.comes_anew();
    let cleared = tokio::select! {
        cleared = backend.clear_journal() => cleared,
        () = attempt.stopping() => return None,
    };
    match cleared {
        Ok(()) => Some(Default::default()),
        Err(error) => {
            tracing::warn!(%error, "cannot clear a journal");
            None
        }
    }
}

/// Runs the program once.
async fn run_program(
    workshop: &Arc<Workshop>,
    attempt: &Arc<Attempt>,
    backend: &Arc<dyn Backend>,
    work: &Work,
    driver_name: DriverName,
    journal: Option<(Tape, u64)>,
) -> JobEnd {
    let context = context(work, driver_name);
    let runtime = tokio::runtime::Handle::current();
    let host = Arc::new(JobHost::new(
        workshop.clone(),
        attempt.clone(),
        backend.clone(),
        driver_name,
        context.webhook.clone(),
        runtime.clone(),
    ));
    if let Some((tape, seq)) = journal {
        host.keep_journal(tape, seq).await;
    }
    let limits = &workshop.config.limits;
    let running = js::run(
        &work.program,
        &context,
        limits,
        host.clone(),
        runtime,
        attempt.stop.clone(),
    );
    tokio::pin!(running);
    let (within, too_long) = time_limit(work, limits);
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = tokio::time::sleep(within) => {
            attempt.stop(too_long);
            running.await
        }
    };
    host.release().await;
    ended
}

/// How long the job may take, and what it is if it takes longer.
pub(crate) fn time_limit(work: &Work, limits: &Limits) -> (Duration, StopReason) {
    match work.assign.timeout_ms {
        1.. if Duration::from_millis(work.assign.timeout_ms) < limits.wall_time => (
            Duration::from_millis(work.assign.timeout_ms),
            StopReason::PipelineTimedOut,
        ),
        _ => (limits.wall_time, StopReason::TimedOut),
    }
}

fn pairs(fields: Vec<pb::Field>) -> Vec<(String, String)> {
    let pair = |field: pb::Field| (field.name, field.value);
    fields.into_iter().map(pair).collect()
}

fn file(file: pb::WebhookFile) -> WebhookFile {
    WebhookFile {
        index: file.index,
        name: file.name,
        filename: file.filename,
        content_type: file.content_type,
        size: file.size,
        sha256: file.sha256,
    }
}

fn context(work: &Work, driver: DriverName) -> JobContext {
    let assign = &work.assign;
    let hex = |bytes: &[u8]| {
        uuid::Uuid::from_slice(bytes)
            .map(|id| id.to_string())
            .unwrap_or_default()
    };
    let (run_id, attempt) = match &assign.r#ref {
        Some(reference) => (hex(&reference.run_id), reference.attempt),
        None => (String::new(), 0),
    };
    let trigger = assign.trigger.clone().unwrap_or_default();
    let fields = |fields: Vec<pb::Field>| pairs(fields).into_iter().collect();
    JobContext {
        run_id,
        pipeline_id: assign.pipeline_id.clone(),
        pipeline_name: assign.pipeline_name.clone(),
        triggered_by: trigger.kind,
        args: trigger.args,
        target_jobs: trigger.jobs,
        driver_name: driver.as_str().to_owned(),
        attempt,
        webhook: trigger.webhook.map(|webhook| WebhookRequest {
            provider: webhook.provider,
            event_type: webhook.event_type,
            method: webhook.method,
            url: webhook.url,
            headers: fields(webhook.headers),
            query: fields(webhook.query),
            body: work.body.clone(),
            repeated_headers: pairs(webhook.repeated_headers),
            delivery_id: webhook.delivery_id,
            attempt: webhook.attempt,
            verified: webhook.verified,
            secret_id: webhook.secret_id,
            event_key: webhook.event_key,
            remote_addr: webhook.remote_addr,
            received_at_ms: webhook.received_at_unix_ms,
            body_sha256: webhook.body_sha256,
            form: pairs(webhook.form),
            files: webhook.files.into_iter().map(file).collect(),
        }),
    }
}
