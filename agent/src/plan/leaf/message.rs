//! Steps that talk to people: `notify` and `gate`, and `run`, which only says that it does nothing.

use super::super::State;
use super::super::build::{Build, lock};
use super::super::timeout::duration;
use super::{Ended, Running};
use crate::attempt::{Backend, gate as gates};
use crate::js::request::{Backend as Receiver, Notify, NotifyContext};
use crate::outside;
use pocketci_pipeline::config::model::{GateStep, NotifyStep, RunStep};
use std::sync::Arc;
use std::time::Duration;

/// How long a gate without a timeout waits: as long as a server keeps one.
const GATE_WITHIN: Duration = Duration::from_secs(90 * 86_400);

pub(super) async fn notify(
    build: &Arc<Build>,
    state: &State,
    step: &NotifyStep,
) -> Result<(), Ended> {
    let names = step.names.join(", ");
    let running = Running::plain(build, state, "notify", &names).await;
    let result = prepare(build, state, step).await;
    let result = match result {
        Err(error) => Err(error),
        Ok(messages) if step.is_async => {
            running.say("sent without waiting for the answers").await;
            let (sender, state) = (build.clone(), state.clone());
            lock(&build.tasks).spawn(async move {
                if let Err(ended) = send(&sender, messages).await {
                    let told = format!("{}: {}", state.path, said(&ended));
                    let line = sender.attempt.redactor.text(&told);
                    let line = bytes::Bytes::from(format!("{line}\n"));
                    sender
                        .attempt
                        .log
                        .append(crate::attempt::SYSTEM, line)
                        .await;
                }
            });
            Ok(())
        }
        Ok(messages) => match build.unless_stopped(state, send(build, messages)).await {
            Ok(sent) => sent,
            Err(stopped) => Err(stopped),
        },
    };
    running.end(&result).await;
    result
}

fn said(ended: &Ended) -> &str {
    match ended {
        Ended::Failed { said, .. } | Ended::TooLong(said) | Ended::Errored(said) => said,
        Ended::Stopped => "stopped",
    }
}

async fn prepare(
    build: &Build,
    state: &State,
    step: &NotifyStep,
) -> Result<Vec<(String, Notify)>, Ended> {
    let message = match step.message_file.as_str() {
        "" => build.text(state, &step.message, "message").await?,
        file => {
            let file = build.text(state, file, "message_file").await?;
            build.read_text(state, &file).await?
        }
    };
    let about = &build.about;
    let status = state.hook_of.map_or("running", |outcome| outcome.as_str());
    let mut messages = Vec::new();
    for name in &step.names {
        let declared = build.config.notifications.get(name).ok_or_else(|| {
            Ended::Errored(format!(
                "notify: the pipeline's notifications have no {name:?}"
            ))
        })?;
        let filled = build.filled(state, declared, "notifications").await?;
        let receiver: Receiver = serde_json::from_value(filled)
            .map_err(|error| Ended::Errored(format!("notification {name:?}: {error}")))?;
        let context = NotifyContext {
            pipeline_name: about.pipeline_name.clone(),
            job_name: about.job_name.clone(),
            build_id: about.run_id.clone(),
            status: status.to_owned(),
            ..NotifyContext::default()
        };
        let notify = Notify {
            backend: receiver,
            message: message.clone(),
            context,
        };
        messages.push((name.clone(), notify));
    }
    Ok(messages)
}

async fn send(build: &Build, messages: Vec<(String, Notify)>) -> Result<(), Ended> {
    for (name, notify) in messages {
        let outside = &build.workshop.outside;
        let sent = outside::notify::send(outside, &build.secrets, notify).await;
        sent.map_err(|failure| Ended::failed(format!("notify {name:?}: {}", failure.message)))?;
    }
    Ok(())
}

pub(super) async fn gate(build: &Build, state: &State, step: &GateStep) -> Result<(), Ended> {
    let running = Running::plain(build, state, "gate", &step.name).await;
    let result = pass(build, state, step).await;
    running.end(&result).await;
    result
}

async fn pass(build: &Build, state: &State, step: &GateStep) -> Result<(), Ended> {
    let message = build.text(state, &step.message, "message").await?;
    let timeout = match &step.timeout {
        None => GATE_WITHIN,
        Some(written) => duration(state, written).await.map_err(Ended::Errored)?,
    };
    // Where it is in the plan tells gates of one name apart, in each attempt of the job.
    let content = format!("{}\n{}", step.name, state.path);
    let gate = gates::Gate {
        call: build.numbers.next("gate", &content),
        name: &step.name,
        message: &message,
        timeout,
    };
    let backend: &dyn Backend = &*build.backend;
    let passing = gates::pass(&build.attempt, backend, gate);
    match build.unless_stopped(state, passing).await? {
        Ok(_) => Ok(()),
        Err(failure) if failure.name == "GateError" => Err(Ended::failed(failure.message)),
        Err(failure) => Err(Ended::Errored(failure.message)),
    }
}

/// As in Concourse, where it is experimental.
pub(super) async fn run(build: &Build, state: &State, step: &RunStep) -> Result<(), Ended> {
    let running = Running::plain(build, state, "run", &step.message).await;
    let said = format!(
        "running {} on {}: prototypes are experimental, nothing was done",
        step.message, step.type_name
    );
    running.print(&said).await;
    running.end(&Ok::<(), Ended>(())).await;
    Ok(())
}
