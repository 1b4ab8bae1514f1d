//! Globals written in JavaScript over a few native functions, made when a program first looks at them.
//!
//! A job pays for what it uses: a context without them starts in a fraction of the time and memory. The sources are
//! part of this program; what they may do in the world is what `natives` gives them, nothing more.

use super::natives;
use crate::js::shared::Shared;
use rquickjs::context::EvalOptions;
use rquickjs::{Ctx, Exception, Function, Object, Result, Value};
use std::rc::Rc;

/// What file names of the prelude begin with; stacks are told without them.
pub(in crate::js) const PRELUDE: &str = "pocketci:";

/// Defines an accessor for each global, which loads its group at the first look, over native functions made once; returns
/// what gives an exported pipeline the members of the global that it hides. Parsed for every job: it has no comments.
const BOOTSTRAP: &str = include_str!("../prelude/bootstrap.js");

/// Groups, each followed by its globals.
const NAMES: &str = "runtime runtime;volumes volumes;fetch fetch Headers Response;url URL URLSearchParams;\
                     text TextEncoder TextDecoder atob btoa;abort AbortController AbortSignal;crypto crypto;\
                     assert assert AssertionError;pipeline pipeline stage gate;notify notify;storage storage;\
                     outside webhook event triggerPipeline;yaml yaml YAML;performance performance;clone structuredClone;date Date";

/// Each group's source: a function of the native ones that answers an object with the globals.
const GROUPS: &[(&str, &str)] = &[
    ("runtime", include_str!("../prelude/runtime.js")),
    ("volumes", include_str!("../prelude/volumes.js")),
    ("fetch", include_str!("../prelude/fetch.js")),
    ("url", include_str!("../prelude/url.js")),
    ("text", include_str!("../prelude/text.js")),
    ("abort", include_str!("../prelude/abort.js")),
    ("crypto", include_str!("../prelude/crypto.js")),
    ("assert", include_str!("../prelude/assert.js")),
    ("pipeline", include_str!("../prelude/pipeline.js")),
    ("notify", include_str!("../prelude/notify.js")),
    ("storage", include_str!("../prelude/storage.js")),
    ("outside", include_str!("../prelude/outside.js")),
    ("yaml", include_str!("../prelude/yaml.js")),
    ("performance", include_str!("../prelude/performance.js")),
    ("clone", include_str!("../prelude/clone.js")),
    ("date", include_str!("../prelude/date.js")),
];

/// Gives an exported pipeline the members of the global that it hides.
pub(in crate::js) struct Attach<'js>(Function<'js>);

impl<'js> Attach<'js> {
    pub(in crate::js) fn to(&self, pipeline: &Function<'js>) -> Result<()> {
        self.0.call((pipeline.clone(),))
    }
}

/// Defines the accessors.
pub(super) fn install<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<Attach<'js>> {
    let load = |ctx: Ctx<'js>, name: String, host: Object<'js>| -> Result<Value<'js>> {
        match GROUPS.iter().find(|(group, _)| *group == name) {
            Some((name, source)) => evaluate(&ctx, name, source)?.call((host,)),
            None => Err(Exception::throw_reference(&ctx, &name)),
        }
    };
    let load = Function::new(ctx.clone(), load)?;
    let shared = Rc::clone(shared);
    let natives = Function::new(ctx.clone(), move |ctx: Ctx<'js>| {
        natives::object(&ctx, &shared)
    })?;
    let attach = evaluate(ctx, "bootstrap", BOOTSTRAP)?.call((load, natives, NAMES))?;
    Ok(Attach(attach))
}

fn evaluate<'js>(ctx: &Ctx<'js>, name: &str, source: &str) -> Result<Function<'js>> {
    let mut options = EvalOptions::default();
    options.filename = Some(format!("{PRELUDE}{name}"));
    ctx.eval_with_options(source, options)
}
