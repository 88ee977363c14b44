//! Bytes and time of the collectives of one rank, by group.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Group;

/// What a rank communicated in a group since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Collectives.
    pub calls: u64,
    /// Bytes sent to other ranks, padding included; what a library adds is not counted.
    pub sent: u64,
    /// Time in collectives, on the communication thread: waiting for other ranks, transfers, conversions and sums.
    pub busy: Duration,
    /// Time that callers waited for results. The difference to `busy` was hidden by other work.
    pub waited: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Counters([Counter; 3]);

#[derive(Debug, Default)]
struct Counter {
    calls: AtomicU64,
    sent: AtomicU64,
    busy: AtomicU64,
    waited: AtomicU64,
}

impl Counters {
    pub fn call(&self, group: Group, busy: Duration) {
        let counter = &self.0[group as usize];
        counter.calls.fetch_add(1, Ordering::Relaxed);
        counter.busy.fetch_add(nanoseconds(busy), Ordering::Relaxed);
    }

    pub fn sent(&self, group: Group, bytes: usize) {
        self.0[group as usize].sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn waited(&self, group: Group, time: Duration) {
        self.0[group as usize].waited.fetch_add(nanoseconds(time), Ordering::Relaxed);
    }

    pub fn read(&self, group: Group) -> Traffic {
        let counter = &self.0[group as usize];
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        Traffic {
            calls: read(&counter.calls),
            sent: read(&counter.sent),
            busy: Duration::from_nanos(read(&counter.busy)),
            waited: Duration::from_nanos(read(&counter.waited)),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
