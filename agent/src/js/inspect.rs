//! Values as people read them: what `console.log` is given, and thrown things that are no errors.
//!
//! The author's getters are never called (they are shown as `[Getter]`), proxies are looked through, circles and depth are
//! cut. What cannot be shown is named; the only error is the interrupt.

use super::Program;
use super::failure::{headline, property};
use super::layout::{is_identifier, layout, quote};
use super::position::map_stack;
use super::value::{caught, text};
use rquickjs::function::{Constructor, This};
use rquickjs::object::Filter;
use rquickjs::promise::PromiseState;
use rquickjs::{Coerced, Ctx, Function, Object, Result, Type, Value};

/// Objects in objects are shown this deep.
const MAX_DEPTH: usize = 4;
/// Items of one array, object, map or set.
const MAX_ITEMS: usize = 100;
/// Bytes of one line of `console.log`.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

/// One value, strings in quotes.
pub(super) fn inspect<'js>(
    ctx: &Ctx<'js>,
    program: &Program,
    value: &Value<'js>,
) -> Result<String> {
    Inspector::new(ctx, program).show(value, 0)
}

struct Inspector<'a, 'js> {
    ctx: &'a Ctx<'js>,
    program: &'a Program,
    /// `Object.getOwnPropertyDescriptor`; `None` when the author has broken it.
    descriptor: Option<Function<'js>>,
    around: Vec<Value<'js>>,
    left_bytes: usize,
}

impl<'a, 'js> Inspector<'a, 'js> {
    fn new(ctx: &'a Ctx<'js>, program: &'a Program) -> Self {
        let object: Result<Object> = ctx.globals().get("Object");
        let descriptor = object
            .and_then(|object| object.get("getOwnPropertyDescriptor"))
            .ok();
        Self {
            ctx,
            program,
            descriptor,
            around: Vec::new(),
            left_bytes: MAX_LINE_BYTES,
        }
    }

    fn show(&mut self, value: &Value<'js>, depth: usize) -> Result<String> {
        let shown = match value.type_of() {
            Type::Undefined | Type::Uninitialized => "undefined".to_owned(),
            Type::Null => "null".to_owned(),
            Type::Bool => value.as_bool().unwrap_or_default().to_string(),
            Type::Float
                if value
                    .as_float()
                    .is_some_and(|float| float == 0.0 && float.is_sign_negative()) =>
            {
                "-0".to_owned()
            }
            Type::Int | Type::Float => self.coerced(value)?,
            Type::BigInt => self.coerced(value)? + "n",
            Type::String => value
                .as_string()
                .and_then(|string| text(string).ok())
                .map_or_else(String::new, |s| quote(&s)),
            Type::Symbol => {
                let description = value
                    .as_symbol()
                    .and_then(|symbol| symbol.description().ok());
                format!(
                    "Symbol({})",
                    description.map_or(Ok(String::new()), |d| self.bare(&d))?
                )
            }
            _ => return self.show_object(value, depth),
        };
        self.left_bytes = self.left_bytes.saturating_sub(shown.len());
        Ok(shown)
    }

    fn show_object(&mut self, value: &Value<'js>, depth: usize) -> Result<String> {
        let Some(object) = value.as_object() else {
            return Ok("[?]".to_owned());
        };
        if let Some(proxy) = value.as_proxy() {
            return match proxy.target() {
                Ok(target) => self.show(target.as_value(), depth),
                Err(error) => self.unshowable(error),
            };
        }
        if self.around.contains(value) {
            return Ok("[Circular]".to_owned());
        }
        if value.is_error() {
            return Ok(self.error(object));
        }
        let class = self.class_name(object)?;
        let deep = depth >= MAX_DEPTH || self.left_bytes == 0;
        if deep && !value.is_function() {
            return Ok(format!(
                "[{}]",
                if value.is_array() {
                    "Array"
                } else {
                    class.as_deref().unwrap_or("Object")
                }
            ));
        }
        self.around.push(value.clone());
        let shown = self.show_kind(object, class, depth);
        self.around.pop();
        match shown {
            Ok(shown) => Ok(shown),
            Err(error) => self.unshowable(error),
        }
    }

