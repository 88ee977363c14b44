//! How many connections are served at a time: in all, and from one address.
//!
//! A connection that finds no place is served from a small reserve by another router, which answers `/health` and `/metrics` and
//! tells all others that the server is busy.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections from one address, unless the limit is set; the local machine, where a proxy may run, has none then.
pub const PER_ADDRESS: usize = 256;
/// Connections served from the reserve.
pub const RESERVE: usize = 32;

/// See the module.
pub struct Places {
    free: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_address: Option<usize>,
}

/// A place in the reserve, taken before a connection is accepted.
pub struct Reserved {
    _permit: OwnedSemaphorePermit,
}

/// What an accepted connection gets.
pub enum Admission {
    /// A place.
    Place(Place),
    /// All places are taken: a place in the reserve.
    Reserve(Reserved),
    /// Its address has as many connections as it may.
    Refused,
}

/// A place; given back when dropped.
pub struct Place {
    address: IpAddr,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// `total` places, at most `per_address` of them for one address; see [`PER_ADDRESS`] where that is not set.
    pub fn new(total: usize, per_address: Option<usize>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(total)),
            reserve: Arc::new(Semaphore::new(RESERVE)),
            addresses: Arc::default(),
            per_address,
        }
    }

    /// Waits until another connection can be accepted.
    pub async fn reserve(&self) -> Reserved {
        let permit = Arc::clone(&self.reserve).acquire_owned().await;
        Reserved { _permit: permit.expect("the semaphore is never closed") }
    }

    /// Decides about a connection from `peer`. The place in the reserve is given back unless it is needed.
    pub fn admit(&self, peer: IpAddr, reserved: Reserved) -> Admission {
        let address = network(peer);
        let limit = match self.per_address {
            Some(limit) => limit,
            None if address.is_loopback() => usize::MAX,
            None => PER_ADDRESS,
        };
        let mut addresses = self.addresses.lock();
        if addresses.get(&address).is_some_and(|count| *count >= limit) {
            return Admission::Refused;
        }
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            return Admission::Reserve(reserved);
        };
        *addresses.entry(address).or_default() += 1;
        Admission::Place(Place { address, addresses: Arc::clone(&self.addresses), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock();
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 network of an IPv6 address, of which one client has all.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(places: &Places, address: &str) -> Admission {
        let permit = Arc::clone(&places.reserve).try_acquire_owned().unwrap();
        places.admit(address.parse().unwrap(), Reserved { _permit: permit })
    }

    #[track_caller]
    fn place(admission: Admission) -> Place {
        match admission {
            Admission::Place(place) => place,
            Admission::Reserve(_) => panic!("from the reserve"),
            Admission::Refused => panic!("refused"),
        }
    }

    #[test]
    fn connections_are_counted_per_address() {
        let places = Places::new(10, Some(2));
        let (first, _second) = (place(admit(&places, "192.0.2.1")), place(admit(&places, "192.0.2.1")));
        assert!(matches!(admit(&places, "192.0.2.1"), Admission::Refused));
        assert!(matches!(admit(&places, "::ffff:192.0.2.1"), Admission::Refused), "the same in IPv6");
        let _other = place(admit(&places, "192.0.2.2"));
        drop(first);
        let _again = place(admit(&places, "192.0.2.1"));

        let _one = place(admit(&places, "2001:db8::1"));
        let _two = place(admit(&places, "2001:db8::ffff"));
        assert!(matches!(admit(&places, "2001:db8::2"), Admission::Refused), "the same network");
        let _three = place(admit(&places, "2001:db8:0:1::1"));
    }

    #[test]
    fn by_default_the_local_machine_is_unlimited_and_other_addresses_get_256() {
        let places = Places::new(1024, None);
        let _others: Vec<_> = (0..PER_ADDRESS).map(|_| place(admit(&places, "192.0.2.1"))).collect();
        assert!(matches!(admit(&places, "192.0.2.1"), Admission::Refused));
        for loopback in ["127.0.0.1", "::1"] {
            let _local: Vec<_> = (0..300).map(|_| place(admit(&places, loopback))).collect();
        }
    }

    #[test]
    fn the_reserve_serves_when_all_places_are_taken() {
        let places = Places::new(1, None);
        let only = place(admit(&places, "192.0.2.1"));
        let reserved: Vec<_> = (0..RESERVE).map(|_| admit(&places, "192.0.2.2")).collect();
        assert!(reserved.iter().all(|admission| matches!(admission, Admission::Reserve(_))));
        assert_eq!(places.reserve.available_permits(), 0, "no more is accepted");
        drop(reserved);
        drop(only);
        let _place = place(admit(&places, "192.0.2.2"));
        assert_eq!(places.reserve.available_permits(), RESERVE, "it is given back");
    }
}
