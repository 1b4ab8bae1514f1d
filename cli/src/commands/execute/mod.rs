//! `pocketci execute`: one task with files of this machine; its outputs come back.
//!
//! Everything that can be wrong with the task is told before anything is sent. A transfer that breaks is begun again; what
//! is there of it meanwhile is not usable.

mod task;
mod transfer;

use super::logs;
use crate::args::ExecuteArgs;
use crate::client::{Client, ClientError};
use crate::output::exit;
use pocketci_proto::api::{ExecuteRequest, Page, Run, Triggered};
use pocketci_proto::ids::RunId;
use reqwest::Method;
use std::future::Future;
use std::time::Duration;
use task::Task;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Tries of a transfer or request that a server which is away for a moment breaks.
const MAX_TRIES: u32 = 5;
/// Pause before the first further try; each one waits twice as long.
const TRY_AFTER: Duration = Duration::from_millis(500);

pub async fn run(args: ExecuteArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.connection)?;
    let Some(task) = task::read(&args)? else {
        return Ok(exit::FAILED);
    };
    // Before anything is sent: an answer to a request whose body is on its way may get lost.
    let _: Page<Run> = client
        .get(&["api", "runs"], &[("limit", "1".to_owned())])
        .await?;
    let id = RunId::new();
    let run = id.to_string();
    for (name, folder) in &task.inputs {
        patiently(|| transfer::send(&client, &run, name, folder, args.include_ignored)).await?;
    }
    let request = request(&args, &task, id)?;
    let path = ["api", "execute"];
    let _: Triggered = patiently(|| client.send(Method::POST, &path, &request)).await?;
    eprintln!("-- run {run}");
    let code = follow(&client, &run, args.json).await?;
    for (name, folder) in &task.outputs {
        let came = patiently(|| transfer::receive(&client, &run, name, folder)).await?;
        if !came {
            eprintln!("-- output {name:?}: there is none");
        }
    }
    Ok(code)
}

fn request(args: &ExecuteArgs, task: &Task, run_id: RunId) -> anyhow::Result<ExecuteRequest> {
    let names = |pairs: &[(String, _)]| pairs.iter().map(|(name, _)| name.clone()).collect();
    Ok(ExecuteRequest {
        run_id,
        config: serde_json::to_value(&task.config)?,
        name: Some(task.name.clone()),
        uploads: names(&task.inputs),
        outputs: names(&task.outputs),
        privileged: args.privileged,
        tags: args.tags.clone(),
        driver: args.driver.map(Into::into),
        pipeline: args.inputs_from.as_ref().map(|job| job.pipeline.clone()),
        job: args.inputs_from.as_ref().map(|job| job.name.clone()),
        timeout_seconds: args.timeout.map(|timeout| timeout.as_secs().max(1)),
    })
}

/// Tries again while that may help.
async fn patiently<T, Fut>(mut once: impl FnMut() -> Fut) -> anyhow::Result<T>
where
    Fut: Future<Output = anyhow::Result<T>>,
{
    let mut tries = 1;
    loop {
        let error = match once().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let temporary = error
            .downcast_ref::<ClientError>()
            .is_some_and(ClientError::is_temporary);
        if !temporary || tries == MAX_TRIES {
            return Err(error);
        }
        eprintln!("-- {error}; trying again");
        tokio::time::sleep(TRY_AFTER * 2u32.pow(tries - 1)).await;
        tries += 1;
    }
}

/// Prints the output until the run ends. The first signal stops the run, the second one the waiting.
async fn follow(client: &Client, run: &str, json: bool) -> anyhow::Result<u8> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut following = std::pin::pin!(logs::follow(client, run, json));
    tokio::select! {
        code = &mut following => return code,
        () = either(&mut interrupts, &mut terminations) => {}
    }
    eprintln!("-- stopping the run; once more and its end is not waited for");
    let stopping = async {
        let stopped = client.act_by(&["api", "runs", run, "stop"], None).await;
        if let Err(error) = stopped {
            eprintln!("warning: the run cannot be stopped: {error:#}");
        }
        following.await
    };
    tokio::select! {
        code = stopping => code,
        () = either(&mut interrupts, &mut terminations) => {
            eprintln!("-- `pocketci watch {run}` goes on with its output");
            Ok(exit::FAILED)
        }
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
