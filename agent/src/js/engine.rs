//! From source text to the end of a job: context, globals, module, export, event loop.

use super::calls::Steps;
use super::event_loop::{EventLoop, Until};
use super::failure::{describe, failed, memory_limit};
use super::globals::lazy::Attach;
use super::host::{Host, JobContext};
use super::limits::{Limits, Watch};
use super::modules::Modules;
use super::rejections::Rejections;
use super::shared::Shared;
use super::supervisor::internal;
use super::value::{caught, type_name};
use super::{JobEnd, Program, globals};
use rquickjs::promise::PromiseState;
use rquickjs::runtime::InterruptHandler;
use rquickjs::{Context, Ctx, Error, Function, Module, Promise, Runtime, Value};
use std::rc::Rc;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Said when nothing can settle the pipeline's promise any more.
const NEVER_SETTLES: &str = "the pipeline waits for a promise that nothing can settle any more: no step, no timer and no \
                             other work is under way";
/// Where the stages of a job's start are told (at trace level): thread, context, globals, module.
const START: &str = "pocketci::js::start";
/// Exports tried, in this order.
const EXPORTS: [&str; 2] = ["pipeline", "default"];

/// All a job's thread needs; `execute` explains the parts.
pub(super) struct Job {
    pub program: Program,
    pub context: JobContext,
    pub limits: Limits,
    pub host: Arc<dyn Host>,
    pub runtime: Handle,
    pub cancel: CancellationToken,
    pub steps: Steps,
}

/// Runs the job on this thread. What the watch says afterwards outranks the result.
pub(super) fn run(job: &Job, watch: &Rc<Watch>, interrupt: InterruptHandler) -> JobEnd {
    tracing::trace!(target: START, "thread");
    if watch.check().is_some() {
        return JobEnd::Aborted;
    }
    let Ok(runtime) = Runtime::new() else {
        return internal("cannot create a JavaScript runtime: no memory".to_owned());
    };
    runtime.set_memory_limit(job.limits.memory_bytes);
    runtime.set_max_stack_size(job.limits.stack_bytes);
    runtime.set_interrupt_handler(Some(interrupt));
    let modules = Modules::new(&job.program);
    runtime.set_loader(modules.clone(), modules);
    let rejections = Rejections::default();
    runtime.set_host_promise_rejection_tracker(Some(rejections.tracker()));
    let Ok(context) = Context::full(&runtime) else {
        return memory_limit(job.limits.memory_bytes);
    };
    tracing::trace!(target: START, "context");
    context.with(|ctx| run_in(&ctx, job, watch, &rejections))
}

fn run_in<'js>(ctx: &Ctx<'js>, job: &Job, watch: &Rc<Watch>, rejections: &Rejections) -> JobEnd {
    let (sender, events) = mpsc::unbounded_channel();
    let shared = Shared::new(ctx, job, Rc::clone(watch), sender);
    let shared = match shared {
        Ok(shared) => Rc::new(shared),
        Err(error) => return ended_by(ctx, job, error),
    };
    let cleanup = Cleanup {
        shared: Rc::clone(&shared),
        rejections,
    };
    let Ok(attach) = globals::install(ctx, &shared) else {
        // None of the author's code has run: there is no other reason.
        return memory_limit(job.limits.memory_bytes);
    };
    tracing::trace!(target: START, "globals");
    let mut event_loop =
        EventLoop::new(ctx.clone(), Rc::clone(&shared), events, job.cancel.clone());
    let end = match run_program(ctx, job, &attach, &mut event_loop, rejections) {
        Ok(end) => end,
        Err(error) => ended_by(ctx, job, error),
    };
    event_loop.stop_calls();
    let left_over = shared.record.borrow().left_over();
    if let Some(why) = left_over {
        // A job that was stopped meanwhile is stopped.
        watch.check();
        watch.diverge(why);
    }
    drop(cleanup);
    end
}

/// Cuts the circles between Rust and JavaScript, whatever way the job ended.
struct Cleanup<'a, 'js> {
    shared: Rc<Shared<'js>>,
    rejections: &'a Rejections,
}

impl Drop for Cleanup<'_, '_> {
    fn drop(&mut self) {
        self.rejections.clear();
        self.shared.clear();
    }
}

/// An error of the engine or of the program outside any promise.
fn ended_by<'js>(ctx: &Ctx<'js>, job: &Job, error: Error) -> JobEnd {
    if matches!(error, Error::Allocation) {
        return memory_limit(job.limits.memory_bytes);
    }
    match caught(ctx, error) {
        Ok(thrown) => failed(ctx, &job.program, job.limits.memory_bytes, &thrown),
        // The interrupt: the watch knows more.
        Err(_) => JobEnd::Aborted,
    }
}

