//! `runtime.run(config)`: a step, as a promise.

use super::run_config::{self, Wrong};
use crate::js::calls::Pending;
use crate::js::shared::Shared;
use crate::js::value::caught;
use rquickjs::function::Opt;
use rquickjs::{Ctx, Error, Function, Object, Promise, Result, Value};
use std::rc::Rc;

/// Steps one pipeline may have under way at a time.
const MAX_CALLS: usize = 1_000;

/// The object with `run`.
pub(super) fn new<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<Object<'js>> {
    let runtime = Object::new(ctx.clone())?;
    let shared = Rc::clone(shared);
    let run = Function::new(
        ctx.clone(),
        move |ctx: Ctx<'js>, config: Opt<Value<'js>>| {
            run(
                &ctx,
                &shared,
                config
                    .0
                    .unwrap_or_else(|| Value::new_undefined(ctx.clone())),
            )
        },
    )?;
    runtime.set("run", run.with_name("run")?)?;
    Ok(runtime)
}

/// Never throws what a promise can carry.
fn run<'js>(ctx: &Ctx<'js>, shared: &Shared<'js>, config: Value<'js>) -> Result<Promise<'js>> {
    let (promise, resolve, reject) = ctx.promise()?;
    match start(ctx, shared, &config, resolve, reject.clone()) {
        Ok(()) => {}
        Err(Wrong::Value(message)) => {
            let error = shared.new_error(ctx, &format!("runtime.run: {message}"))?;
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
    if parsed.on_output.is_some() {
        request.output = Some(shared.calls.borrow().sink());
    }
    let Some(future) = shared.ask(|host| host.run(request)) else {
        return Err(Wrong::Value("the agent failed".to_owned())); // the watch ends the job
    };
    let pending = Pending {
        resolve,
        reject,
        error,
        on_output: parsed.on_output,
        decoders: Default::default(),
    };
    shared
        .calls
        .borrow_mut()
        .start(&shared.runtime, future, pending);
    Ok(())
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::Thrown(error)
    }
}
