//! Limits the number of connections, in total and per address.
//!
//! A connection beyond the total is served from a small reserve by another router, which answers `/health` and `/metrics` and
//! refuses everything else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Default limit per address. It does not apply to the local machine, where a proxy may run.
pub const PER_ADDRESS: usize = 256;
/// Number of connections in the reserve.
pub const RESERVE: usize = 32;

/// The limits, and the connections that count against them.
pub struct ConnectionLimits {
    free: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_address: Option<usize>,
}

/// A permit from the reserve, acquired before a connection is accepted.
pub struct ReservePermit {
    _permit: OwnedSemaphorePermit,
}

/// The decision about an accepted connection.
pub enum Admission {
    /// It is within the limits.
    Admitted(ConnectionPermit),
    /// All permits are taken: it is served from the reserve.
    Reserve(ReservePermit),
    /// Its address has too many connections.
    Refused,
}

/// A permit for one connection; released when dropped.
pub struct ConnectionPermit {
    address: IpAddr,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimits {
    /// Allows `total` connections, at most `per_address` of them per address; see [`PER_ADDRESS`] for the default.
    pub fn new(total: usize, per_address: Option<usize>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(total)),
            reserve: Arc::new(Semaphore::new(RESERVE)),
            addresses: Arc::default(),
            per_address,
        }
    }

    /// Waits until another connection can be accepted.
    pub async fn reserve(&self) -> ReservePermit {
        let permit = Arc::clone(&self.reserve).acquire_owned().await;
        ReservePermit { _permit: permit.expect("the semaphore is never closed") }
    }

    /// Decides about a connection from `peer`. The reserve's permit is released unless it is needed.
    pub fn admit(&self, peer: IpAddr, reserved: ReservePermit) -> Admission {
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
        Admission::Admitted(ConnectionPermit {
            address,
            addresses: Arc::clone(&self.addresses),
            _permit: permit,
        })
    }
}

impl Drop for ConnectionPermit {
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

/// The unit that a client controls: an IPv4 address, or the /64 network of an IPv6 address.
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

    fn admit(limits: &ConnectionLimits, address: &str) -> Admission {
        let permit = Arc::clone(&limits.reserve).try_acquire_owned().unwrap();
        limits.admit(address.parse().unwrap(), ReservePermit { _permit: permit })
    }

    #[track_caller]
    fn permit(admission: Admission) -> ConnectionPermit {
        match admission {
            Admission::Admitted(permit) => permit,
            Admission::Reserve(_) => panic!("served from the reserve"),
            Admission::Refused => panic!("refused"),
        }
    }

    #[test]
    fn connections_are_counted_per_address() {
        let limits = ConnectionLimits::new(10, Some(2));
        let (first, _second) = (permit(admit(&limits, "192.0.2.1")), permit(admit(&limits, "192.0.2.1")));
        assert!(matches!(admit(&limits, "192.0.2.1"), Admission::Refused));
        assert!(matches!(admit(&limits, "::ffff:192.0.2.1"), Admission::Refused), "the same address as IPv6");
        let _other = permit(admit(&limits, "192.0.2.2"));
        drop(first);
        let _again = permit(admit(&limits, "192.0.2.1"));

        let _one = permit(admit(&limits, "2001:db8::1"));
        let _two = permit(admit(&limits, "2001:db8::ffff"));
        assert!(matches!(admit(&limits, "2001:db8::2"), Admission::Refused), "the same network");
        let _three = permit(admit(&limits, "2001:db8:0:1::1"));
    }

    #[test]
    fn by_default_the_local_machine_is_unlimited_and_other_addresses_get_256() {
        let limits = ConnectionLimits::new(1024, None);
        let _others: Vec<_> = (0..PER_ADDRESS).map(|_| permit(admit(&limits, "192.0.2.1"))).collect();
        assert!(matches!(admit(&limits, "192.0.2.1"), Admission::Refused));
        for loopback in ["127.0.0.1", "::1"] {
            let _local: Vec<_> = (0..300).map(|_| permit(admit(&limits, loopback))).collect();
        }
    }

    #[test]
    fn the_reserve_serves_when_all_permits_are_taken() {
        let limits = ConnectionLimits::new(1, None);
        let only = permit(admit(&limits, "192.0.2.1"));
        let reserved: Vec<_> = (0..RESERVE).map(|_| admit(&limits, "192.0.2.2")).collect();
        assert!(reserved.iter().all(|admission| matches!(admission, Admission::Reserve(_))));
        assert_eq!(limits.reserve.available_permits(), 0, "no more connections are accepted");
        drop(reserved);
        drop(only);
        let _permit = permit(admit(&limits, "192.0.2.2"));
        assert_eq!(limits.reserve.available_permits(), RESERVE, "the permits are released");
    }
}
