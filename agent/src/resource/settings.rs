//! A resource's `source` and `params` as a struct: unknown keys are refused by name, values are never repeated.

use super::Stop;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::{Map, Value};

/// What the built-in type `type_name` makes of its `source` or `params`.
pub(super) fn decode<T: DeserializeOwned>(
    type_name: &str,
    part: &str,
    given: &Map<String, Value>,
) -> Result<T, Stop> {
    serde_path_to_error::deserialize(Value::Object(given.clone())).map_err(|error| {
        let path = error.path().to_string();
        let place = match path.as_str() {
            "." => part.to_owned(),
            path => format!("{part}.{path}"),
        };
        Stop::Errored(format!(
            "{type_name}: {place}: {}",
            without_value(&error.into_inner().to_string())
        ))
    })
}

/// `params` may be absent.
pub(super) fn decode_params<T: DeserializeOwned>(
    type_name: &str,
    params: &Value,
) -> Result<T, Stop> {
    match params {
        Value::Null => decode(type_name, "params", &Map::new()),
        Value::Object(params) => decode(type_name, "params", params),
        _ => Err(Stop::Errored(format!("{type_name}: params must be a map"))),
    }
}

/// `invalid type: string "hunter2", expected a boolean` without what is secret in it.
fn without_value(message: &str) -> String {
    if message.starts_with("unknown field") || message.starts_with("missing field") {
        return message.to_owned();
    }
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => "it is not what is expected here".to_owned(),
    }
}

/// Texts that YAML may take for numbers, such as a tag `1.20`.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Option::<Value>::deserialize(from)? {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
        Some(_) => {
            return Err(serde::de::Error::custom("a list or map, expected a text"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Deserialize, Debug, Default)]
    #[serde(deny_unknown_fields, default)]
    struct Source {
        depth: u32,
        #[serde(deserialize_with = "text")]
        tag: Option<String>,
    }

    fn of(value: Value) -> Result<Source, Stop> {
        decode("git", "source", value.as_object().unwrap())
    }

    #[test]
    fn unknown_keys_are_named_and_values_are_not() {
        let Err(Stop::Errored(said)) = of(json!({"dept": 1})) else {
            panic!()
        };
        assert!(
            said.starts_with("git: source: unknown field `dept`") || said.contains("`dept`"),
            "{said}"
        );
        let Err(Stop::Errored(said)) = of(json!({"depth": "hunter2"})) else {
            panic!()
        };
        assert!(
            said.contains("source.depth: expected") && !said.contains("hunter2"),
            "{said}"
        );
        assert_eq!(of(json!({"tag": 1.5})).unwrap().tag.as_deref(), Some("1.5"));
        assert!(of(json!({"tag": ["hunter2"]})).is_err());
    }
}
