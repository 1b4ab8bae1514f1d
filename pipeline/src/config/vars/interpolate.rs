//! Puts values in the place of vars, in JSON values and in trees with positions.

use super::{Lookup, Reference, VarError};
use crate::config::tree::{Entry, Kind, Node, Position};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashSet};

/// Most bytes that vars may put in at once: a few of them, each used many times, could fill any memory.
const MAX_PUT_IN_BYTES: usize = 16 << 20;
/// What a node of a value counts besides its text.
const NODE_BYTES: usize = 16;

/// What happens to a var nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It stays as text: it is looked up later.
    Lax,
    /// It is an error.
    Strict,
}

/// The value with its vars replaced.
///
/// # Errors
/// All faults: in the order found, then the unknown vars (of [`Mode::Strict`]) together.
pub fn interpolate(value: &Value, lookup: &dyn Lookup, mode: Mode) -> Result<Value, Vec<VarError>> {
    let mut work = Work::new(lookup);
    let value = work.value(value);
    let mut errors: Vec<_> = work.errors.into_iter().map(|(_, error)| error).collect();
    if mode == Mode::Strict && !work.missing.is_empty() {
        errors.push(VarError::Undefined(work.missing.into_iter().collect()));
    }
    if errors.is_empty() {
        Ok(value)
    } else {
        Err(errors)
    }
}

/// A tree with its vars replaced, those that are unknown kept as text.
///
/// # Errors
/// All faults and where they are.
pub fn interpolate_tree(
    node: Node,
    lookup: &dyn Lookup,
) -> Result<Node, Vec<(Position, VarError)>> {
    let mut work = Work::new(lookup);
    let node = work.node(node);
    if work.errors.is_empty() {
        Ok(node)
    } else {
        Err(work.errors)
    }
}

/// The vars that a value asks for, each once.
///
/// # Errors
/// What stands between some parentheses is no var.
pub fn used(value: &Value) -> Result<BTreeSet<Reference>, VarError> {
    let mut found = BTreeSet::new();
    collect(value, &mut found)?;
    Ok(found)
}

