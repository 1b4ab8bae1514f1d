//! Which addresses may be reached: the public ones, and those that the operator allows.
//!
//! Agents and servers run inside the operator's network; without this guard any author, any webhook whose content becomes
//! a URL, and any subscriber could reach metadata services and internal hosts (server-side request forgery).

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use url::{Host, Url};

/// What an operator allows beyond public addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Every address.
    Everything,
    /// Addresses of a network.
    Network(IpNet),
    /// A host, by name or address, on one port or all.
    Host {
        /// Lower case.
        host: String,
        /// `None` is all.
        port: Option<u16>,
    },
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Everything);
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(IpNet::from(address)));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                let port = port
                    .parse()
                    .map_err(|_| format!("{port:?} is not a port"))?;
                (host, Some(port))
            }
            None => (text, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let named = host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
        if host.is_empty() || !named {
            return Err(
                "expected HOST, HOST:PORT, an address, a network such as 10.0.0.0/8, or *".into(),
            );
        }
        let host = host.to_ascii_lowercase();
        Ok(Self::Host { host, port })
    }
}

/// Why a name gives no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name servers know it not, or do not answer: later they may.
    #[error("{0}")]
    Unresolved(String),
    /// It is an address that may not be reached.
    #[error("{0}")]
    NotAllowed(String),
}

/// How a refusal is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// What was refused: `fetch`, `delivery`.
    pub what: &'static str,
    /// The way out, after "private address …; ".
    pub way_out: &'static str,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Guard {
    allowed: Vec<Allowed>,
    words: Words,
}

impl Guard {
    /// With what the operator allows.
    pub fn new(allowed: Vec<Allowed>, words: Words) -> Self {
        Self { allowed, words }
    }

    /// Whether an address may be reached.
    pub fn allows(&self, address: IpAddr) -> bool {
        is_public(address)
            || self.allowed.iter().any(|allowed| match allowed {
                Allowed::Everything => true,
                Allowed::Network(network) => network.contains(&canonical(address)),
                Allowed::Host { .. } => false,
            })
    }

    /// Whether the operator named this host and port.
    fn names(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.');
        self.allowed.iter().any(|allowed| match allowed {
            Allowed::Everything => true,
            Allowed::Network(_) => false,
            Allowed::Host {
                host: known,
                port: on,
            } => known.eq_ignore_ascii_case(host) && on.is_none_or(|on| on == port),
        })
    }

    /// Whether what is sent there in clear goes no further than the operator said: this machine, a host that they named,
    /// or a private address that they allow.
    pub fn trusts_plain(&self, url: &Url) -> bool {
        let address = match url.host() {
            None => return false,
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                if name == "localhost" || name.ends_with(".localhost") {
                    return true;
                }
                let port = url.port_or_known_default().unwrap_or_default();
                return self.names(name, port);
            }
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        canonical(address).is_loopback()
            || matches!(self.check_url(url), Ok(true))
            || (!is_public(address) && self.allows(address))
    }

    /// Checks scheme and host; `true` if the operator named it, so that its addresses need no check.
    ///
    /// # Errors
    /// Another scheme than `http` and `https`, user information (it is mistaken for the host too easily, and would be
    /// stored), no host, or an address that may not be reached.
    pub fn check_url(&self, url: &Url) -> Result<bool, String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!(
                "the URL's scheme is {:?}; http and https are possible",
                url.scheme()
            ));
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let address = match url.host() {
            None => return Err("the URL has no host".to_owned()),
            Some(Host::Domain(name)) => return Ok(self.names(name, port)),
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        if self.names(&address.to_string(), port) {
            return Ok(true);
        }
        if !self.allows(address) {
            return Err(self.blocked(&address.to_string(), address));
        }
        Ok(false)
    }

    /// The same for where a webhook goes: beside it, user information is refused, and ports below 1024 but 80 and 443,
    /// which belong to other services, unless the operator named the host.
    ///
    /// # Errors
    /// See [`Self::check_url`].
    pub fn check_webhook(&self, url: &Url) -> Result<bool, String> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "the URL holds a user name or password; send them in an Authorization header"
                    .to_owned(),
            );
        }
        let named = self.check_url(url)?;
        let port = url.port_or_known_default().unwrap_or_default();
        if !named && port < 1024 && !matches!(port, 80 | 443) {
            return Err(format!(
                "{} blocked: port {port} belongs to another service; 80, 443 and those from 1024 are possible, {}",
                self.words.what, self.words.way_out
            ));
        }
        Ok(named)
    }

    /// The addresses of a host, all of which may be reached.
    ///
    /// # Errors
    /// The name is unknown, or one of its addresses may not be reached.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|error| {
            ResolveError::Unresolved(format!("cannot resolve {host:?}: {error}"))
        })?;
        let found: Vec<SocketAddr> = found.collect();
        if self.names(host, port) {
            return Ok(found);
        }
        // One private address among public ones is a trick, not a service.
        if let Some(private) = found.iter().find(|found| !self.allows(found.ip())) {
            let told = self.blocked(host, private.ip());
            return Err(ResolveError::NotAllowed(told));
        }
        Ok(found)
    }

    fn blocked(&self, host: &str, address: IpAddr) -> String {
        format!(
            "{} blocked: {host:?} is the private address {address}; {}",
            self.words.what, self.words.way_out
        )
    }
}

