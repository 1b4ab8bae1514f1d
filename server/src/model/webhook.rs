//! What settings say about a receiving point and about events, checked before they are stored.

use super::binding::{Binding, ProviderKind};
use super::endpoint::is_event_key;
use pocketci_pipeline::expression::Expression;
use pocketci_proto::api::{Listen, WebhookSettings};
use serde_json::{Map, Value};

/// Longest wait for a reply that a receiving point may ask for, in milliseconds.
const MAX_REPLY_WITHIN_MS: u64 = 3_600_000;
/// In place of a provider: the one of the first request that proves to know a secret.
pub const LEARN: &str = "learn";
/// Most events that a pipeline may listen to.
pub const MAX_LISTENS: usize = 100;

/// What settings say about the sender.
///
/// # Errors
/// What is wrong, for whoever saves them.
pub fn binding(settings: &WebhookSettings) -> Result<Binding, String> {
    if settings.provider.is_none() && settings.custom.is_none() && settings.options.is_none() {
        return Ok(Binding::default());
    }
    let mut all = match &settings.options {
        None => Map::new(),
        Some(Value::Object(options)) => options.clone(),
        Some(_) => return Err("options must be an object".into()),
    };
    for name in ["provider", "custom"] {
        if all.contains_key(name) {
            return Err(format!("{name} is no option; it stands beside options"));
        }
    }
    if let Some(provider) = settings.provider.as_deref().filter(|name| *name != LEARN) {
        if ProviderKind::parse(provider).is_none() {
            let known: Vec<&str> = ProviderKind::ALL.iter().map(|kind| kind.as_str()).collect();
            return Err(format!(
                "provider {provider:?} is not known; there are {LEARN}, {}",
                known.join(", ")
            ));
        }
        all.insert("provider".into(), provider.into());
    }
    if let Some(custom) = &settings.custom {
        all.insert("custom".into(), custom.clone());
    }
    let binding: Binding =
        serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())?;
    match binding.check() {
        Ok(()) => Ok(binding),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            Err(format!("{error}{cause}"))
        }
    }
}

/// Whether settings of a receiving point can be.
///
/// # Errors
/// What is wrong, for whoever saves them.
pub fn check(settings: &WebhookSettings) -> Result<(), String> {
    binding(settings)?;
    for (name, text) in [
        ("filter", &settings.filter),
        ("dedup_key", &settings.dedup_key),
    ] {
        if let Some(text) = text {
            Expression::compile(text).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    for (name, value, other) in [
        ("on_error", settings.on_error, 500),
        ("on_unrouted", settings.on_unrouted, 404),
        ("on_paused", settings.on_paused, 409),
    ] {
        if value.is_some_and(|status| status != 202 && status != other) {
            return Err(format!("{name} must be 202 or {other}"));
        }
    }
    if settings
        .reply_within_ms
        .is_some_and(|within| within > MAX_REPLY_WITHIN_MS)
    {
        return Err(format!(
            "reply_within_ms is more than {MAX_REPLY_WITHIN_MS}"
        ));
    }
    if settings.max_body_bytes == Some(0) || settings.rate_per_minute == Some(0) {
        return Err("a limit of 0 would let nothing in; disable the endpoint instead".into());
    }
    for method in settings.methods.iter().flatten() {
        let token = http::Method::from_bytes(method.as_bytes());
        let looks = ["HEAD", "OPTIONS", "TRACE", "CONNECT"].contains(&&**method);
        if token.is_err() || looks || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(format!(
                "methods: {method:?} cannot start anything; use names like POST, in capitals"
            ));
        }
    }
    if settings.methods.as_ref().is_some_and(Vec::is_empty) {
        return Err("methods: an empty list would let nothing in; leave it out instead".into());
    }
    Ok(())
}

/// Whether a pipeline can listen so.
///
/// # Errors
/// What is wrong, for whoever sets the pipeline.
pub fn check_listens(listens: &[Listen]) -> Result<(), String> {
    if listens.len() > MAX_LISTENS {
        return Err(format!(
            "a pipeline may listen to {MAX_LISTENS} events at most"
        ));
    }
    for listen in listens {
        if !is_event_key(&listen.event) {
            return Err(format!(
                "{:?} cannot be the key of an event: use 1 to 200 bytes without white space",
                listen.event
            ));
        }
        if let Some(filter) = &listen.filter {
            Expression::compile(filter)
                .map_err(|error| format!("filter of event {:?}: {error}", listen.event))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(value: Value) -> WebhookSettings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_binding_is_read_from_provider_custom_and_options() {
        let read = |value| binding(&settings(value));
        assert_eq!(read(json!({})), Ok(Binding::default()));
        assert_eq!(
            read(json!({"provider": "slack"})),
            Ok(Binding::to(ProviderKind::Slack))
        );
        for (value, named) in [
            (json!({"provider": "slak"}), "slak"),
            (json!({"provider": "custom"}), "scheme"),
            (json!({"options": {"colour": 1}}), "colour"),
            (json!({"options": {"provider": "slack"}}), "beside"),
        ] {
            let told = read(value).unwrap_err();
            assert!(told.contains(named), "{told}");
        }
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        for (value, named) in [
            (json!({"filter": "((("}), "filter"),
            (json!({"dedup_key": "((("}), "dedup_key"),
            (json!({"on_error": 404}), "on_error"),
            (json!({"on_unrouted": 500}), "on_unrouted"),
            (json!({"on_paused": 404}), "on_paused"),
            (json!({"methods": ["HEAD"]}), "HEAD"),
            (json!({"methods": ["post"]}), "post"),
            (json!({"methods": []}), "empty"),
            (json!({"rate_per_minute": 0}), "limit of 0"),
        ] {
            let told = check(&settings(value)).unwrap_err();
            assert!(told.contains(named), "{told}");
        }
        let fine = json!({"filter": "true", "on_error": 500, "methods": ["POST"]});
        assert_eq!(check(&settings(fine)), Ok(()));
    }

    #[test]
    fn a_listener_needs_a_key_and_a_filter_that_compiles() {
        let listen = |event: &str, filter: Option<&str>| Listen {
            event: event.into(),
            filter: filter.map(Into::into),
        };
        assert!(check_listens(&[listen("webhook.orders", Some("true"))]).is_ok());
        assert!(check_listens(&[listen("", None)]).is_err());
        assert!(check_listens(&[listen("a", Some("((("))]).is_err());
    }
}
