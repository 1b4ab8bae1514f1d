//! Where a subscription's requests may go, as far as its URL tells.

use super::{TermsError, refuse};
use crate::deliveries::WORDS;
use crate::model::subscription::MAX_URL_BYTES;
use pocketci_outside::guard::Guard;
use std::net::Ipv4Addr;
use url::{Host, Url};

/// Checks a receiver's URL; what is odd about it. Whether its address may be reached is decided when it is spoken to:
/// names may mean another address by then. `guard` is this server's.
pub fn checked_url(text: &str, guard: &Guard) -> Result<Vec<String>, TermsError> {
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
    let told = match guard.check_webhook(&url) {
        Err(why) => Some(why),
        Ok(false) if is_local(&url, guard) => Some(format!("{LOCAL}, {}", WORDS.way_out)),
        Ok(_) => None,
    };
    odd.extend(told.map(|why| format!("nothing may be delivered: {why}")));
    Ok(odd)
}

/// Said of names that mean this machine or its neighbours.
const LOCAL: &str = "the URL's host is a private name";

fn is_local(url: &Url, guard: &Guard) -> bool {
    let Some(Host::Domain(name)) = url.host() else {
        return false;
    };
    let name = name.trim_end_matches('.');
    if name == "localhost" || name.ends_with(".localhost") {
        return !guard.allows(Ipv4Addr::LOCALHOST.into());
    }
    !name.contains('.')
}
