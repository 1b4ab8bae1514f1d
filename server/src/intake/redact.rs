//! What may be kept and logged of an address: credentials in path and query are not.

use uuid::{Uuid, Variant, Version};

/// Names in a query whose values are credentials. `signature` is not: it is worth nothing without its body.
const SECRET_NAMES: &[&str] = &[
    "secret",
    "webhook_token",
    "token",
    "uuid",
    "access_token",
    "api_key",
    "apikey",
    "key",
    "password",
];
/// What stands in the place of a credential.
const HIDDEN: &str = "***";
/// Digits of a secret id that are shown.
const SHOWN: usize = 8;

/// A path whose secret ids are cut to what may be shown: a random UUID (version 4) is one, others are ids.
pub fn path(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(segment).collect();
    segments.join("/")
}

fn segment(segment: &str) -> String {
    match Uuid::parse_str(segment) {
        Ok(uuid) if uuid.get_version() == Some(Version::Random) && is_ours(uuid) => {
            format!("{}{HIDDEN}", &uuid.simple().to_string()[..SHOWN])
        }
        _ => segment.to_owned(),
    }
}

fn is_ours(uuid: Uuid) -> bool {
    uuid.get_variant() == Variant::RFC4122
}

/// Path and query without credentials; everything else stays byte for byte.
pub fn url(url: &str) -> String {
    let Some((before, query)) = url.split_once('?') else {
        return path(url);
    };
    let fields: Vec<String> = query.split('&').map(field).collect();
    format!("{}?{}", path(before), fields.join("&"))
}

fn field(field: &str) -> String {
    let Some((name, value)) = field.split_once('=') else {
        return field.to_owned();
    };
    // The name may be percent-encoded; what a parser takes for it counts.
    let decoded = url::form_urlencoded::parse(name.as_bytes())
        .next()
        .map(|(name, _)| name.to_ascii_lowercase());
    let secret = decoded.is_some_and(|name| SECRET_NAMES.contains(&&*name));
    match secret && !value.is_empty() {
        true => format!("{name}={HIDDEN}"),
        false => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_and_nothing_else_changes() {
        for (given, kept) in [
            ("/api/webhooks/x?a=%zz&a=+b", "/api/webhooks/x?a=%zz&a=+b"),
            ("/e/x?secret=s%26t&b=1", "/e/x?secret=***&b=1"),
            (
                "/e/x?%73ecret=hush&SECRET=hush",
                "/e/x?%73ecret=***&SECRET=***",
            ),
            (
                "/x?signature=00&webhook_token=1",
                "/x?signature=00&webhook_token=***",
            ),
            (
                "/e/3c2f1a90-5b7d-4e1a-9c55-0123456789ab/rest",
                "/e/3c2f1a90***/rest",
            ),
            (
                "/api/webhooks/0199f1a9-5b7d-7e1a-9c55-0123456789ab",
                "/api/webhooks/0199f1a9-5b7d-7e1a-9c55-0123456789ab",
            ),
        ] {
            assert_eq!(url(given), kept);
        }
    }
}
