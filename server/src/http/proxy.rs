//! Who a request is from, if it came through proxies that are trusted to say so.

use axum::http::HeaderMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Most addresses of an `X-Forwarded-For` that are looked at, from the right.
const MAX_HOPS: usize = 32;

/// A network, `10.0.0.0/8`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidCidr(String);

impl fmt::Display for InvalidCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no network: an address like 10.0.0.0/8 or fd00::/8 is expected",
            self.0
        )
    }
}

impl std::error::Error for InvalidCidr {}

fn whole(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let invalid = || InvalidCidr(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let bits = match bits {
            Some(bits) => bits.parse().map_err(|_| invalid())?,
            None => whole(address),
        };
        match bits <= whole(address) {
            true => Ok(Self { address, bits }),
            false => Err(invalid()),
        }
    }
}

impl Cidr {
    fn contains(&self, other: IpAddr) -> bool {
        let other = other.to_canonical();
        match (self.address, other) {
            (IpAddr::V4(net), IpAddr::V4(other)) => {
                let differs = u32::from(net) ^ u32::from(other);
                u32::from(self.bits) <= differs.leading_zeros()
            }
            (IpAddr::V6(net), IpAddr::V6(other)) => {
                let differs = u128::from(net) ^ u128::from(other);
                u32::from(self.bits) <= differs.leading_zeros()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The caller: the peer, or behind trusted proxies the last address in `X-Forwarded-For` that is no trusted proxy. What
/// stands left of that may be anybody's invention.
pub(super) fn caller(peer: SocketAddr, headers: &HeaderMap, trusted: &[Cidr]) -> String {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(address));
    if !is_trusted(peer.ip()) {
        return peer.to_string();
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let hops = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.rsplit(','));
    let mut nearest = None;
    for hop in hops.take(MAX_HOPS) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        nearest = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    nearest.map_or_else(|| peer.to_string(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(peer: &str, forwarded: &[&'static str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted: Vec<Cidr> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        caller(peer.parse().unwrap(), &headers, &trusted)
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let net = ["10.0.0.0/8"];
        assert_eq!(told("1.2.3.4:5", &["9.9.9.9"], &net), "1.2.3.4:5");
        assert_eq!(told("10.1.1.1:5", &["9.9.9.9"], &net), "9.9.9.9");
        assert_eq!(
            told("10.1.1.1:5", &["6.6.6.6, 9.9.9.9", "10.2.2.2"], &net),
            "9.9.9.9"
        );
        assert_eq!(told("10.1.1.1:5", &["nonsense"], &net), "10.1.1.1:5");
        assert_eq!(told("10.1.1.1:5", &[], &net), "10.1.1.1:5");
        assert_eq!(told("10.1.1.1:5", &["9.9.9.9"], &[]), "10.1.1.1:5");
    }

    #[test]
    fn a_network_is_an_address_with_a_length() {
        for wrong in ["", "10.0.0.0/33", "::/129", "a/8", "10.0.0.0/x"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()));
        assert!(all.contains("::ffff:8.8.8.8".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
    }
}
