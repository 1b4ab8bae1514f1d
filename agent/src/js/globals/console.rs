//! `console`: text for the job's log.

use crate::js::format::format;
use crate::js::host::ConsoleStream;
use crate::js::shared::Shared;
use rquickjs::function::Rest;
use rquickjs::{Ctx, Function, Object, Result, Value};
use std::rc::Rc;

/// Each method and where it writes.
const METHODS: [(&str, ConsoleStream); 5] = [
    ("log", ConsoleStream::Stdout),
    ("info", ConsoleStream::Stdout),
    ("debug", ConsoleStream::Stdout),
    ("warn", ConsoleStream::Stderr),
    ("error", ConsoleStream::Stderr),
];

/// The object.
pub(super) fn new<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<Object<'js>> {
    let console = Object::new(ctx.clone())?;
    for (name, stream) in METHODS {
        let shared = Rc::clone(shared);
        let write = Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, arguments: Rest<Value<'js>>| -> Result<()> {
                let mut line = format(&ctx, &shared.program, &arguments.0)?;
                line.push('\n');
                shared.ask(|host| host.console(stream, &line));
                Ok(())
            },
        )?;
        console.set(name, write.with_name(name)?)?;
    }
    Ok(console)
}
