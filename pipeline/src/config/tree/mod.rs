//! A YAML document as a tree that knows where each part was written.

mod parse;
mod scalar;

pub use parse::{Document, MAX_BYTES, MAX_DEPTH, MAX_NODES, TextFault, parse};
pub use scalar::{go_float, json_float};

use serde_json::{Map, Number, Value};

/// A place in the text; both count from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// A part of the document. What came from an alias is where its anchor is.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: Position,
    /// What it is.
    pub kind: Kind,
}

/// What a part of the document is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number too large for `Int`.
    Large(u64),
    /// A number with a fraction or an exponent; finite.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file, each key once.
    Map(Vec<Entry>),
}

/// An entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its key as text.
    pub key: String,
    /// Where the key is.
    pub at: Position,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The entry of that key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value),
            _ => None,
        }
    }

    /// As JSON: a number without a fraction is a whole one, as Concourse has it.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Int(value) => Value::from(*value),
            Kind::Large(value) => Value::from(*value),
            Kind::Float(value) => float_value(*value),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Kind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// A JSON value at a place.
    pub fn from_value(value: Value, at: Position) -> Self {
        let kind = match value {
            Value::Null => Kind::Null,
            Value::Bool(value) => Kind::Bool(value),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Kind::Int(value),
                (None, Some(value)) => Kind::Large(value),
                (None, None) => Kind::Float(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Kind::Text(text),
            Value::Array(items) => Kind::List(
                items
                    .into_iter()
                    .map(|item| Self::from_value(item, at))
                    .collect(),
            ),
            Value::Object(map) => Kind::Map(
                map.into_iter()
                    .map(|(key, value)| Entry {
                        key,
                        at,
                        value: Self::from_value(value, at),
                    })
                    .collect(),
            ),
        };
        Self { at, kind }
    }

    /// For messages: what this is, in a word or two, without showing long or secret text.
    pub fn told(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "a boolean",
            Kind::Int(_) | Kind::Large(_) | Kind::Float(_) => "a number",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }
}

fn float_value(value: f64) -> Value {
    // Below 2^53 every whole number is exact.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// What an unquoted text is read as; `None` for a number JSON has not.
pub(crate) fn resolves_to(text: &str) -> Option<Kind> {
    scalar::resolve(text).ok()
}
