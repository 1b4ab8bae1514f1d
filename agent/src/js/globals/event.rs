//! `event`: the events that start a pipeline. What it listens to was read from its text when it was set.

use super::request;
use crate::js::shared::Shared;
use rquickjs::{Ctx, Function, Object, Result, Value};
use std::rc::Rc;

/// The object with `listen`, which gives the message if it was this event that started the run.
pub(super) fn new<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<Object<'js>> {
    let event = Object::new(ctx.clone())?;
    let shared = Rc::clone(shared);
    let listen = move |ctx: Ctx<'js>, key: String| -> Result<Value<'js>> {
        match &shared.job.webhook {
            Some(webhook) if !key.is_empty() && webhook.event_key == key => {
                request::new(&ctx, &shared, webhook)
            }
            Some(_) | None => Ok(Value::new_undefined(ctx)),
        }
    };
    let listen = Function::new(ctx.clone(), listen)?;
    event.set("listen", listen.with_name("listen")?)?;
    Ok(event)
}
