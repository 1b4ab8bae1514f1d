//! Secrets that travel with a message: left out of what is stored and shown.

use super::{IncomingRequest, ProviderKind, token, url_secret};

/// Headers whose value is a secret itself.
pub fn headers(kind: ProviderKind) -> &'static [&'static str] {
    match kind {
        ProviderKind::GitLab => &["x-gitlab-token"],
        ProviderKind::Honeybadger => &["honeybadger-token"],
        ProviderKind::Buildkite => &["x-buildkite-token"],
        ProviderKind::Token => token::NAMES,
        _ => &[],
    }
}

/// Names of the query whose value is a secret itself.
pub fn query(kind: ProviderKind) -> &'static [&'static str] {
    match kind {
        ProviderKind::UrlSecret => url_secret::NAMES,
        ProviderKind::Token => token::NAMES,
        _ => &[],
    }
}

/// Takes the secrets of a verified message away; all else stays byte for byte. (A form's stay: a body is kept whole.)
pub fn remove(kind: ProviderKind, request: &mut IncomingRequest) {
    for name in headers(kind) {
        request.headers.remove(*name);
    }
    let names = query(kind);
    let Some((path, query)) = request.url.split_once('?') else {
        return;
    };
    if names.is_empty() {
        return;
    }
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            let mut decoded = url::form_urlencoded::parse(pair.as_bytes());
            !decoded.any(|(name, _)| names.contains(&&*name))
        })
        .collect();
    request.url = match kept.as_slice() {
        [] => path.to_owned(),
        kept => format!("{path}?{}", kept.join("&")),
    };
}
