//! `webhookTrigger(expression)`: go on only for the webhooks that match.

use crate::js::shared::Shared;
use crate::js::value::{text, type_name};
use rquickjs::function::Opt;
use rquickjs::{Ctx, Exception, Function, Result, Value};
use std::rc::Rc;

/// The function.
pub(super) fn new<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<Function<'js>> {
    let shared = Rc::clone(shared);
    Function::new(
        ctx.clone(),
        move |ctx: Ctx<'js>, expression: Opt<Value<'js>>| -> Result<bool> {
            let expression = expression
                .0
                .unwrap_or_else(|| Value::new_undefined(ctx.clone()));
            let Some(expression) = expression.as_string() else {
                let got = type_name(&expression);
                return Err(Exception::throw_type(
                    &ctx,
                    &format!("webhookTrigger: an expression (string) is expected, got {got}"),
                ));
            };
            let expression = text(expression)?;
            if shared.job.webhook.is_none() {
                return Ok(true);
            }
            Ok(shared
                .ask(|host| host.webhook_trigger(&expression))
                .unwrap_or(Ok(false))
                .unwrap_or_else(|error| {
                    shared.note(&format!("webhookTrigger: {error}; the result is false"));
                    false
                }))
        },
    )?
    .with_name("webhookTrigger")
}
