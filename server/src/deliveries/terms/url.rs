//! Where a subscription's requests may go, as far as its URL tells.

use super::{TermsError, refuse};
use crate::model::subscription::MAX_URL_BYTES;
use url::{Host, Url};

/// Checks a receiver's URL; what is odd about it. Whether its address may be reached is decided when it is spoken to:
/// names may mean another address by then.
pub fn checked_url(text: &str) -> Result<Vec<String>, TermsError> {
    if text.is_empty() {
        return refuse("url is missing: say where requests go");
    }
    if text.len() > MAX_URL_BYTES {
        return refuse(format!(
            "the URL has {} bytes; at most {MAX_URL_BYTES} are possible",
            text.len()
        ));
    }
    let Ok(url) = Url::parse(text) else {
        return refuse(
            "the URL cannot be read; it must be absolute, such as https://receiver.example/hook",
        );
    };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse(format!(
            "the URL's scheme is {:?}; http and https are possible",
            url.scheme()
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse(
            "the URL must not hold a user name or password: give an Authorization header instead",
        );
    }
    let mut odd = Vec::new();
    if url.scheme() == "http" {
        odd.push("the URL is http: anybody on the way may read and change what is sent".to_owned());
    }
    if is_private(&url) {
        odd.push(
            "the URL's host is a private one: nothing is delivered unless the server was started with --delivery-allow for it"
                .to_owned(),
        );
    }
    Ok(odd)
}

/// Whether the URL itself says that its host is not in the public internet.
fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => {
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
        }
        Some(Host::Ipv6(address)) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost") || !name.contains('.')
        }
        None => false,
    }
}
