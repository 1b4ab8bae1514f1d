//! The functions that the prelude is built on: calls of the host, and what JavaScript cannot do by itself.

use super::run::{self, Kind, MAX_CALLS};
use super::{address, bytes, digest};
use crate::js::answer;
use crate::js::calls::Pending;
use crate::js::host::{Answered, Failure, Request};
use crate::js::inspect::inspect;
use crate::js::issue::made;
use crate::js::journal::record::Made;
use crate::js::shared::Shared;
use crate::js::value::{MAX_TEXT_BYTES, bytes as binary, is_binary, is_given, text, type_name};
use ::bytes::Bytes;
use rquickjs::function::Opt;
use rquickjs::{
    Array, Ctx, Exception, Function, Object, Promise, Result, String as JsString, Value,
};
use std::rc::Rc;
use std::time::Duration;

/// Longest wait of an alarm: beyond it the job is over.
const MAX_ALARM_SECONDS: f64 = 366.0 * 86_400.0;

/// The object, made for each group of globals that needs one.
pub(super) fn object<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<Object<'js>> {
    let host = Object::new(ctx.clone())?;
    steps(ctx, shared, &host)?;
    super::event::install(ctx, shared, &host)?;
    calls(ctx, shared, &host)?;
    words(ctx, shared, &host)?;
    bytes::install(ctx, &host)?;
    digest::install(ctx, shared, &host)?;
    address::install(ctx, &host)?;
    super::yaml::install(ctx, &host)?;
    Ok(host)
}

fn steps<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>, host: &Object<'js>) -> Result<()> {
    for name in ["run", "startSandbox"] {
        let shared = Rc::clone(shared);
        let start = move |ctx: Ctx<'js>, config: Opt<Value<'js>>| {
            let kind = match name {
                "run" => Kind::Run,
                _ => Kind::StartSandbox,
            };
            run::run(&ctx, &shared, kind, given(&ctx, config))
        };
        host.set(name, Function::new(ctx.clone(), start)?)?;
    }
    let shared = Rc::clone(shared);
    let exec = move |ctx: Ctx<'js>, id: String, config: Opt<Value<'js>>| {
        run::run(&ctx, &shared, Kind::Exec(id), given(&ctx, config))
    };
    host.set("exec", Function::new(ctx.clone(), exec)?)
}

fn given<'js>(ctx: &Ctx<'js>, value: Opt<Value<'js>>) -> Value<'js> {
    value.0.unwrap_or_else(|| Value::new_undefined(ctx.clone()))
}

fn calls<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>, host: &Object<'js>) -> Result<()> {
    let this = Rc::clone(shared);
    let start = move |ctx: Ctx<'js>,
                      op: String,
                      json: JsString<'js>,
                      body: Opt<Value<'js>>,
                      label: Opt<String>| {
        let label = label.0.unwrap_or_else(|| op.clone());
        start(&ctx, &this, &op, &json, given(&ctx, body), &label)
    };
    host.set("start", Function::new(ctx.clone(), start)?)?;
    let this = Rc::clone(shared);
    let abort = move |call: f64| {
        // A call that was refused has no number.
        if call >= 0.0 {
            this.calls.borrow_mut().abort(call as u64);
        }
    };
    host.set("abort", Function::new(ctx.clone(), abort)?)?;
    let this = Rc::clone(shared);
    let now = move |ctx: Ctx<'js>, op: String, json: JsString<'js>, label: String| {
        let json = text(&json)?;
        let request = Request::parse(&op, &json, None)
            .map_err(|wrong| Exception::throw_type(&ctx, &format!("{label}: {wrong}")))?;
        let made = made(&op, &label, &json, &[], &request);
        now(&ctx, &this, made, request)
    };
    host.set("now", Function::new(ctx.clone(), now)?)
}

/// `[promise, id]`; what is wrong with the argument rejects the promise.
fn start<'js>(
    ctx: &Ctx<'js>,
    shared: &Shared<'js>,
    op: &str,
    json: &JsString<'js>,
    body: Value<'js>,
    label: &str,
) -> Result<Array<'js>> {
    let (promise, resolve, reject) = ctx.promise()?;
    let error = shared.new_error(ctx, "-")?;
    let call = match prepare(ctx, shared, op, json, body, label)? {
        Ok((made, future)) => {
            let pending = Pending {
                resolve,
                reject,
                error,
                on_output: None,
                decoders: Default::default(),
                fail_on_error: false,
            };
            let call = shared.number();
            shared.begin(call, made, future, pending);
            f64::from(call)
        }
        Err(wrong) => {
            let failure = Failure {
                name: "TypeError",
                ..Failure::from(format!("{label}: {wrong}"))
            };
            reject.call::<_, ()>((answer::error(ctx, error, &failure)?,))?;
            -1.0
        }
    };
    pair(ctx, promise, call)
}

fn pair<'js>(ctx: &Ctx<'js>, promise: Promise<'js>, call: f64) -> Result<Array<'js>> {
    let pair = Array::new(ctx.clone())?;
    pair.set(0, promise)?;
    pair.set(1, call)?;
    Ok(pair)
}

