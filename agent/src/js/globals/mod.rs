//! What a pipeline finds in its world, one global a file.

mod console;
mod context;
mod headers;
mod http;
mod reply;
mod run;
mod run_config;
mod timers;
mod trigger;
mod units;

use super::shared::Shared;
use rquickjs::{Ctx, Result};
use std::rc::Rc;

/// Defines them all.
pub(super) fn install<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<()> {
    let globals = ctx.globals();
    globals.set("http", http::new(ctx, shared)?)?;
    globals.set("console", console::new(ctx, shared)?)?;
    globals.set("pipelineContext", context::new(ctx, &shared.job)?)?;
    globals.set("webhookTrigger", trigger::new(ctx, shared)?)?;
    globals.set("runtime", run::new(ctx, shared)?)?;
    timers::install(ctx, shared)
}
