//! The job's own thread: a stack of known size, a processor clock of its own, and a way to let go of it.
//!
//! QuickJS cannot be stopped inside a native loop (`Array.prototype.indexOf.call({length: 2**53}, 1)`), and a hostile
//! program can turn interrupts into rejections. The caller is answered even then: the thread is left behind.

use super::calls::Steps;
use super::engine::{self, Job};
use super::host::{Host, JobContext};
use super::limits::{Limits, Trip, Watch};
use super::{JobEnd, Program};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Stack beside what JavaScript itself may use: our own frames under and between its calls.
const STACK_HEADROOM_BYTES: usize = 1 << 20;
/// QuickJS treats more than this as no limit at all.
const MAX_STACK_BYTES: usize = 16 << 20;
/// How long host calls may take to end after a cancellation, beyond the driver's grace: its clean-up.
const CLEAN_UP: Duration = Duration::from_secs(14);
/// How much longer the thread itself may take before it is left behind.
const ABANDON_AFTER: Duration = Duration::from_secs(15);

/// [`run`] for callers that may block: never on a thread that drives `runtime`.
pub fn execute(
    program: &Program,
    job: &JobContext,
    limits: &Limits,
    host: Arc<dyn Host>,
    runtime: Handle,
    cancel: CancellationToken,
) -> JobEnd {
    let driving = runtime.clone();
    driving.block_on(run(program, job, limits, host, runtime, cancel))
}

/// Runs one job's JavaScript to its end, on a thread of its own. Host calls are spawned on `runtime`, which needs its
/// time driver. Cancelling `cancel` stops the JavaScript within milliseconds; host calls then have the drivers' grace to
/// return before their futures are dropped.
pub async fn run(
    program: &Program,
    job: &JobContext,
    limits: &Limits,
    host: Arc<dyn Host>,
    runtime: Handle,
    cancel: CancellationToken,
) -> JobEnd {
    let stack_bytes = limits.stack_bytes.min(MAX_STACK_BYTES);
    let limits = Limits {
        stack_bytes,
        ..limits.clone()
    };
    let calls_grace = calls_grace(&limits);
    let steps = Steps::default();
    // However this ends, no step outlives it.
    let _drop_steps = steps.drop.clone().drop_guard();
    let job = Job {
        program: program.clone(),
        context: job.clone(),
        limits,
        host,
        runtime: runtime.clone(),
        cancel: cancel.clone(),
        steps: steps.clone(),
    };
    let (told, end) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("pipeline-js".to_owned())
        .stack_size(stack_bytes + STACK_HEADROOM_BYTES)
        .spawn(move || run_thread(job, told));
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => return internal(format!("cannot start a thread for the pipeline: {error}")),
    };
    let end = tokio::select! {
        end = end => Some(end),
        () = async { cancel.cancelled().await; tokio::time::sleep(calls_grace + ABANDON_AFTER).await } => None,
    };
    match end {
        Some(Ok(Told::Ended(end))) => {
            // Telling was its last act; it ends by itself, and a panic after that has nothing left to spoil.
            drop(thread);
            end
        }
        Some(Ok(Told::Defied(end))) => {
            tracing::error!(
                "a pipeline swallows interrupts; its thread is parked and its memory kept until the agent restarts"
            );
            steps.tracker.close();
            if cancel.is_cancelled() {
                // Its steps have heard of the cancellation and may still end as they should.
                let ended = tokio::time::timeout(calls_grace, steps.tracker.wait()).await;
                if ended.is_err() {
                    tracing::warn!(
                        "steps of a stopped pipeline did not end in their grace and are dropped"
                    );
                }
            }
            end
        }
        Some(Err(_)) => internal("the pipeline's thread ended without a word".to_owned()),
        None => {
            tracing::error!(
                "a pipeline does not stop; its thread is left behind until the agent restarts"
            );
            JobEnd::Aborted
        }
    }
}

/// How long host calls may take to end after a cancellation.
pub(super) fn calls_grace(limits: &Limits) -> Duration {
    limits.stop_grace + CLEAN_UP
}

/// What the job's thread says, once.
enum Told {
    /// All is over, the thread too.
    Ended(JobEnd),
    /// The program does not let itself be stopped; the thread sleeps for ever.
    Defied(JobEnd),
}

fn run_thread(job: Job, told: oneshot::Sender<Told>) {
    let watch = Rc::new(Watch::new(job.cancel.clone(), job.limits.cpu_time));
    let told = Rc::new(RefCell::new(Some(told)));
    let cpu_end = cpu_limit(job.limits.cpu_time);
    let interrupt = {
        let (watch, told, cpu_end) = (Rc::clone(&watch), Rc::clone(&told), cpu_end.clone());
        Box::new(move || {
            let stop = watch.interrupt();
            if watch.is_defied() {
                park(
                    &told,
                    match watch.tripped() {
                        Some(Trip::Cpu) => cpu_end.clone(),
                        Some(Trip::Broken) => panicked(),
                        Some(Trip::Diverged) => diverged(&watch),
                        Some(Trip::Cancelled) | None => JobEnd::Aborted,
                    },
                );
            }
            stop
        })
    };
    let end = catch_unwind(AssertUnwindSafe(|| engine::run(&job, &watch, interrupt)))
        .unwrap_or_else(|_| panicked());
    let end = match watch.tripped() {
        Some(Trip::Cancelled) => JobEnd::Aborted,
        Some(Trip::Cpu) => cpu_end,
        Some(Trip::Broken) => panicked(),
        Some(Trip::Diverged) => diverged(&watch),
        None => end,
    };
    // Whoever is told may count on the host being let go.
    drop(job);
    if let Some(told) = told.borrow_mut().take() {
        // Nobody listens when the supervisor has let go of us.
        let _ = told.send(Told::Ended(end));
    }
}

/// Answers for a program that cannot be stopped and keeps its thread off the processor for good.
fn park(told: &RefCell<Option<oneshot::Sender<Told>>>, end: JobEnd) {
    if let Ok(mut told) = told.try_borrow_mut()
        && let Some(told) = told.take()
    {
        let _ = told.send(Told::Defied(end));
    }
    loop {
        std::thread::park();
    }
}

fn cpu_limit(limit: Duration) -> JobEnd {
    JobEnd::Errored {
        reason: "cpu_limit",
        message: format!(
            "the pipeline's JavaScript used more than {} s of processor time, its limit; move heavy work into a step \
             (runtime.run), or have the agent's operator raise --js-cpu-time",
            limit.as_secs_f64()
        ),
    }
}

fn diverged(watch: &Watch) -> JobEnd {
    JobEnd::Diverged {
        message: watch.divergence(),
    }
}

fn panicked() -> JobEnd {
    internal("the agent failed while running the pipeline; this is a defect of PocketCI".to_owned())
}

/// The end of a job that PocketCI itself could not run.
pub(super) fn internal(message: String) -> JobEnd {
    JobEnd::Errored {
        reason: "internal",
        message,
    }
}