fn collect(value: &Value, found: &mut BTreeSet<Reference>) -> Result<(), VarError> {
    match value {
        Value::String(text) => {
            for (_, name) in names(text) {
                found.insert(Reference::parse(name)?);
            }
        }
        Value::Array(items) => items.iter().try_for_each(|item| collect(item, found))?,
        Value::Object(map) => {
            for (key, value) in map {
                for (_, name) in names(key) {
                    found.insert(Reference::parse(name)?);
                }
                collect(value, found)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

/// Whether a text has no vars in it.
pub(crate) fn is_plain(text: &str) -> bool {
    names(text).is_empty()
}

/// Where vars stand in a text (the offset of the first parenthesis) and what is between the parentheses.
pub(super) fn names(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("((").map(|at| at + from) {
        let inner = &text[at + 2..];
        let end = inner
            .find(|c: char| !(c.is_alphabetic() || is_name_ascii(c)))
            .unwrap_or(inner.len());
        if end > 0 && inner[end..].starts_with("))") {
            found.push((at, &inner[..end]));
            from = at + 2 + end + 2;
        } else {
            from = at + 1;
        }
    }
    found
}

fn is_name_ascii(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '.' | '_' | ':' | '@' | '"')
}

struct Work<'a> {
    lookup: &'a dyn Lookup,
    errors: Vec<(Position, VarError)>,
    missing: BTreeSet<String>,
    /// Bytes that may still be put in; `None` once that was too much.
    left: Option<usize>,
    at: Position,
}

impl<'a> Work<'a> {
    fn new(lookup: &'a dyn Lookup) -> Self {
        Self {
            lookup,
            errors: Vec::new(),
            missing: BTreeSet::new(),
            left: Some(MAX_PUT_IN_BYTES),
            at: Position::default(),
        }
    }

    /// The text with its vars replaced; `None` if there are none.
    fn text(&mut self, text: &str) -> Option<Value> {
        let names = names(text);
        if let [(0, name)] = names.as_slice()
            && name.len() + 4 == text.len()
        {
            return self.found(name);
        }
        if names.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        for (at, name) in names {
            let end = at + name.len() + 4;
            out.push_str(&text[from..at]);
            match self.found(name) {
                None => out.push_str(&text[at..end]),
                Some(Value::String(value)) => out.push_str(&value),
                Some(Value::Number(number)) if !number.is_f64() => {
                    out.push_str(&number.to_string());
                }
                Some(other) => self.errors.push((
                    self.at,
                    VarError::NotText {
                        name: name.to_owned(),
                        kind: go_kind(&other),
                    },
                )),
            }
            from = end;
        }
        out.push_str(&text[from..]);
        Some(Value::String(out))
    }

    fn found(&mut self, name: &str) -> Option<Value> {
        // Told once; nothing more is put in.
        let left = self.left?;
        let looked_up = Reference::parse(name)
            .and_then(|reference| Ok((self.lookup.get(&reference)?, reference)));
        match looked_up {
            Ok((Some(value), _)) => {
                self.left = take(left, &value);
                if self.left.is_none() {
                    let limit = MAX_PUT_IN_BYTES >> 20;
                    self.errors.push((self.at, VarError::TooLarge { limit }));
                    return None;
                }
                Some(value)
            }
            Ok((None, reference)) => {
                self.missing.insert(reference.to_string());
                None
            }
            Err(error) => {
                self.errors.push((self.at, error));
                None
            }
        }
    }

    fn key(&mut self, key: &str) -> String {
        match self.text(key) {
            Some(Value::String(key)) => key,
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(value)) => value.to_string(),
            Some(other) => {
                self.errors.push((
                    self.at,
                    VarError::NotText {
                        name: key.trim_matches(['(', ')']).to_owned(),
                        kind: go_kind(&other),
                    },
                ));
                key.to_owned()
            }
            None => key.to_owned(),
        }
    }

    fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).unwrap_or_else(|| value.clone()),
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.value(item)).collect())
            }
            Value::Object(map) => {
                let mut out = Map::new();
                let mut merged = Vec::new();
                for (key, value) in map {
                    let is_merge = key == "<<";
                    let value = self.value(value);
                    match value {
                        Value::Object(more) if is_merge => merged.push(more),
                        value => {
                            let key = self.key(key);
                            out.insert(key, value);
                        }
                    }
                }
                for (key, value) in merged.into_iter().flatten() {
                    out.entry(key).or_insert(value);
                }
                Value::Object(out)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn node(&mut self, node: Node) -> Node {
        let at = node.at;
        let kind = match node.kind {
            Kind::Text(text) => {
                self.at = at;
                return match self.text(&text) {
                    Some(value) => Node::from_value(value, at),
                    None => Node {
                        at,
                        kind: Kind::Text(text),
                    },
                };
            }
            Kind::List(items) => {
                Kind::List(items.into_iter().map(|item| self.node(item)).collect())
            }
            Kind::Map(entries) => Kind::Map(self.entries(entries)),
            kind => kind,
        };
        Node { at, kind }
    }

    fn entries(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut out = Vec::with_capacity(entries.len());
        let mut merged = Vec::new();
        for entry in entries {
            let value = self.node(entry.value);
            match value.kind {
                Kind::Map(more) if entry.key == "<<" => merged.extend(more),
                kind => {
                    self.at = entry.at;
                    out.push(Entry {
                        key: self.key(&entry.key),
                        at: entry.at,
                        value: Node { at: value.at, kind },
                    });
                }
            }
        }
        if !merged.is_empty() {
            let mut known: HashSet<String> = out.iter().map(|entry| entry.key.clone()).collect();
            out.extend(
                merged
                    .into_iter()
                    .filter(|entry| known.insert(entry.key.clone())),
            );
        }
        out
    }
}

/// What is left when this value is put in; `None` if that is too much.
fn take(left: usize, value: &Value) -> Option<usize> {
    let left = left.checked_sub(NODE_BYTES)?;
    match value {
        Value::String(text) => left.checked_sub(text.len()),
        Value::Array(items) => items.iter().try_fold(left, take),
        Value::Object(map) => map.iter().try_fold(left, |left, (key, value)| {
            take(left.checked_sub(key.len())?, value)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(left),
    }
}

/// A value's type as Go prints it.
pub(crate) fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
