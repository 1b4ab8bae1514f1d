//! What a webhook says, whatever form its sender chose: JSON as the body, or JSON in a form's field `payload`.

use serde_json::Value;

/// The body as JSON; of a form (GitHub, Gitea, Slack) its field `payload` as JSON. Null if there is neither.
pub fn payload_of(content_type: &str, body: &str) -> Value {
    if let Ok(value) = serde_json::from_str(body) {
        return value;
    }
    if !is_form(content_type) {
        return Value::Null;
    }
    url::form_urlencoded::parse(body.as_bytes())
        .find(|(name, _)| name == "payload")
        .and_then(|(_, text)| serde_json::from_str(&text).ok())
        .unwrap_or(Value::Null)
}

/// Whether the body is `application/x-www-form-urlencoded`.
pub fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_payload_is_found_in_json_and_in_forms() {
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let encoded = "a=1&payload=%7B%22ref%22%3A%22a+b%22%7D";
        assert_eq!(payload_of("", r#"{"a":1}"#), json!({"a": 1}));
        assert_eq!(payload_of(form, encoded), json!({"ref": "a b"}));
        assert_eq!(payload_of("text/plain", encoded), Value::Null);
        assert_eq!(payload_of(form, "payload=x"), Value::Null);
        assert_eq!(payload_of(form, r#"{"a":1}"#), json!({"a": 1}));
    }
}
