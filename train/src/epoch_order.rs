//! Which example comes when.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

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
    pub fn batch(&mut self, step: u64, batch: usize) -> Vec<usize> {
        let first = step * batch as u64;
        (first..first + batch as u64).map(|place| self.at(place)).collect()
    }

    fn at(&mut self, place: u64) -> usize {
        let epoch = place / self.count as u64;
        if self.epoch != Some(epoch) {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(epoch);
            self.permutation = (0..self.count).collect();
            self.permutation.shuffle(&mut rng);
            self.epoch = Some(epoch);
        }
        self.permutation[(place % self.count as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_everything_once_and_starts_anywhere_alike() {
        let mut order = EpochOrder::new(1, 10);
        let mut first: Vec<usize> = (0..5).flat_map(|step| order.batch(step, 2)).collect();
        assert_eq!(EpochOrder::new(1, 10).batch(3, 2), first[6..8]);
        let second: Vec<usize> = (5..10).flat_map(|step| order.batch(step, 2)).collect();
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
    }
}
