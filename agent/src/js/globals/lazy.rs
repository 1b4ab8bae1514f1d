//! Globals written in JavaScript over a few native functions, made when a program first looks at them.
//!
//! A job pays for what it uses: a context without them starts in a fraction of the time and memory. The sources are
//! part of this program; what they may do in the world is what `natives` gives them, nothing more.

use crate::js::shared::Shared;
use rquickjs::context::EvalOptions;
use rquickjs::{Array, Ctx, Function, Result, Value};
use std::rc::Rc;

use super::natives;

/// What file names of the prelude begin with; stacks are told without them.
pub(in crate::js) const PRELUDE: &str = "pocketci:";

const BOOTSTRAP: &str = include_str!("../prelude/bootstrap.js");
const ATTACH: &str = include_str!("../prelude/attach.js");

/// A source and the globals it makes.
struct Group {
    name: &'static str,
    globals: &'static [&'static str],
    source: &'static str,
}

const GROUPS: &[Group] = &[
    Group {
        name: "runtime",
        globals: &["runtime"],
        source: include_str!("../prelude/runtime.js"),
    },
    Group {
        name: "volumes",
        globals: &["volumes"],
        source: include_str!("../prelude/volumes.js"),
    },
    Group {
        name: "fetch",
        globals: &["fetch", "Headers", "Response"],
        source: include_str!("../prelude/fetch.js"),
    },
    Group {
        name: "url",
        globals: &["URL", "URLSearchParams"],
        source: include_str!("../prelude/url.js"),
    },
    Group {
        name: "text",
        globals: &["TextEncoder", "TextDecoder", "atob", "btoa"],
        source: include_str!("../prelude/text.js"),
    },
    Group {
        name: "abort",
        globals: &["AbortController", "AbortSignal"],
        source: include_str!("../prelude/abort.js"),
    },
    Group {
        name: "crypto",
        globals: &["crypto"],
        source: include_str!("../prelude/crypto.js"),
    },
    Group {
        name: "assert",
        globals: &["assert", "AssertionError"],
        source: include_str!("../prelude/assert.js"),
    },
    Group {
        name: "pipeline",
        globals: &["pipeline", "stage", "gate"],
        source: include_str!("../prelude/pipeline.js"),
    },
    Group {
        name: "notify",
        globals: &["notify"],
        source: include_str!("../prelude/notify.js"),
    },
    Group {
        name: "storage",
        globals: &["storage"],
        source: include_str!("../prelude/storage.js"),
    },
    Group {
        name: "outside",
        globals: &["webhook", "event", "triggerPipeline"],
        source: include_str!("../prelude/outside.js"),
    },
    Group {
        name: "yaml",
        globals: &["yaml", "YAML"],
        source: include_str!("../prelude/yaml.js"),
    },
    Group {
        name: "performance",
        globals: &["performance"],
        source: include_str!("../prelude/performance.js"),
    },
    Group {
        name: "clone",
        globals: &["structuredClone"],
        source: include_str!("../prelude/clone.js"),
    },
];

/// Defines the accessors.
pub(super) fn install<'js>(ctx: &Ctx<'js>, shared: &Rc<Shared<'js>>) -> Result<()> {
    let groups = Array::new(ctx.clone())?;
    for (index, group) in GROUPS.iter().enumerate() {
        let names = Array::new(ctx.clone())?;
        for (at, name) in group.globals.iter().enumerate() {
            names.set(at, *name)?;
        }
        let shared = Rc::clone(shared);
        let load = Function::new(ctx.clone(), move |ctx: Ctx<'js>| -> Result<Value<'js>> {
            let host = natives::object(&ctx, &shared)?;
            evaluate(&ctx, group.name, group.source)?.call((host,))
        })?;
        let entry = Array::new(ctx.clone())?;
        entry.set(0, names)?;
        entry.set(1, load)?;
        groups.set(index, entry)?;
    }
    evaluate(ctx, "bootstrap", BOOTSTRAP)?.call((groups,))
}

/// Gives an exported pipeline the members of the global that it hides.
pub(in crate::js) fn attach<'js>(ctx: &Ctx<'js>, pipeline: &Function<'js>) -> Result<()> {
    evaluate(ctx, "attach", ATTACH)?.call((pipeline.clone(),))
}

fn evaluate<'js>(ctx: &Ctx<'js>, name: &str, source: &str) -> Result<Function<'js>> {
    let mut options = EvalOptions::default();
    options.filename = Some(format!("{PRELUDE}{name}"));
    ctx.eval_with_options(source, options)
}
