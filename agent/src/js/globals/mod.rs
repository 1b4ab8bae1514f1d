//! What a pipeline finds in its world: the globals every job needs at once, one a file, and the `lazy` ones.

mod address;
mod bytes;
mod console;
mod context;
mod digest;
mod event;
mod headers;
mod http;
pub(super) mod lazy;
mod natives;
mod reply;
mod request;
mod run;
mod run_config;
mod timers;
mod trigger;
pub(super) mod units;
mod yaml;

use super::shared::Shared;
use rquickjs::{Ctx, Result};
use std::rc::Rc;

/// Defines them all.
pub(super) fn install<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<lazy::Attach<'js>> {
    let globals = ctx.globals();
    globals.set("http", http::new(ctx, shared)?)?;
    globals.set("console", console::new(ctx, shared)?)?;
    globals.set("pipelineContext", context::new(ctx, &shared.job)?)?;
    trigger::install(ctx, shared)?;
    timers::install(ctx, shared)?;
    digest::install_math(ctx, shared)?;
    lazy::install(ctx, shared)
}
