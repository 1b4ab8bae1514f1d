//! `task`: a program in a container, with the artifacts that it asks for.
//!
//! Reading order: `config` (what the task is), `image`, `mounts` (its files), `process` (one run of it).

mod config;
mod image;
mod mounts;
mod process;

use super::super::State;
use super::super::build::{Build, lock};
use super::{Ended, Running};
use crate::attempt::Began;
use futures_util::future::join_all;
use mounts::Mounts;
use pocketci_pipeline::config::model::TaskStep;
use process::Process;

/// Most copies of one task.
const MAX_COPIES: u32 = 1_000;

/// Which of several copies of a task.
#[derive(Clone, Copy)]
struct Copied {
    /// From 1.
    index: u32,
    count: u32,
}

pub(super) async fn task(build: &Build, state: &State, step: &TaskStep) -> Result<(), Ended> {
    let name = build.text(state, &step.name, "task").await?;
    let count = step.parallelism.unwrap_or(0);
    if count <= 1 {
        return one(build, state, step, &name, None).await;
    }
    if count > MAX_COPIES {
        return Err(Ended::Errored(format!(
            "task {name:?}: parallelism is at most {MAX_COPIES}"
        )));
    }
    let copies = (1..=count).map(|index| {
        let state = state.marked(&format!("[{index}]"));
        let name = &name;
        async move {
            let copied = Copied { index, count };
            one(build, &state, step, name, Some(copied)).await
        }
    });
    join_all(copies).await.into_iter().collect()
}

async fn one(
    build: &Build,
    state: &State,
    step: &TaskStep,
    name: &str,
    copied: Option<Copied>,
) -> Result<(), Ended> {
    let shown = match copied {
        Some(copied) => format!("{name}-{}", copied.index),
        None => name.to_owned(),
    };
    lock(&build.ran).push(shown.clone());
    let began = Began {
        name: &shown,
        kind: "task",
        image: &image::told(step),
        path: &state.path,
    };
    let mut running = Running::begin(build, began).await;
    let task = Task {
        build,
        state,
        step,
        name,
        copied,
    };
    let result = task
        .run(&mut running)
        .await
        .map_err(|ended| ended.of(&format!("task {shown:?}")));
    running.end(&result).await;
    result
}

/// One task.
struct Task<'a> {
    build: &'a Build,
    state: &'a State,
    step: &'a TaskStep,
    /// Its vars filled in.
    name: &'a str,
    copied: Option<Copied>,
}

impl Task<'_> {
    async fn run(&self, running: &mut Running) -> Result<(), Ended> {
        let (build, state, step) = (self.build, self.state, self.step);
        if step.privileged && !build.workshop.config.allow_privileged {
            return Err(Ended::Errored(
                "privileged is not allowed on this agent; its operator may start it with --allow-privileged".to_owned(),
            ));
        }
        let config = config::load(build, state, step, running).await?;
        let inputs = mounts::inputs(build, state, step, &config).await?;
        let image = image::resolve(build, state, step, &config, running).await?;
        let process = Process::new(build, self, &config, image).await?;
        // Before its volumes: those of a thousand tasks that wait would fill the disk.
        let room = build.room(state).await?;
        // Each volume is made to the end, so that all of them are known to be removed.
        let mounts = Mounts::prepare(self, &config, inputs, process.owner(), running).await?;
        if let (Some(remains), Some(_)) = (running.remains(), &step.assert) {
            remains.want_all();
        }
        let ended = process.run(&mounts, running).await;
        drop(room);
        let judged = match ended {
            Ok(code) => process.judge(code, running).await,
            Err(ended) => Err(ended),
        };
        // Before its volumes go: what is kept holds on to them.
        running.leave(judged.is_err()).await;
        mounts.finish(self, &config).await?;
        judged
    }
}
