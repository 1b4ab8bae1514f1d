//! `req.headers`: a plain object in lower case that answers to any case.
//!
//! The traps hold no JavaScript value: the collector cannot look into Rust functions, a circle through one would leak.

use crate::js::value::text;
use rquickjs::object::{Filter, Property};
use rquickjs::proxy::{Proxy, ProxyHandler, ProxyProperty, ProxyReceiver, ProxyTarget};
use rquickjs::{Ctx, Function, IntoJs, Object, Result, Value};
use std::collections::BTreeMap;

/// An object of strings, with any name (`__proto__` too).
pub(super) fn record<'js>(
    ctx: &Ctx<'js>,
    entries: &BTreeMap<String, String>,
) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    for (name, value) in entries {
        define(&object, name.as_str(), value.as_str())?;
    }
    Ok(object)
}

/// The headers; `entries` has lower-case names.
pub(super) fn new<'js>(ctx: &Ctx<'js>, entries: &BTreeMap<String, String>) -> Result<Value<'js>> {
    let handler = Object::new(ctx.clone())?;
    handler.set(
        "getOwnPropertyDescriptor",
        Function::new(ctx.clone(), descriptor)?,
    )?;
    let traps = ProxyHandler::from_object(handler)?;
    traps.set_getter(get)?;
    traps.set_has(|target: ProxyTarget<'js>, name: ProxyProperty<'js>| {
        let (name, _) = folded(&target.0, name)?;
        target.0.contains_key(name)
    })?;
    traps.set_setter(
        |target: ProxyTarget<'js>,
         name: ProxyProperty<'js>,
         value: Value<'js>,
         _: ProxyReceiver<'js>| { define(&target.0, lower(name)?, value).map(|()| true) },
    )?;
    traps.set_delete(|target: ProxyTarget<'js>, name: ProxyProperty<'js>| {
        let (name, _) = folded(&target.0, name)?;
        target.0.remove(name).map(|()| true)
    })?;
    let target = record(ctx, entries)?;
    Proxy::new(ctx.clone(), target, traps)?.into_js(ctx)
}

fn get<'js>(
    target: ProxyTarget<'js>,
    name: ProxyProperty<'js>,
    _: ProxyReceiver<'js>,
) -> Result<Value<'js>> {
    let (name, _) = folded(&target.0, name)?;
    target.0.get(name)
}

/// Of a configurable data property: the only kind there is unless the author defines another.
fn descriptor<'js>(
    ctx: Ctx<'js>,
    target: ProxyTarget<'js>,
    name: ProxyProperty<'js>,
) -> Result<Value<'js>> {
    let (name, own) = folded(&target.0, name)?;
    if !own {
        return Ok(Value::new_undefined(ctx));
    }
    let descriptor = Object::new(ctx)?;
    descriptor.set("value", target.0.get::<_, Value>(name)?)?;
    for flag in ["writable", "enumerable", "configurable"] {
        descriptor.set(flag, true)?;
    }
    Ok(descriptor.into_value())
}

pub(super) fn define<'js, N, V>(object: &Object<'js>, name: N, value: V) -> Result<()>
where
    N: rquickjs::IntoAtom<'js>,
    V: IntoJs<'js>,
{
    object.prop(
        name,
        Property::from(value).writable().configurable().enumerable(),
    )
}

/// The name in lower case when a header has it, and whether one has; otherwise as it is (`hasOwnProperty`…).
fn folded<'js>(target: &Object<'js>, name: ProxyProperty<'js>) -> Result<(Value<'js>, bool)> {
    let asked = name.0.clone();
    let lower = lower(name)?;
    let Some(wanted) = lower.as_string().map(text).transpose()? else {
        return Ok((asked, false));
    };
    for own in target.own_keys::<String>(Filter::new().string()) {
        if own? == wanted {
            return Ok((lower, true));
        }
    }
    Ok((asked, false))
}

fn lower<'js>(name: ProxyProperty<'js>) -> Result<Value<'js>> {
    match name.0.as_string() {
        Some(string) => text(string)?.to_ascii_lowercase().into_js(name.0.ctx()),
        None => Ok(name.0),
    }
}
