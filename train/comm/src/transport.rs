//! What carries bytes between ranks.

use std::time::{Duration, Instant};

use crate::failure::{Failure, name};
use crate::{Group, Layout, Wire};

/// Blocking collectives on bytes. A transport lives on its rank's communication thread.
///
/// Before each collective the ranks of the group [`exchange`](Self::exchange) headers, so the lengths passed here are known to
/// agree. Each wait ends in time: with [`Waiting::late`] when [`Waiting::is_over`].
pub trait Transport {
    /// Where this rank is.
    fn layout(&self) -> &Layout;

    /// Sends a header to all ranks of the group; returns those of all ranks, in order.
    ///
    /// # Errors
    /// A rank is late, or communication has failed.
    fn exchange(&mut self, waiting: &Waiting, own: Header) -> Result<Vec<Header>, Failure>;

    /// Part i of `sent` goes to rank i of the group; part i of `received` came from rank i. Both have as many equal parts as ranks.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    fn all_to_all(&mut self, waiting: &Waiting, sent: &[u8], received: &mut [u8]) -> Result<(), Failure>;

    /// `sent` goes to all ranks of the group; part i of `received` came from rank i.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    fn all_gather(&mut self, waiting: &Waiting, sent: &[u8], received: &mut [u8]) -> Result<(), Failure>;

    /// The bytes of rank `root` of the group go to all.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    fn broadcast(&mut self, waiting: &Waiting, root: usize, bytes: &mut [u8]) -> Result<(), Failure>;

    /// Exchanges headers in all three groups at once; nothing follows.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    fn finish(&mut self, waiting: &[Waiting; 3], own: Header) -> Result<[Vec<Header>; 3], Failure>;

    /// Tells all ranks of a failure; nothing follows. Returns the first failure of any rank.
    fn abandon(&mut self, failure: Failure) -> Failure;

    /// Called while nothing is to be done. Returns after what time to call it again, if ever.
    fn idle(&mut self) -> Option<Duration> {
        None
    }
}

/// A wait for other ranks, with its limit.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub(crate) rank: usize,
    pub(crate) group: Group,
    pub(crate) call: Header,
    pub(crate) begun: Instant,
    pub(crate) timeout: Duration,
}

impl Waiting {
    /// Who waits for each other.
    pub fn group(&self) -> Group {
        self.group
    }

    /// Whether the limit has passed.
    pub fn is_over(&self) -> bool {
        self.begun.elapsed() >= self.timeout
    }

    /// The time left.
    pub fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.begun.elapsed())
    }

    /// The failure of ranks that did not come in time.
    pub fn late(&self, missing: &[usize]) -> Failure {
        Failure::Late {
            rank: self.rank,
            missing: name(missing),
            call: self.call.to_string(),
            group: self.group,
            seconds: self.timeout.as_secs_f64(),
        }
    }
}

/// A kind of collective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Waits for all.
    Barrier,
    /// Bytes of one rank for all.
    Broadcast,
    /// Bytes of all for all; lengths may differ.
    AllGather,
    /// Bytes of each for each.
    AllToAll,
    /// Sums, each rank's share of them.
    ReduceScatter,
    /// Sums.
    AllReduce,
    /// The end.
    Finish,
}

/// What a rank is about to do: exchanged before each collective, and the same on all ranks but for lengths that may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The collective.
    pub call: Call,
    /// How values are sent, where they are values.
    pub wire: Wire,
    /// Which rank of the group sends, where only one does.
    pub root: u32,
    /// Values, or bytes.
    pub length: u64,
    /// Number of this collective in its group, from 1.
    pub number: u64,
}

impl Header {
    /// Bytes of a header.
    pub const BYTES: usize = 22;
    const CALLS: [Call; 7] = [
        Call::Barrier,
        Call::Broadcast,
        Call::AllGather,
        Call::AllToAll,
        Call::ReduceScatter,
        Call::AllReduce,
        Call::Finish,
    ];

    /// The header as bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.call as u8;
        bytes[1] = self.wire as u8;
        bytes[2..6].copy_from_slice(&self.root.to_le_bytes());
        bytes[6..14].copy_from_slice(&self.length.to_le_bytes());
        bytes[14..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// The header of bytes; `None` if they are none.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| {
            let mut word = [0; 8];
            word[..range.len()].copy_from_slice(&bytes[range]);
            u64::from_le_bytes(word)
        };
        Some(Self {
            call: *Self::CALLS.get(usize::from(bytes[0]))?,
            wire: *Wire::ALL.get(usize::from(bytes[1]))?,
            root: number(2..6) as u32,
            length: number(6..14),
            number: number(14..22),
        })
    }

    /// Whether two ranks can do this together.
    pub(crate) fn agrees(self, other: Self) -> bool {
        let free = matches!(self.call, Call::AllGather | Call::Broadcast);
        let length = if free { self.length } else { other.length };
        self == Self { length, ..other }
    }
}

impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { call, wire, root, length, number } = self;
        match call {
            Call::Barrier => write!(f, "barrier")?,
            Call::Broadcast => write!(f, "broadcast from {root}")?,
            Call::AllGather => write!(f, "all-gather of {length} bytes")?,
            Call::AllToAll => write!(f, "all-to-all of {length} bytes")?,
            Call::ReduceScatter => write!(f, "reduce-scatter of {length} values in {wire}")?,
            Call::AllReduce => write!(f, "all-reduce of {length} values in {wire}")?,
            Call::Finish => write!(f, "finish")?,
        }
        // The end has no number.
        if *number > 0 { write!(f, " as its collective {number}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_from_their_bytes() {
        for call in Header::CALLS {
            for wire in Wire::ALL {
                let header = Header { call, wire, root: 70_000, length: u64::MAX - 3, number: 1 << 40 };
                assert_eq!(Header::from_bytes(&header.to_bytes()), Some(header));
            }
        }
        assert_eq!(Header::from_bytes(&[255; Header::BYTES]), None);
    }
}
