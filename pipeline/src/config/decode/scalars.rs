//! Values of the common types, taken by their keys.

use super::Decoder;
use super::fields::{Fields, Manner, list};
use crate::config::model::Params;
use crate::config::tree::{Kind, Node, go_float, json_float};
use crate::duration;
use serde_json::Value;
use std::collections::BTreeMap;

impl Fields<'_> {
    /// Text; empty if absent.
    pub fn text(&mut self, decoder: &mut Decoder, key: &str) -> String {
        self.optional_text(decoder, key).unwrap_or_default()
    }

    /// Text, if the key is there; null is empty text.
    pub fn optional_text(&mut self, decoder: &mut Decoder, key: &str) -> Option<String> {
        let node = self.take(key)?;
        let path = self.path_of(key);
        Some(text(decoder, node, &path, self.manner))
    }

    /// A boolean; false if absent.
    pub fn flag(&mut self, decoder: &mut Decoder, key: &str) -> bool {
        let Some(node) = self.some(key) else {
            return false;
        };
        match node.kind {
            Kind::Bool(value) => value,
            _ => {
                decoder.expected(&self.path_of(key), node, "true or false");
                false
            }
        }
    }

    /// A whole number.
    pub fn whole(&mut self, decoder: &mut Decoder, key: &str) -> Option<i64> {
        let node = self.some(key)?;
        let path = self.path_of(key);
        whole(decoder, node, &path)
    }

    /// A whole number that is not negative and not huge.
    pub fn count(&mut self, decoder: &mut Decoder, key: &str) -> Option<u32> {
        let node = self.some(key)?;
        let path = self.path_of(key);
        let value = whole(decoder, node, &path)?;
        let count = u32::try_from(value).ok();
        if count.is_none() {
            decoder.fault(&path, node.at, format!("must be 0 or more, not {value}"));
        }
        count
    }

    /// A list of texts.
    pub fn texts(&mut self, decoder: &mut Decoder, key: &str) -> Vec<String> {
        let Some(node) = self.some(key) else {
            return Vec::new();
        };
        let path = self.path_of(key);
        list(decoder, node, &path)
            .iter()
            .enumerate()
            .map(|(i, item)| text(decoder, item, &format!("{path}[{i}]"), self.manner))
            .collect()
    }

    /// A free map.
    pub fn params(&mut self, decoder: &mut Decoder, key: &str) -> Params {
        let Some(node) = self.some(key) else {
            return Params::new();
        };
        match node.to_value() {
            Value::Object(map) => map,
            _ => {
                decoder.expected(&self.path_of(key), node, "a map");
                Params::new()
            }
        }
    }

    /// A map of texts.
    pub fn text_map(
        &mut self,
        decoder: &mut Decoder,
        key: &str,
    ) -> Option<BTreeMap<String, String>> {
        let node = self.some(key)?;
        let path = self.path_of(key);
        let Kind::Map(entries) = &node.kind else {
            decoder.expected(&path, node, "a map");
            return None;
        };
        Some(
            entries
                .iter()
                .map(|entry| {
                    let path = format!("{path}.{}", entry.key);
                    let value = text(decoder, &entry.value, &path, self.manner);
                    (entry.key.clone(), value)
                })
                .collect(),
        )
    }

    /// An environment: any value becomes text.
    pub fn env(&mut self, decoder: &mut Decoder, key: &str) -> BTreeMap<String, String> {
        let Some(node) = self.some(key) else {
            return BTreeMap::new();
        };
        let Kind::Map(entries) = &node.kind else {
            decoder.expected(&self.path_of(key), node, "a map");
            return BTreeMap::new();
        };
        entries
            .iter()
            .map(|entry| (entry.key.clone(), env_text(&entry.value)))
            .collect()
    }

    /// A duration as Go writes it, checked; empty if absent. A `((var))` in it is for later.
    pub fn duration(&mut self, decoder: &mut Decoder, key: &str) -> String {
        let Some(node) = self.some(key) else {
            return String::new();
        };
        let path = self.path_of(key);
        let Kind::Text(text) = &node.kind else {
            decoder.expected(&path, node, "a duration such as 1h30m");
            return String::new();
        };
        if !text.contains("((")
            && let Err(error) = duration::parse_go(text)
        {
            decoder.fault(&path, node.at, error.to_string());
        }
        text.clone()
    }
}

/// Text, by the manner.
pub fn text(decoder: &mut Decoder, node: &Node, path: &str, manner: Manner) -> String {
    match (&node.kind, manner) {
        (Kind::Text(text), _) => text.clone(),
        (Kind::Null, _) => String::new(),
        (Kind::Bool(value), Manner::Loose) => value.to_string(),
        (Kind::Int(value), Manner::Loose) => value.to_string(),
        (Kind::Large(value), Manner::Loose) => value.to_string(),
        (Kind::Float(value), Manner::Loose) => go_float(*value),
        (Kind::Bool(_) | Kind::Int(_) | Kind::Large(_) | Kind::Float(_), Manner::Strict) => {
            let hint = format!("text (write it in quotes), not {}", node.told());
            decoder.fault(path, node.at, format!("expected {hint}"));
            String::new()
        }
        (Kind::List(_) | Kind::Map(_), _) => {
            decoder.expected(path, node, "text");
            String::new()
        }
    }
}

/// A whole number; a float without a fraction is one.
pub fn whole(decoder: &mut Decoder, node: &Node, path: &str) -> Option<i64> {
    let value = match node.kind {
        Kind::Int(value) => Some(value),
        Kind::Float(_) => node.to_value().as_i64(),
        _ => None,
    };
    if value.is_none() {
        decoder.expected(path, node, "a whole number");
    }
    value
}

/// What a value is in an environment: texts are themselves, null is empty, lists and maps are JSON. Numbers go through
/// 64-bit floats as in Concourse, so integers above 2^53 lose digits.
pub fn env_text(node: &Node) -> String {
    match &node.kind {
        Kind::Text(text) => text.clone(),
        Kind::Null => String::new(),
        Kind::Bool(value) => value.to_string(),
        Kind::Int(value) => json_float(*value as f64),
        Kind::Large(value) => json_float(*value as f64),
        Kind::Float(value) => json_float(*value),
        Kind::List(_) | Kind::Map(_) => go_json(&node.to_value()),
    }
}

/// What a value is in an environment, for values that come at run time (`((vars))` that are no text).
pub fn env_text_of(value: &Value) -> String {
    env_text(&Node::from_value(value.clone(), Default::default()))
}

/// JSON as Go writes it: `<`, `>` and `&` escaped.
fn go_json(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}
