//! Which dataset each place of the training sequence reads from, when several are mixed by weight.
//!
//! The sequence is cut into blocks of 65,536 places. Each dataset has the same number of places in every block, in proportion
//! to its weight, in an order that is a function of the seed and the block. So the number of examples read from each dataset
//! before any place is known without reading the sequence from its start.

use rand::seq::SliceRandom;

use crate::random::{Purpose, stream};

/// Places in a block: weights are rounded to this fraction.
const BLOCK: u64 = 1 << 16;

/// Where an example comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Index of the dataset.
    pub dataset: usize,
    /// Place in the endless sequence of that dataset's examples.
    pub place: u64,
}

/// The origins of all places. Reads them in any order; remembers one block.
#[derive(Clone, Debug)]
pub struct Mixture {
    seed: u64,
    /// Places of each dataset in a block; their sum is [`BLOCK`].
    quotas: Vec<u64>,
    block: Option<(u64, Vec<Origin>)>,
}

impl Mixture {
    /// A mixture of as many datasets as there are weights. Each dataset has at least one place in a block.
    ///
    /// # Panics
    /// If there are no weights, or more than [`BLOCK`].
    pub fn new(seed: u64, weights: &[f64]) -> Self {
        Self { seed, quotas: quotas(weights), block: None }
    }

    /// Where the example at a place comes from.
    pub fn at(&mut self, place: u64) -> Origin {
        if self.quotas.len() == 1 {
            return Origin { dataset: 0, place };
        }
        let number = place / BLOCK;
        let block = match self.block.take() {
            Some((known, block)) if known == number => block,
            _ => self.read_block(number),
        };
        let origin = block[(place % BLOCK) as usize];
        self.block = Some((number, block));
        origin
    }

    fn read_block(&self, number: u64) -> Vec<Origin> {
        let mut datasets: Vec<usize> = (0..self.quotas.len())
            .flat_map(|dataset| std::iter::repeat_n(dataset, self.quotas[dataset] as usize))
            .collect();
        datasets.shuffle(&mut stream(self.seed, Purpose::Mixture, number));
        let mut next: Vec<u64> = self.quotas.iter().map(|quota| number * quota).collect();
        let origin = |dataset: usize| {
            let place = next[dataset];
            next[dataset] += 1;
            Origin { dataset, place }
        };
        datasets.into_iter().map(origin).collect()
    }
}

/// Places of each dataset in a block: weights rounded down, then the rest to those that lost most.
fn quotas(weights: &[f64]) -> Vec<u64> {
    assert!((1..=BLOCK as usize).contains(&weights.len()), "{} datasets", weights.len());
    let total: f64 = weights.iter().sum();
    let exact: Vec<f64> = weights.iter().map(|weight| weight / total * BLOCK as f64).collect();
    let mut quotas: Vec<u64> = exact.iter().map(|&share| (share as u64).max(1)).collect();
    let lost = |quotas: &[u64], index: usize| exact[index] - quotas[index] as f64;
    loop {
        let sum: u64 = quotas.iter().sum();
        let indexes = 0..quotas.len();
        let changed = match sum.cmp(&BLOCK) {
            std::cmp::Ordering::Equal => return quotas,
            std::cmp::Ordering::Less => {
                indexes.max_by(|&a, &b| lost(&quotas, a).total_cmp(&lost(&quotas, b))).map(|index| (index, 1))
            }
            std::cmp::Ordering::Greater => indexes
                .filter(|&index| quotas[index] > 1)
                .min_by(|&a, &b| lost(&quotas, a).total_cmp(&lost(&quotas, b)))
                .map(|index| (index, -1)),
        };
        let Some((index, change)) = changed else { return quotas };
        quotas[index] = quotas[index].saturating_add_signed(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dataset_is_read_in_order_and_by_its_weight() {
        let mut mixture = Mixture::new(3, &[3.0, 1.0, 1e-9]);
        let mut next = [0; 3];
        for place in 0..3 * BLOCK {
            let origin = mixture.at(place);
            assert_eq!(origin.place, next[origin.dataset], "at {place}");
            next[origin.dataset] += 1;
        }
        assert_eq!(next.iter().sum::<u64>(), 3 * BLOCK);
        assert!(next[0].abs_diff(9 * BLOCK / 4) < 6 && next[1].abs_diff(3 * BLOCK / 4) < 6, "{next:?}");
        assert_eq!(next[2], 3, "the lightest one has one place in a block");
    }

    #[test]
    fn a_place_has_the_same_origin_wherever_reading_starts() {
        let mut through = Mixture::new(5, &[0.2, 0.3, 0.5]);
        let origins: Vec<Origin> = (0..2 * BLOCK).map(|place| through.at(place)).collect();
        for place in [0, 1, BLOCK - 1, BLOCK, BLOCK + 777] {
            assert_eq!(Mixture::new(5, &[0.2, 0.3, 0.5]).at(place), origins[place as usize]);
        }
        // Mixed finely: no long stretch of one dataset.
        let runs = origins.chunk_by(|a, b| a.dataset == b.dataset).map(<[Origin]>::len).max();
        assert!(runs < Some(40), "{runs:?}");
    }

    #[test]
    fn one_dataset_is_read_as_it_is() {
        let mut mixture = Mixture::new(1, &[0.5]);
        assert_eq!(mixture.at(123_456_789), Origin { dataset: 0, place: 123_456_789 });
    }
}
