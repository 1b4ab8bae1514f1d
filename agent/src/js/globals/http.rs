//! `http`: the webhook that started the run, and the answer to it.

use super::{reply, request};
use crate::js::shared::Shared;
use crate::js::value::is_given;
use rquickjs::function::Opt;
use rquickjs::{Ctx, Function, Object, Result, Value};
use std::rc::Rc;

/// The object with `request` and `respond`.
pub(super) fn new<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<Object<'js>> {
    let http = Object::new(ctx.clone())?;
    let request = {
        let shared = Rc::clone(shared);
        Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<Value<'js>> {
            match &shared.job.webhook {
                Some(webhook) => request::new(&ctx, &shared, webhook),
                None => Ok(Value::new_undefined(ctx)),
            }
        })?
    };
    http.set("request", request.with_name("request")?)?;
    let respond = {
        let shared = Rc::clone(shared);
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, response: Opt<Value<'js>>| {
                respond(
                    &ctx,
                    &shared,
                    response
                        .0
                        .unwrap_or_else(|| Value::new_undefined(ctx.clone())),
                )
            },
        )?
    };
    http.set("respond", respond.with_name("respond")?)?;
    Ok(http)
}

fn respond<'js>(ctx: &Ctx<'js>, shared: &Shared<'js>, response: Value<'js>) -> Result<()> {
    if shared.job.webhook.is_none() {
        return Ok(());
    }
    if !is_given(&response) {
        shared.note("http.respond: called without a response; ignored");
        return Ok(());
    }
    if shared.responded.get() {
        shared.note("http.respond: called again; only the first call counts");
        return Ok(());
    }
    let checked = reply::read(ctx, &response)?;
    // Reading ran the author's getters, which may have responded themselves.
    if shared.responded.replace(true) {
        shared.note("http.respond: called again; only the first call counts");
        return Ok(());
    }
    let reply = checked.unwrap_or_else(|wrong| {
        shared.note(&format!(
            "http.respond: {wrong}; the caller gets status 500 instead"
        ));
        reply::invalid()
    });
    shared.ask(|host| host.respond(reply));
    Ok(())
}
