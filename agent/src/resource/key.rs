//! What tells one fetched version from others.

use super::Version;
use super::kind::Known;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A hash of the type with its image's version, the source, the params and the version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) String);

impl Key {
    pub(super) fn of(known: &Known, version: &Version, params: &Value) -> Self {
        let params = match params {
            // No params, said in three ways.
            Value::Null => json!({}),
            params => sorted(params),
        };
        let source = sorted(&Value::Object(known.source.clone()));
        let all = json!([known.identity, source, params, version]).to_string();
        Self(hex::encode(Sha256::digest(all.as_bytes())))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the cache key is made of must not depend on the order of keys.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, Value> = map
                .iter()
                .map(|(name, value)| (name, sorted(value)))
                .collect();
            Value::Object(
                sorted
                    .into_iter()
                    .map(|(name, value)| (name.clone(), value))
                    .collect::<Map<String, Value>>(),
            )
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::built_in::BuiltIn;
    use crate::resource::kind::Kind;

    #[test]
    fn the_order_of_keys_says_nothing_and_everything_else_does() {
        let of = |source: &str, params: &str, identity: &str| {
            let known = Known {
                kind: Kind::BuiltIn(BuiltIn::Mock),
                source: serde_json::from_str(source).unwrap(),
                identity: json!(identity),
                privileged: false,
            };
            let version = Version::from([("ref".to_owned(), "1".to_owned())]);
            Key::of(&known, &version, &serde_json::from_str(params).unwrap())
        };
        let one = of(r#"{"a":1,"b":{"c":[1,2],"d":2}}"#, "null", "x");
        assert_eq!(one, of(r#"{"b":{"d":2,"c":[1,2]},"a":1}"#, "{}", "x"));
        assert_ne!(one, of(r#"{"b":{"d":2,"c":[2,1]},"a":1}"#, "{}", "x"));
        assert_ne!(
            one,
            of(r#"{"a":1,"b":{"c":[1,2],"d":2}}"#, r#"{"p":1}"#, "x")
        );
        assert_ne!(one, of(r#"{"a":1,"b":{"c":[1,2],"d":2}}"#, "{}", "y"));
    }
}
