//! The order in which training reads a dataset: shards in random order, in windows that fit into memory, the examples of each
//! window in random order. A function of the seed and the epoch alone.
//!
//! Memory holds two windows, the one that is read and the next one, however large the dataset is. A dataset that fits into
//! memory is one window: every epoch is then a full permutation. The example at any place is found from the sizes of the
//! shards, so a run resumes anywhere after reading one window.

use rand::seq::SliceRandom;

use crate::random::{Purpose, stream};

/// What the order needs to know of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardSize {
    /// Examples of the split that is read.
    pub examples: usize,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// The order of a dataset's examples, epoch after epoch without end.
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    shards: Vec<ShardSize>,
    /// Most bytes of shards in a window, unless a single shard is larger.
    window: u64,
}

/// Shards that are in memory together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Indexes of its shards, ascending.
    pub shards: Vec<usize>,
    /// Place of its first example in the endless sequence.
    pub first: u64,
    /// Examples in it.
    pub examples: usize,
}

impl Order {
    /// The order of a dataset with these shards. Memory for `buffer` bytes of shards is used: for all of them if they fit, else
    /// for two windows of half the size.
    pub fn new(seed: u64, shards: Vec<ShardSize>, buffer: u64) -> Self {
        let total: u64 = shards.iter().map(|shard| shard.bytes).sum();
        let window = if total <= buffer { total } else { buffer / 2 };
        Self { seed, shards, window }
    }

    /// Examples in an epoch.
    pub fn examples(&self) -> u64 {
        self.shards.iter().map(|shard| shard.examples as u64).sum()
    }

    /// Most bytes of shards that are in memory at the same time.
    pub fn memory(&self) -> u64 {
        let total: u64 = self.shards.iter().map(|shard| shard.bytes).sum();
        let largest = self.shards.iter().map(|shard| shard.bytes).max().unwrap_or(0);
        total.min(2 * self.window.max(largest))
    }

    /// The windows of an epoch.
    pub fn windows(&self, epoch: u64) -> Vec<Window> {
        let mut shards: Vec<usize> =
            (0..self.shards.len()).filter(|&shard| self.shards[shard].examples > 0).collect();
        shards.shuffle(&mut stream(self.seed, Purpose::Shards, epoch));
        let mut windows: Vec<Window> = Vec::new();
        let (mut first, mut bytes) = (epoch * self.examples(), 0);
        for shard in shards {
            let size = self.shards[shard];
            bytes += size.bytes;
            match windows.last_mut() {
                Some(window) if bytes <= self.window => {
                    window.shards.push(shard);
                    window.examples += size.examples;
                }
                _ => {
                    bytes = size.bytes;
                    windows.push(Window { epoch, shards: vec![shard], first, examples: size.examples });
                }
            }
            first += size.examples as u64;
        }
        for window in &mut windows {
            window.shards.sort_unstable();
        }
        windows
    }

    /// The order of a window's examples, as indexes into the examples of its shards one after the other.
    pub fn permutation(&self, window: &Window) -> Vec<usize> {
        let mut examples: Vec<usize> = (0..window.examples).collect();
        // No window of any epoch begins where another one does.
        examples.shuffle(&mut stream(self.seed, Purpose::Window, window.first));
        examples
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SHARDS: [(usize, u64); 6] = [(3, 30), (0, 50), (4, 40), (1, 10), (2, 90), (5, 50)];

    fn order(seed: u64, buffer: u64) -> Order {
        let shards = SHARDS.map(|(examples, bytes)| ShardSize { examples, bytes });
        Order::new(seed, shards.to_vec(), buffer)
    }

    /// The examples of an epoch as (shard, place in the shard).
    fn epoch(order: &Order, epoch: u64) -> Vec<(usize, usize)> {
        let windows = order.windows(epoch);
        let examples = windows.iter().flat_map(|window| {
            let shards = window.shards.iter();
            let all: Vec<_> =
                shards.flat_map(|&shard| (0..SHARDS[shard].0).map(move |place| (shard, place))).collect();
            order.permutation(window).into_iter().map(move |example| all[example])
        });
        examples.collect()
    }

    #[test]
    fn an_epoch_visits_everything_once_in_another_order_than_the_one_before() {
        for buffer in [0, 60, 200, 1000] {
            let order = order(1, buffer);
            let epochs: Vec<_> = (0..3).map(|number| epoch(&order, number)).collect();
            for visited in &epochs {
                assert_eq!(visited.len(), 15);
                assert_eq!(visited.iter().collect::<BTreeSet<_>>().len(), 15, "{visited:?}");
            }
            assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2], "{epochs:?}");
            assert_ne!(epochs[0], epoch(&self::order(2, buffer), 0), "another seed");
        }
    }

    #[test]
    fn windows_fit_half_the_buffer_and_follow_one_another() {
        let order = order(1, 200);
        assert_eq!((order.examples(), order.memory()), (15, 200));
        for epoch in 0..4 {
            let windows = order.windows(epoch);
            let mut next = epoch * 15;
            for window in &windows {
                assert_eq!(window.first, next);
                next += window.examples as u64;
                let bytes: u64 = window.shards.iter().map(|&shard| SHARDS[shard].1).sum();
                assert!(bytes <= 100, "{window:?}");
                assert!(!window.shards.contains(&1), "a shard without examples of the split is not read");
            }
            assert_eq!(next, (epoch + 1) * 15);
            assert!(windows.len() > 1);
        }
    }

    #[test]
    fn what_fits_the_buffer_is_one_window_in_every_epoch() {
        let order = order(1, 270);
        for epoch in 0..3 {
            let windows = order.windows(epoch);
            assert_eq!(windows.len(), 1);
            assert_eq!(windows[0].shards, [0, 2, 3, 4, 5]);
        }
        assert_eq!(order.memory(), 270);
    }

    #[test]
    fn a_shard_larger_than_the_window_is_a_window_alone_and_counted() {
        let order = order(1, 20);
        assert!(order.windows(0).iter().all(|window| window.shards.len() == 1));
        assert_eq!(order.memory(), 180, "twice the largest shard");
    }
}
