//! How many connections one address holds: a stranger must not take the place of all others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections by address; clones share the count.
#[derive(Clone)]
pub(super) struct Peers {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that counts until this is dropped.
pub(super) struct Counted {
    peers: Peers,
    address: IpAddr,
}

impl Peers {
    /// Lets each address have `most` connections.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            open: Arc::default(),
        }
    }

    /// Counts one more; `None` if it is too many.
    pub(super) fn count(&self, address: IpAddr) -> Option<Counted> {
        let address = subscriber(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let held = open.entry(address).or_insert(0);
        if *held >= self.most {
            return None;
        }
        *held += 1;
        Some(Counted {
            peers: self.clone(),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self
            .peers
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut held) = open.entry(self.address) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

/// Whoever has one address of IPv6 has the 2^64 of its network.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_others_theirs() {
        let peers = Peers::new(2);
        let count = |text: &str| peers.count(text.parse().unwrap());
        let first = count("192.0.2.1").unwrap();
        let _second = count("::ffff:192.0.2.1").unwrap();
        assert!(count("192.0.2.1").is_none());
        let _other = count("192.0.2.2").unwrap();
        drop(first);
        let _third = count("192.0.2.1").unwrap();
        assert!(count("192.0.2.1").is_none());
        let _six = (count("2001:db8::1").unwrap(), count("2001:db8::2").unwrap());
        assert!(
            count("2001:db8::3").is_none(),
            "one network, one subscriber"
        );
        assert!(count("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn who_has_none_is_forgotten() {
        let peers = Peers::new(1);
        drop(peers.count("192.0.2.1".parse().unwrap()));
        assert!(peers.open.lock().unwrap().is_empty());
    }
}
