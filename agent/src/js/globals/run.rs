//! Steps as promises: `runtime.run`, and the commands of sandboxes.

use super::run_config::{self, Wrong};
use crate::js::calls::Pending;
use crate::js::host::{Answer, Answered, Failure, Request, RunRequest};
use crate::js::issue::made_run;
use crate::js::shared::Shared;
use crate::js::value::caught;
use futures_util::FutureExt;
use rquickjs::{Ctx, Error, Function, Promise, Result, Value};

/// Calls one pipeline may have under way at a time.
pub(super) const MAX_CALLS: usize = 1_000;

/// What the config is of.
pub(super) enum Kind {
    Run,
    StartSandbox,
    Exec(String),
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Run => "runtime.run",
            Self::StartSandbox => "runtime.startSandbox",
            Self::Exec(_) => "sandbox.exec",
        }
    }
}

/// Never throws what a promise can carry.
pub(super) fn run<'js>(
    ctx: &Ctx<'js>,
    shared: &Shared<'js>,
    kind: Kind,
    config: Value<'js>,
) -> Result<Promise<'js>> {
    let (promise, resolve, reject) = ctx.promise()?;
    let name = kind.name();
    match start(ctx, shared, kind, &config, resolve, reject.clone()) {
        Ok(()) => {}
        Err(Wrong::Value(message)) => {
            let error = shared.new_error(ctx, &format!("{name}: {message}"))?;
            error.set("name", "TypeError")?;
            reject.call::<_, ()>((error,))?;
        }
        Err(Wrong::Thrown(error)) => {
            let thrown = caught(ctx, error)?;
            reject.call::<_, ()>((thrown,))?;
        }
    }
    Ok(promise)
}

fn start<'js>(
    ctx: &Ctx<'js>,
    shared: &Shared<'js>,
    kind: Kind,
    config: &Value<'js>,
    resolve: Function<'js>,
    reject: Function<'js>,
) -> std::result::Result<(), Wrong> {
    let parsed = run_config::read(ctx, config)?;
    let error = shared.new_error(ctx, "-")?;
    if shared.calls.borrow().pending.len() >= MAX_CALLS {
        return Err(Wrong::Value(format!(
            "more than {MAX_CALLS} steps are under way; await some first"
        )));
    }
    let mut request = parsed.request;
    let call = shared.number();
    request.call = call;
    if parsed.on_output.is_some() {
        request.output = Some(shared.calls.borrow_mut().sink(u64::from(call)));
    }
    let sandbox = match &kind {
        Kind::Exec(sandbox) => sandbox.as_str(),
        Kind::Run | Kind::StartSandbox => "",
    };
    let made = made_run(kind.name(), sandbox, &request);
    request.content = made.hash;
    let Some(future) = ask(shared, kind, request) else {
        return Err(Wrong::Value("the agent failed".to_owned())); // the watch ends the job
    };
    let pending = Pending {
        resolve,
        reject,
        error,
        on_output: parsed.on_output,
        decoders: Default::default(),
        fail_on_error: parsed.fail_on_error,
    };
    shared.begin(call, made, future, pending);
    Ok(())
}

fn ask(shared: &Shared<'_>, kind: Kind, run: RunRequest) -> Option<Answered> {
    match kind {
        Kind::Run => {
            let running = shared.ask(|host| host.run(run))?;
            Some(
                running
                    .map(|ended| ended.map(Answer::Run).map_err(Failure::from))
                    .boxed(),
            )
        }
        Kind::StartSandbox => shared.ask(|host| host.call(Request::StartSandbox(run))),
        Kind::Exec(sandbox) => shared.ask(|host| host.call(Request::Exec { sandbox, run })),
    }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::Thrown(error)
    }
}