fn run_program<'js>(
    ctx: &Ctx<'js>,
    job: &Job,
    attach: &Attach<'js>,
    event_loop: &mut EventLoop<'js>,
    rejections: &Rejections,
) -> rquickjs::Result<JobEnd> {
    let program = &job.program;
    let module = Module::declare(
        ctx.clone(),
        program.file_name.as_str(),
        program.javascript.as_str(),
    )?;
    let (module, loaded) = module.eval()?;
    event_loop.run(&loaded, Until::Settled);
    let mut known = vec![loaded.clone().into_value()];
    if loaded.state() != PromiseState::Resolved {
        event_loop.run(&loaded, Until::Idle);
        return Ok(conclude(ctx, job, event_loop, rejections, &loaded, &known));
    }
    let mut export = Value::new_undefined(ctx.clone());
    for name in EXPORTS {
        export = module.get(name)?;
        if !export.is_undefined() {
            break;
        }
    }
    let Some(pipeline) = export.as_function() else {
        return Ok(JobEnd::Failed {
            message: no_function(program, &export),
        });
    };
    attach.to(pipeline)?;
    tracing::trace!(target: START, "module");
    let (settled, resolve, reject) = ctx.promise()?;
    known.push(settled.clone().into_value());
    match call_pipeline(ctx, pipeline)? {
        Ok(value) => {
            known.push(value.clone());
            // Resolving with a promise or thenable follows it, with anything else is success.
            resolve.call::<_, ()>((value,))?;
        }
        Err(thrown) => reject.call::<_, ()>((thrown,))?,
    }
    event_loop.run(&settled, Until::Idle);
    Ok(conclude(ctx, job, event_loop, rejections, &settled, &known))
}

/// The outer result is the engine's (the interrupt), the inner one the program's.
fn call_pipeline<'js>(
    ctx: &Ctx<'js>,
    pipeline: &Function<'js>,
) -> rquickjs::Result<Result<Value<'js>, Value<'js>>> {
    match pipeline.call::<_, Value>(()) {
        Ok(value) => Ok(Ok(value)),
        Err(error) => caught(ctx, error).map(Err),
    }
}

fn no_function(program: &Program, export: &Value<'_>) -> String {
    if export.is_undefined() {
        return format!(
            "{} exports no pipeline: an exported function `pipeline` (or a default export) is expected, for example \
             `export const pipeline = async () => {{ … }};`",
            program.file_name
        );
    }
    format!(
        "the export `pipeline` of {} is {}: a function is expected, for example \
         `export const pipeline = async () => {{ … }};`",
        program.file_name,
        type_name(export)
    )
}

/// Looks at the settled (or not) promise and at what was rejected beside it.
fn conclude<'js>(
    ctx: &Ctx<'js>,
    job: &Job,
    event_loop: &EventLoop<'js>,
    rejections: &Rejections,
    main: &Promise<'js>,
    known: &[Value<'js>],
) -> JobEnd {
    if event_loop.is_tripped() {
        return JobEnd::Aborted; // the watch says which way
    }
    let mut end = match main.state() {
        PromiseState::Resolved => JobEnd::Succeeded,
        PromiseState::Pending => JobEnd::Failed {
            message: NEVER_SETTLES.to_owned(),
        },
        PromiseState::Rejected => match main.result::<Value>() {
            Some(Err(error)) => ended_by(ctx, job, error),
            // Not to be seen: a rejected promise has an error.
            Some(Ok(_)) | None => internal("a rejected promise has no reason".to_owned()),
        },
    };
    let uncaught = event_loop
        .uncaught()
        .map(|thrown| ("uncaught exception", thrown));
    let (reasons, more) = rejections.take(ctx, known);
    let unhandled = reasons
        .into_iter()
        .map(|reason| ("unhandled rejection", reason));
    for (what, thrown) in uncaught.into_iter().chain(unhandled) {
        match failed(ctx, &job.program, job.limits.memory_bytes, &thrown) {
            JobEnd::Failed { message } if end == JobEnd::Succeeded => {
                end = JobEnd::Failed {
                    message: format!("{what}: {message}"),
                };
            }
            other if end == JobEnd::Succeeded => end = other,
            _ => event_loop.note(&format!("{what}: {}", describe(ctx, &job.program, &thrown))),
        }
    }
    if more > 0 {
        event_loop.note(&format!("{more} more unhandled rejections"));
    }
    end
}