fn prepare<'js>(
    ctx: &Ctx<'js>,
    shared: &Shared<'js>,
    op: &str,
    json: &JsString<'js>,
    body: Value<'js>,
    label: &str,
) -> Result<std::result::Result<(Made, Answered), String>> {
    let body = match payload(ctx, &body)? {
        Ok(body) => body,
        Err(wrong) => return Ok(Err(wrong)),
    };
    let json = text(json)?;
    let bytes = body.clone().unwrap_or_default();
    let (made, request) = match Request::parse(op, &json, body) {
        Ok(request) => (made(op, label, &json, &bytes, &request), request),
        Err(wrong) => return Ok(Err(wrong)),
    };
    if shared.calls.borrow().pending.len() >= MAX_CALLS {
        return Ok(Err(format!(
            "more than {MAX_CALLS} calls are under way; await some first"
        )));
    }
    // `None`: the host panicked, and the watch ends the job.
    Ok(shared
        .ask(|host| host.call(request))
        .map(|future| (made, future))
        .ok_or_else(|| "the agent failed".to_owned()))
}

fn payload<'js>(
    ctx: &Ctx<'js>,
    body: &Value<'js>,
) -> Result<std::result::Result<Option<Bytes>, String>> {
    if !is_given(body) {
        return Ok(Ok(None));
    }
    let too_large =
        |length: usize| format!("the body has {length} bytes, more than {MAX_TEXT_BYTES}");
    let read = if let Some(string) = body.as_string() {
        text(string)?.into_bytes()
    } else if is_binary(body) {
        match binary(ctx, body, MAX_TEXT_BYTES)? {
            Ok(read) => read,
            Err(length) => return Ok(Err(too_large(length))),
        }
    } else {
        let got = type_name(body);
        return Ok(Err(format!(
            "the body must be a string or a Uint8Array, got {got}"
        )));
    };
    if read.len() > MAX_TEXT_BYTES {
        return Ok(Err(too_large(read.len())));
    }
    Ok(Ok(Some(Bytes::from(read))))
}

/// Asks and waits on the job's own thread: for what an author expects to have at once.
pub(super) fn now<'js>(
    ctx: &Ctx<'js>,
    shared: &Shared<'js>,
    made: Made,
    request: Request,
) -> Result<Value<'js>> {
    let Some(future) = shared.ask(|host| host.call(request)) else {
        return Err(Exception::throw_message(ctx, "the agent failed"));
    };
    match shared.answer_now(made, future) {
        Ok(answer) => answer::value(ctx, answer),
        Err(failure) => {
            let error = shared.new_error(ctx, "-")?;
            Err(ctx.throw(answer::error(ctx, error, &failure)?.into_value()))
        }
    }
}

/// A boolean of the host's.
pub(super) fn now_bool<'js>(
    ctx: &Ctx<'js>,
    shared: &Shared<'js>,
    made: Made,
    request: Request,
) -> Result<bool> {
    let answered = now(ctx, shared, made, request)?;
    Ok(answered.as_bool().unwrap_or(false))
}

fn words<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>, host: &Object<'js>) -> Result<()> {
    let this = Rc::clone(shared);
    let note = Function::new(ctx.clone(), move |text: String| this.note(&text))?;
    host.set("note", note)?;
    let this = Rc::clone(shared);
    let started_at = move || this.started_ms();
    host.set("startedAt", Function::new(ctx.clone(), started_at)?)?;
    let this = Rc::clone(shared);
    let clock = move || this.clock_ms();
    host.set("clock", Function::new(ctx.clone(), clock)?)?;
    let this = Rc::clone(shared);
    // Rings without keeping the job alive.
    let alarm = move |ctx: Ctx<'js>, callback: Function<'js>, ms: f64| -> Result<()> {
        if !ms.is_finite() {
            return Err(Exception::throw_type(
                &ctx,
                "a number of milliseconds is expected",
            ));
        }
        let delay = Duration::from_secs_f64((ms / 1000.0).clamp(0.0, MAX_ALARM_SECONDS));
        let mut timers = this.timers.borrow_mut();
        match timers.start(callback, Vec::new(), delay, false, true) {
            Some(_) => Ok(()),
            None => Err(Exception::throw_range(&ctx, "too many timers at a time")),
        }
    };
    host.set("alarm", Function::new(ctx.clone(), alarm)?)?;
    let this = Rc::clone(shared);
    let show = move |ctx: Ctx<'js>, value: Value<'js>| inspect(&ctx, &this.program, &value);
    host.set("show", Function::new(ctx.clone(), show)?)?;
    let this = Rc::clone(shared);
    let delivery = move |content: String| {
        let mut counts = this.deliveries.borrow_mut();
        let count = counts.entry(content.clone()).or_default();
        *count += 1;
        digest::delivery_id(&this.job.run_id, &content, *count)
    };
    host.set("deliveryId", Function::new(ctx.clone(), delivery)?)
}