    fn show_kind(
        &mut self,
        object: &Object<'js>,
        class: Option<String>,
        depth: usize,
    ) -> Result<String> {
        if object.is_function() {
            let name = self
                .data(object, "name")?
                .map_or(Ok(String::new()), |name| self.bare(&name))?;
            let kind = if name.is_empty() {
                "[Function (anonymous)]".to_owned()
            } else {
                format!("[Function: {name}]")
            };
            let entries = self.properties(object, depth, false)?;
            return Ok(if entries.is_empty() {
                kind
            } else {
                layout(&format!("{kind} "), '{', entries, '}')
            });
        }
        if object.is_array()
            || super::value::is_binary(object.as_value()) && !object.is_array_buffer()
        {
            return self.list(object, class, depth);
        }
        if let Some(promise) = object.as_promise() {
            let state = match promise.state() {
                PromiseState::Pending => "<pending>",
                PromiseState::Resolved => "<resolved>",
                PromiseState::Rejected => "<rejected>",
            };
            return Ok(format!("Promise {{ {state} }}"));
        }
        for (name, pairs) in [("Map", true), ("Set", false)] {
            if self.is_a(object, name) {
                let (entries, size) = self.iterate(object, pairs, depth)?;
                return Ok(layout(&format!("{name}({size}) "), '{', entries, '}'));
            }
        }
        if self.is_a(object, "Date") || self.is_a(object, "RegExp") {
            let method = if self.is_a(object, "Date") {
                "toJSON"
            } else {
                "toString"
            };
            let method: Function = object.get(method)?;
            let shown: Value = method.call((This(object.clone()),))?;
            return if shown.is_null() {
                Ok("Invalid Date".to_owned())
            } else {
                self.bare(&shown)
            };
        }
        if let Some(buffer) = object.as_array_buffer() {
            return Ok(format!("ArrayBuffer {{ byteLength: {} }}", buffer.len()));
        }
        let prefix = class
            .filter(|class| class != "Object")
            .map_or(String::new(), |class| format!("{class} "));
        Ok(layout(
            &prefix,
            '{',
            self.properties(object, depth, false)?,
            '}',
        ))
    }

    /// `Name: message`, the stack in the author's lines.
    fn error(&mut self, error: &Object<'js>) -> String {
        let mut shown = headline(error);
        let stack = map_stack(self.program, &property(error, "stack").unwrap_or_default()).stack;
        if !stack.is_empty() {
            shown.push('\n');
            shown.push_str(&stack);
        }
        shown
    }

    fn list(&mut self, list: &Object<'js>, class: Option<String>, depth: usize) -> Result<String> {
        let length = self.data_or_get_length(list)?;
        let mut entries = Vec::new();
        for index in 0..length.min(MAX_ITEMS) {
            let index = index as u32;
            entries.push(match self.own(list, index)? {
                Own::Missing => "<empty>".to_owned(),
                Own::Accessor(kind) => kind.to_owned(),
                Own::Data(value) => self.show(&value, depth + 1)?,
            });
        }
        if length > MAX_ITEMS {
            entries.push(format!("… {} more", length - MAX_ITEMS));
        }
        if list.is_array() {
            entries.extend(self.properties(list, depth, true)?);
            return Ok(layout("", '[', entries, ']'));
        }
        Ok(layout(
            &format!("{}({length}) ", class.as_deref().unwrap_or("TypedArray")),
            '[',
            entries,
            ']',
        ))
    }

    fn data_or_get_length(&self, list: &Object<'js>) -> Result<usize> {
        Ok(list.get::<_, Coerced<f64>>("length")?.0.max(0.0) as usize)
    }

    /// `name: value` of the enumerable own properties; of an array only those that are no items.
    fn properties(
        &mut self,
        object: &Object<'js>,
        depth: usize,
        named_only: bool,
    ) -> Result<Vec<String>> {
        let mut entries = Vec::new();
        let mut more = 0usize;
        for key in object.own_keys::<String>(Filter::new().string().enum_only()) {
            let Ok(key) = key else { continue };
            if named_only && key.parse::<u32>().is_ok() {
                continue;
            }
            if entries.len() >= MAX_ITEMS || self.left_bytes == 0 {
                more += 1;
                continue;
            }
            let value = match self.own(object, key.as_str())? {
                Own::Missing => continue,
                Own::Accessor(kind) => kind.to_owned(),
                Own::Data(value) => self.show(&value, depth + 1)?,
            };
            entries.push(format!(
                "{}: {value}",
                if is_identifier(&key) {
                    key
                } else {
                    quote(&key)
                }
            ));
        }
        if more > 0 {
            entries.push(format!("… {more} more"));
        }
        Ok(entries)
    }

