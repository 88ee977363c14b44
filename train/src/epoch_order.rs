//! Which example comes when.

use rand::seq::SliceRandom;

use crate::random::{Purpose, stream};

/// One use of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Number of examples used before, over all epochs: what its randomness is keyed by.
    pub number: u64,
    /// Position of the example in the dataset.
    pub index: usize,
}

/// The order of examples in training: a new permutation in every epoch, a function of the seed alone.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    seed: u64,
    count: usize,
    epoch: Option<u64>,
    permutation: Vec<usize>,
}

impl EpochOrder {
    /// An order over `count` examples.
    pub fn new(seed: u64, count: usize) -> Self {
        Self { seed, count, epoch: None, permutation: Vec::new() }
    }

    /// The examples of update `step` in batches of `batch`.
    pub fn batch(&mut self, step: u64, batch: usize) -> Vec<Turn> {
        let first = step * batch as u64;
        (first..first + batch as u64).map(|number| Turn { number, index: self.at(number) }).collect()
    }

    fn at(&mut self, number: u64) -> usize {
        let epoch = number / self.count as u64;
        if self.epoch != Some(epoch) {
            self.permutation = (0..self.count).collect();
            self.permutation.shuffle(&mut stream(self.seed, Purpose::Order, epoch));
            self.epoch = Some(epoch);
        }
        self.permutation[(number % self.count as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_everything_once_and_starts_anywhere_alike() {
        let indices = |order: &mut EpochOrder, step: u64, batch: usize| -> Vec<usize> {
            order.batch(step, batch).into_iter().map(|turn| turn.index).collect()
        };
        let mut order = EpochOrder::new(1, 10);
        let mut first: Vec<usize> = (0..5).flat_map(|step| indices(&mut order, step, 2)).collect();
        assert_eq!(indices(&mut EpochOrder::new(1, 10), 3, 2), first[6..8]);
        assert_eq!(EpochOrder::new(1, 10).batch(3, 2), EpochOrder::new(1, 10).batch(1, 4)[2..]);
        let second: Vec<usize> = (5..10).flat_map(|step| indices(&mut order, step, 2)).collect();
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
    }
}