/// An IPv4 address in IPv6 clothes is that IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => embedded_v4(v6).map_or(address, IpAddr::V4),
    }
}

/// The IPv4 address that a packet to this IPv6 address ends up at: mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(v4(high, low))
        }
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Whether the address is one of the public internet (IANA's special-purpose registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    // A cloud's service for its machines' agents, in public space.
    let wire_server = [a, b, c, d] == [168, 63, 129, 16];
    let special = wire_server
        || a == 0
        || a == 10
        || a == 127
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 192 && b == 168)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Global unicast is 2000::/3; of it 2001::/23 (protocols, Teredo) and documentation (RFC 3849, RFC 9637) are none.
    let global = segments[0] & 0xe000 == 0x2000;
    let protocols = segments[0] == 0x2001 && segments[1] < 0x0200;
    let documentation = (segments[0] == 0x2001 && segments[1] == 0x0db8)
        || (segments[0] == 0x3fff && segments[1] < 0x1000);
    global && !protocols && !documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words = Words {
        what: "fetch",
        way_out: "the operator may allow it with --fetch-allow",
    };

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn guard(allowed: &[&str]) -> Guard {
        let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
        Guard::new(allowed, WORDS)
    }

    #[test]
    fn private_addresses_are_refused_in_every_spelling() {
        let guard = guard(&[]);
        for private in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0.0.0.0/",
            "http://10.1.2.3/",
            "http://172.31.255.255/",
            "http://192.168.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://168.63.129.16/metadata",
            "http://100.64.0.1/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[2002:7f00:1::]/",
            "http://[fd00::1]/",
            "http://[fe80::1]/",
            "http://[2001:0:7f00:1::]/",
            "http://[3fff::1]/",
            "http://[64:ff9b:1::1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[5f00::1]/",
            "http://[::8.8.8.8]/",
            "http://017700000001/",
            "http://0177.0.0.1/",
            "http://0x7f000001/",
            // Digits and dots of other scripts are mapped before anything is looked at.
            "http://\u{ff11}\u{ff12}\u{ff17}\u{3002}0\u{3002}0\u{3002}1/",
            "http://\u{2460}\u{2461}\u{2466}.0.0.1/",
            "http://255.255.255.255/",
            "http://224.0.0.1/",
        ] {
            let told = guard.check_url(&url(private)).unwrap_err();
            assert!(told.contains("--fetch-allow"), "{private}: {told}");
        }
        assert!(guard.check_url(&url("ftp://example.com/")).is_err());
        assert_eq!(guard.check_url(&url("http://8.8.8.8/")), Ok(false));
        assert_eq!(guard.check_url(&url("http://[2606:4700::1]/")), Ok(false));
    }

    #[test]
    fn the_operator_may_allow_networks_hosts_and_ports() {
        let check = |rule: &str, to: &str| guard(&[rule]).check_url(&url(to));
        assert_eq!(check("127.0.0.0/8", "http://127.0.0.1:1/"), Ok(false));
        assert_eq!(check("127.0.0.1", "http://[::ffff:127.0.0.1]/"), Ok(false));
        assert_eq!(check("127.0.0.1:80", "http://127.0.0.1/"), Ok(true));
        assert!(check("127.0.0.1:80", "http://127.0.0.1:81/").is_err());
        assert_eq!(check("Build.Local", "http://build.local:99/"), Ok(true));
        assert_eq!(check("build.local:80", "http://build.local:99/"), Ok(false));
        assert_eq!(check("*", "http://10.0.0.1/"), Ok(true));
        assert!(" x".parse::<Allowed>().is_err() && "a:b".parse::<Allowed>().is_err());
    }

    #[test]
    fn webhooks_go_to_ports_that_belong_to_nobody_else_and_carry_no_password() {
        let check = |to: &str| guard(&[]).check_webhook(&url(to));
        for port in [80, 443, 1024, 8443, 65535] {
            assert_eq!(check(&format!("https://8.8.8.8:{port}/")), Ok(false));
        }
        for port in [0, 1, 22, 25, 53, 110, 1023] {
            let told = check(&format!("https://8.8.8.8:{port}/")).unwrap_err();
            assert!(told.contains("belongs to another service"), "{told}");
        }
        for with in [
            "http://a@8.8.8.8/",
            "http://:b@8.8.8.8/",
            "http://8.8.8.8@127.0.0.1/",
        ] {
            assert!(check(with).unwrap_err().contains("user name"), "{with}");
        }
        let named = guard(&["8.8.8.8:25"]);
        assert_eq!(named.check_webhook(&url("http://8.8.8.8:25/")), Ok(true));
    }

    #[tokio::test]
    async fn a_name_with_a_private_address_is_refused_unless_named() {
        let told = guard(&[]).resolve("localhost", 80).await.unwrap_err();
        assert!(told.to_string().contains("private address"), "{told}");
        // Not every system resolves this one; none gets through.
        assert!(guard(&[]).resolve("localhost.", 80).await.is_err());
        let named = guard(&["localhost:80"]);
        assert!(named.resolve("localhost", 80).await.is_ok());
        assert!(named.resolve("localhost", 81).await.is_err());
    }
}
