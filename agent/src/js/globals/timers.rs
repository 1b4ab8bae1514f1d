//! `setTimeout`, `setInterval` and their ends, as in browsers. `queueMicrotask` is QuickJS's own.

use crate::js::shared::Shared;
use crate::js::timers::MAX_TIMERS;
use crate::js::value::type_name;
use rquickjs::function::{Opt, Rest};
use rquickjs::{Coerced, Ctx, Exception, Function, Result, Value};
use std::rc::Rc;
use std::time::Duration;

/// Longest delay; a longer one is a mistake and fires at once, as in browsers.
const MAX_DELAY_MS: f64 = 2_147_483_647.0;
/// Shortest interval: none may keep the loop from everything else.
const MIN_INTERVAL_MS: f64 = 1.0;

/// `setTimeout` or `setInterval`.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    repeat: bool,
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "setTimeout",
        repeat: false,
    },
    Kind {
        name: "setInterval",
        repeat: true,
    },
];

/// Defines the four functions.
pub(super) fn install<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<()> {
    for kind in KINDS {
        let shared = Rc::clone(shared);
        let start = Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, arguments: Rest<Value<'js>>| {
                start(&ctx, &shared, kind, arguments.0)
            },
        )?;
        ctx.globals().set(kind.name, start.with_name(kind.name)?)?;
    }
    for name in ["clearTimeout", "clearInterval"] {
        let shared = Rc::clone(shared);
        let stop = Function::new(ctx.clone(), move |id: Opt<Value<'js>>| {
            let id = id.0.and_then(|id| id.as_number());
            if let Some(id) = id.filter(|id| (0.0..=f64::from(u32::MAX)).contains(id)) {
                shared.timers.borrow_mut().stop(id as u32);
            }
        })?;
        ctx.globals().set(name, stop.with_name(name)?)?;
    }
    Ok(())
}

fn start<'js>(
    ctx: &Ctx<'js>,
    shared: &Shared<'js>,
    kind: Kind,
    arguments: Vec<Value<'js>>,
) -> Result<u32> {
    let Kind { name, repeat } = kind;
    let mut arguments = arguments.into_iter();
    let callback = arguments
        .next()
        .unwrap_or_else(|| Value::new_undefined(ctx.clone()));
    let Some(function) = callback.as_function() else {
        let got = type_name(&callback);
        return Err(Exception::throw_type(
            ctx,
            &format!("{name}: a function is expected, got {got}"),
        ));
    };
    let ms = match arguments.next() {
        Some(delay) => delay.get::<Coerced<f64>>()?.0,
        None => 0.0,
    };
    let ms = if ms.is_finite() && (0.0..=MAX_DELAY_MS).contains(&ms) {
        ms
    } else {
        0.0
    };
    let ms = if repeat { ms.max(MIN_INTERVAL_MS) } else { ms };
    let delay = Duration::from_secs_f64(ms / 1000.0);
    let id = shared.timers.borrow_mut().start(
        function.clone(),
        arguments.collect(),
        delay,
        repeat,
        false,
    );
    id.ok_or_else(|| {
        Exception::throw_range(
            ctx,
            &format!("{name}: more than {MAX_TIMERS} timers at a time"),
        )
    })
}
