//! Where a repository is: an address without what is secret, and what git may speak to get there.

use super::wrong;
use crate::resource::Stop;
use url::Url;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uri {
    /// For command lines, logs and metadata.
    pub(super) shown: String,
    /// As git allows protocols; a repository's own submodules are allowed no more.
    pub(super) protocols: &'static str,
    /// `https://host:port`, where a password may be asked for.
    pub(super) site: Option<String>,
    /// `host:port`, as in a question for a password.
    pub(super) host: Option<String>,
}

/// What was in the address and must not be shown.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

/// Protocols of the network.
const REMOTE: &str = "http:https:ssh:git";
const LOCAL: &str = "file";
const PROTOCOLS: &str = "its protocol must be http, https, ssh, git or file";

/// Reads `uri` of a source; files of the agent's machine only if they are allowed.
pub(super) fn parse(uri: &str, local_allowed: bool) -> Result<(Uri, Login), Stop> {
    let place = "source.uri";
    if uri.starts_with('-') || uri.contains(char::is_control) {
        return Err(wrong(place, "it is no address of a repository"));
    }
    let scheme = uri.split_once("://").map(|(scheme, _)| scheme);
    // `NAME::…` is a program of git's.
    let helper = uri.split_once("::").map(|(name, _)| name);
    if helper.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')) {
        return Err(wrong(place, PROTOCOLS));
    }
    match scheme {
        Some("http" | "https" | "ssh" | "git") => remote(uri),
        None if is_scp(uri) => Ok((of(uri, REMOTE), Login::default())),
        None | Some("file") if !local_allowed => Err(wrong(
            place,
            "repositories on the agent's own disk are for the native driver and for agents with --allow-privileged; name an http, https, ssh or git address",
        )),
        Some("file") => Ok((of(uri, LOCAL), Login::default())),
        None if uri.starts_with('/') => Ok((of(uri, LOCAL), Login::default())),
        None => Err(wrong(
            place,
            "it is neither an address nor an absolute path",
        )),
        Some(_) => Err(wrong(
            place,
            "its protocol must be http, https, ssh, git or file",
        )),
    }
}

/// `git@host:path`.
fn is_scp(uri: &str) -> bool {
    match (uri.find(':'), uri.find('/')) {
        (Some(colon), Some(slash)) => colon > 0 && colon < slash,
        (Some(colon), None) => colon > 0,
        (None, _) => false,
    }
}

fn of(uri: &str, protocols: &'static str) -> Uri {
    Uri {
        shown: uri.to_owned(),
        protocols,
        site: None,
        host: None,
    }
}

fn remote(uri: &str) -> Result<(Uri, Login), Stop> {
    // Without the address itself: it may have a password.
    let mut url = Url::parse(uri).map_err(|error| wrong("source.uri", error))?;
    let host = url
        .host_str()
        .ok_or_else(|| wrong("source.uri", "it names no host"))?;
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let is_http = matches!(url.scheme(), "http" | "https");
    let mut login = Login::default();
    if is_http {
        let decoded = |text: &str| percent_decoded(text);
        login.password = url.password().map(decoded);
        login.username = Some(decoded(url.username())).filter(|name| !name.is_empty());
        // Neither can fail for a URL with a host.
        let _ = url.set_username("");
    }
    let _ = url.set_password(None);
    let found = Uri {
        shown: url.to_string(),
        protocols: REMOTE,
        site: is_http.then(|| format!("{}://{host}", url.scheme())),
        host: is_http.then_some(host),
    };
    Ok((found, login))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3);
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_out_of_the_address() {
        let (uri, login) = parse("https://me%40x:pa%2Fss@example.com:8443/a.git", false).unwrap();
        assert_eq!(uri.shown, "https://example.com:8443/a.git");
        assert_eq!(uri.site.as_deref(), Some("https://example.com:8443"));
        assert_eq!(login.username.as_deref(), Some("me@x"));
        assert_eq!(login.password.as_deref(), Some("pa/ss"));
        let (uri, _) = parse("ssh://git@example.com/a.git", false).unwrap();
        assert_eq!(uri.shown, "ssh://git@example.com/a.git");
    }

    #[test]
    fn addresses_that_run_programs_or_read_the_agents_disk_are_refused() {
        for refused in [
            "ext::sh -c id",
            "-uid",
            "--upload-pack=id",
            "fd::7",
            "relative/path",
            "/srv/repo.git",
            "file:///srv/repo.git",
            "ftp://example.com/a",
            "https://",
        ] {
            assert!(parse(refused, false).is_err(), "{refused}");
        }
        assert_eq!(parse("/srv/repo.git", true).unwrap().0.protocols, LOCAL);
        assert_eq!(
            parse("git@example.com:a/b.git", false).unwrap().0.protocols,
            REMOTE
        );
    }
}
