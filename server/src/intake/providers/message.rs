//! What a body says at its top level, read no further than needed: a few fields of a JSON object, or of a form.

use super::{IncomingRequest, Rejected};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// Longest event type that counts, and longest delivery id that is kept as it is, in characters. It is kept with refused webhooks too, of which the body is not.
const MAX_WORD_CHARS: usize = 128;

/// Some fields of a JSON object; of a field that is there twice the last counts, as in `JSON.parse`.
#[derive(Default)]
pub(super) struct Message(BTreeMap<String, Value>);

impl Message {
    /// The wanted fields of the body; none if it is no JSON object, or too large to be looked into.
    pub fn of(request: &IncomingRequest, wanted: &[&str]) -> Self {
        Self::signed(request, wanted).unwrap_or_default()
    }

    /// As [`Self::of`], where the fields decide about trust: a body that is too large is refused.
    pub fn signed(request: &IncomingRequest, wanted: &[&str]) -> Result<Self, Rejected> {
        Ok(Self::parse(&request.whole_body()?, wanted))
    }

    /// The wanted fields of a text.
    pub fn parse(text: &[u8], wanted: &[&str]) -> Self {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let found = reader.deserialize_map(Wanted(wanted));
        match (found, reader.end()) {
            (Ok(found), Ok(())) => Self(found),
            _ => Self::default(),
        }
    }

    /// A field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A field that is a word.
    pub fn word(&self, name: &str) -> Option<String> {
        self.get(name).and_then(Value::as_str).and_then(word)
    }

    /// A field that is a delivery's id.
    pub fn id(&self, name: &str) -> Option<String> {
        self.get(name).and_then(Value::as_str).and_then(id)
    }

    /// A field of a field that is a word.
    pub fn inner_word(&self, name: &str, inner: &str) -> Option<String> {
        self.get(name)?.get(inner)?.as_str().and_then(word)
    }
}

struct Wanted<'a>(&'a [&'a str]);

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = BTreeMap<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if self.0.contains(&name.as_str()) {
                found.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A text that can be an event's type: neither empty nor strange, that is too long, or with control
/// characters, which not every store can hold.
pub(super) fn word(text: &str) -> Option<String> {
    let good = !text.is_empty()
        && !text.contains(char::is_control)
        && text.chars().count() <= MAX_WORD_CHARS;
    good.then(|| text.to_owned())
}

/// A text that can be a delivery's id. One that is too long or strange is known by its SHA-256, in hex: without an id the
/// same delivery would be done twice.
pub(super) fn id(text: &str) -> Option<String> {
    match text.is_empty() {
        true => None,
        false => word(text).or_else(|| Some(hex::encode(Sha256::digest(text)))),
    }
}

/// A header's first line, as a delivery's id.
pub(super) fn id_header(request: &IncomingRequest, name: &str) -> Option<String> {
    let line = request.headers.get(name)?;
    id(&String::from_utf8_lossy(line.as_bytes()))
}

/// A header's first line, if it is a word.
pub(super) fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    let line = request.headers.get(name)?;
    word(&String::from_utf8_lossy(line.as_bytes()))
}

/// Whether the body is a form (`application/x-www-form-urlencoded`).
pub(super) fn is_form(request: &IncomingRequest) -> bool {
    let Some(kind) = request.headers.get(http::header::CONTENT_TYPE) else {
        return false;
    };
    let kind = kind.as_bytes();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or(kind);
    kind.trim_ascii()
        .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// The one value of a name in a form or query; a name that is there twice could mean either.
pub(super) fn pair(encoded: &[u8], wanted: &str) -> Result<Option<String>, Rejected> {
    let mut found = url::form_urlencoded::parse(encoded)
        .filter(|(name, _)| name == wanted)
        .map(|(_, value)| value.into_owned());
    let first = found.next();
    if found.next().is_some() {
        return Err(Rejected::SEVERAL_FIELDS);
    }
    Ok(first.filter(|value| !value.is_empty()))
}

/// The form's field, if the body is a form that has it once.
pub(super) fn form_field(request: &IncomingRequest, name: &str) -> Option<String> {
    if !is_form(request) {
        return None;
    }
    pair(&request.whole_body().ok()?, name).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_objects_own_fields_are_read() {
        let longest = "x".repeat(MAX_WORD_CHARS);
        for (body, kind) in [
            (r#"{"type":"event_callback"}"#, "event_callback"),
            (
                " \r\n\t{\"challenge\":[{}], \"type\":\"block_actions\"}",
                "block_actions",
            ),
            (r#"{"type":"first","type":"last"}"#, "last"),
            (r#"{"inner":{"type":"x"}}"#, ""),
            (&format!(r#"{{"type":"{longest}"}}"#), longest.as_str()),
            (&format!(r#"{{"type":"{longest}x"}}"#), ""),
            (r#"["event_callback"]"#, ""),
            (r#" ["event_callback"]"#, ""),
            (r#""event_callback""#, ""),
            (r#"{"type":["event_callback"]}"#, ""),
            (r#"{"type":null}"#, ""),
            (r#"{"type":"a\u0000b"}"#, ""),
            (r#"{"other":"x"}"#, ""),
            (r#"{"type":"x"} y"#, ""),
            ("\u{feff}{\"type\":\"x\"}", ""),
            ("{", ""),
            ("", ""),
        ] {
            let message = Message::parse(body.as_bytes(), &["type"]);
            assert_eq!(message.word("type").unwrap_or_default(), kind, "{body}");
        }
    }

    #[test]
    fn a_body_of_endless_brackets_says_nothing() {
        let deep = format!("{{\"a\":{}", "[".repeat(1_000_000));
        assert!(Message::parse(deep.as_bytes(), &["a"]).get("a").is_none());
        assert!(Message::parse(deep.as_bytes(), &["b"]).get("a").is_none());
    }
}
