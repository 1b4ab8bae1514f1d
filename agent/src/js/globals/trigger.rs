//! `webhookTrigger`, `webhookParams`, `webhookDedup`: expressions over the webhook that started the run.

use super::natives::now_bool;
use crate::js::host::Request;
use crate::js::issue::made;
use crate::js::shared::Shared;
use crate::js::value::{is_given, text, type_name};
use rquickjs::function::Opt;
use rquickjs::object::Filter;
use rquickjs::{Ctx, Exception, Function, Object, Result, Value};
use std::rc::Rc;

/// Most values of one `webhookParams`.
const MAX_PARAMS: usize = 1_000;

/// Defines the three functions.
pub(super) fn install<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<()> {
    let this = Rc::clone(shared);
    let matches = move |ctx: Ctx<'js>, given: Opt<Value<'js>>| -> Result<bool> {
        let expression = expression(&ctx, "webhookTrigger", given.0)?;
        if this.job.webhook.is_none() {
            return Ok(true);
        }
        Ok(this
            .ask(|host| host.webhook_trigger(&expression))
            .unwrap_or(Ok(false))
            .unwrap_or_else(|error| {
                this.note(&format!("webhookTrigger: {error}; the result is false"));
                false
            }))
    };
    define(ctx, "webhookTrigger", Function::new(ctx.clone(), matches)?)?;
    let this = Rc::clone(shared);
    let dedup = move |ctx: Ctx<'js>, given: Opt<Value<'js>>| -> Result<bool> {
        let expression = expression(&ctx, "webhookDedup", given.0)?;
        match value(&this, "webhookDedup", &expression, "the result is false") {
            Some(key) if !key.is_empty() => {
                let request = Request::Dedup { key: key.clone() };
                let made = made("dedup", "webhookDedup", &key, &[], &request);
                now_bool(&ctx, &this, made, request)
            }
            Some(_) | None => Ok(false),
        }
    };
    define(ctx, "webhookDedup", Function::new(ctx.clone(), dedup)?)?;
    let this = Rc::clone(shared);
    let params = move |ctx: Ctx<'js>, given: Opt<Value<'js>>| -> Result<Object<'js>> {
        params(&ctx, &this, given.0)
    };
    define(ctx, "webhookParams", Function::new(ctx.clone(), params)?)
}

fn define<'js>(ctx: &Ctx<'js>, name: &'static str, function: Function<'js>) -> Result<()> {
    ctx.globals().set(name, function.with_name(name)?)
}

fn expression<'js>(ctx: &Ctx<'js>, name: &str, given: Option<Value<'js>>) -> Result<String> {
    let given = given.unwrap_or_else(|| Value::new_undefined(ctx.clone()));
    match given.as_string() {
        Some(expression) => text(expression),
        None => {
            let got = type_name(&given);
            Err(Exception::throw_type(
                ctx,
                &format!("{name}: an expression (string) is expected, got {got}"),
            ))
        }
    }
}

/// The expression's value over the webhook; `None` without one, or with a line in the log.
fn value(shared: &Shared<'_>, name: &str, expression: &str, consequence: &str) -> Option<String> {
    shared.job.webhook.as_ref()?;
    match shared.ask(|host| host.webhook_value(expression))? {
        Ok(value) => Some(value),
        Err(error) => {
            shared.note(&format!("{name}: {error}; {consequence}"));
            None
        }
    }
}

fn params<'js>(
    ctx: &Ctx<'js>,
    shared: &Shared<'js>,
    given: Option<Value<'js>>,
) -> Result<Object<'js>> {
    let params = Object::new(ctx.clone())?;
    let wrong = |got: &str| {
        let message =
            format!("webhookParams: an object of expressions (strings) is expected, got {got}");
        Exception::throw_type(ctx, &message)
    };
    let given = given.unwrap_or_else(|| Value::new_undefined(ctx.clone()));
    let Some(wanted) = given.as_object().filter(|_| is_given(&given)) else {
        return Err(wrong(type_name(&given)));
    };
    for (index, name) in wanted
        .own_keys::<String>(Filter::new().string().enum_only())
        .enumerate()
    {
        let name = name?;
        if index == MAX_PARAMS {
            return Err(wrong(&format!("more than {MAX_PARAMS}")));
        }
        let expression: Value = wanted.get(name.as_str())?;
        let Some(expression) = expression.as_string() else {
            return Err(wrong(&format!("{} for {name}", type_name(&expression))));
        };
        let label = format!("webhookParams: {name}");
        if let Some(value) = value(shared, &label, &text(expression)?, "it is left out") {
            params.set(name, value)?;
        }
    }
    Ok(params)
}