    /// Entries of a map or set, and its size.
    fn iterate(
        &mut self,
        object: &Object<'js>,
        pairs: bool,
        depth: usize,
    ) -> Result<(Vec<String>, usize)> {
        let size = object.get::<_, Coerced<f64>>("size")?.0.max(0.0) as usize;
        let iterator: Object = object
            .get::<_, Function>("entries")?
            .call((This(object.clone()),))?;
        let next: Function = iterator.get("next")?;
        let mut entries = Vec::new();
        while entries.len() < MAX_ITEMS {
            let step: Object = next.call((This(iterator.clone()),))?;
            if step.get::<_, Coerced<bool>>("done")?.0 {
                return Ok((entries, size));
            }
            let pair: Object = step.get("value")?;
            let key = self.show(&pair.get(0u32)?, depth + 1)?;
            entries.push(if pairs {
                format!("{key} => {}", self.show(&pair.get(1u32)?, depth + 1)?)
            } else {
                key
            });
        }
        if size > MAX_ITEMS {
            entries.push(format!("… {} more", size - MAX_ITEMS));
        }
        Ok((entries, size))
    }

    /// The name of the constructor; `None` for objects without a prototype.
    fn class_name(&self, object: &Object<'js>) -> Result<Option<String>> {
        let Some(prototype) = object.get_prototype() else {
            return Ok(Some("[Object: null prototype]".to_owned()));
        };
        if prototype.as_value().is_proxy() {
            return Ok(None);
        }
        let Some(constructor) = self.data(&prototype, "constructor")? else {
            return Ok(None);
        };
        let Some(constructor) = constructor.as_object().filter(|_| !constructor.is_proxy()) else {
            return Ok(None);
        };
        match self
            .data(constructor, "name")?
            .as_ref()
            .and_then(Value::as_string)
        {
            Some(name) => Ok(text(name).ok().filter(|name| !name.is_empty())),
            None => Ok(None),
        }
    }

    fn is_a(&self, object: &Object<'js>, class: &str) -> bool {
        self.ctx
            .globals()
            .get::<_, Constructor>(class)
            .is_ok_and(|class| object.is_instance_of(class.as_value()))
    }

    /// An own data property.
    fn data(&self, object: &Object<'js>, name: &str) -> Result<Option<Value<'js>>> {
        Ok(match self.own(object, name)? {
            Own::Data(value) => Some(value),
            Own::Missing | Own::Accessor(_) => None,
        })
    }

    /// A property without running the author's code.
    fn own<K: rquickjs::IntoJs<'js>>(&self, object: &Object<'js>, key: K) -> Result<Own<'js>> {
        let Some(descriptor) = &self.descriptor else {
            return Ok(Own::Missing);
        };
        let found: Value = descriptor.call((object.clone(), key))?;
        let Some(found) = found.as_object() else {
            return Ok(Own::Missing);
        };
        if found.contains_key("value")? {
            return Ok(Own::Data(found.get("value")?));
        }
        let (get, set): (Value, Value) = (found.get("get")?, found.get("set")?);
        Ok(Own::Accessor(
            match (get.is_function(), set.is_function()) {
                (true, true) => "[Getter/Setter]",
                (false, true) => "[Setter]",
                _ => "[Getter]",
            },
        ))
    }

    /// A primitive as text.
    fn coerced(&self, value: &Value<'js>) -> Result<String> {
        match value.get::<Coerced<String>>() {
            Ok(shown) => Ok(shown.0),
            Err(error) => self.unshowable(error),
        }
    }

    /// A string without quotes; anything else is nothing.
    fn bare(&self, value: &Value<'js>) -> Result<String> {
        Ok(value
            .as_string()
            .and_then(|string| text(string).ok())
            .unwrap_or_default())
    }

    fn unshowable(&self, error: rquickjs::Error) -> Result<String> {
        caught(self.ctx, error)?;
        Ok("[not to be shown]".to_owned())
    }
}

enum Own<'js> {
    Missing,
    Data(Value<'js>),
    Accessor(&'static str),
}
