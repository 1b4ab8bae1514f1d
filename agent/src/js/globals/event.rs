//! `event.listen`: what a program listens to was read from its text when it was set; here it gets the message.

use super::request;
use crate::js::shared::Shared;
use rquickjs::{Ctx, Function, Object, Result, Value};
use std::rc::Rc;

/// Gives the prelude `listen`: the message, if it was this event that started the run.
pub(super) fn install<'js>(
    ctx: &Ctx<'js>,
    shared: &Rc<Shared<'js>>,
    host: &Object<'js>,
) -> Result<()> {
    let shared = Rc::clone(shared);
    let listen = move |ctx: Ctx<'js>, key: String| -> Result<Value<'js>> {
        match &shared.job.webhook {
            Some(webhook) if !key.is_empty() && webhook.event_key == key => {
                request::new(&ctx, &shared, webhook)
            }
            Some(_) | None => Ok(Value::new_undefined(ctx)),
        }
    };
    host.set("listen", Function::new(ctx.clone(), listen)?)
}
