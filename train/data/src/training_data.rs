//! The datasets that a training reads, mixed by weight, and the batches made of them.

use std::sync::Arc;

use rand::Rng;
use serde_json::{Value, json};

use crate::error::DataError;
use crate::mixture::Mixture;
use crate::order::{Order, ShardSize};
use crate::random::{Purpose, stream};
use crate::record::Split;
use crate::shards::Shards;
use crate::stream::Stream;

/// Datasets, mixed by weight, in an order that is a function of the seed.
#[derive(Clone, Debug)]
pub struct TrainingData {
    parts: Vec<Part>,
    split: Split,
    seed: u64,
    buffer: u64,
}

/// One dataset of the mixture.
#[derive(Clone, Debug)]
struct Part {
    shards: Arc<Shards>,
    sizes: Vec<ShardSize>,
    /// As it was given; none stands for the number of examples.
    weight: Option<f64>,
}

impl TrainingData {
    /// The examples of one split of these datasets. A dataset without a weight has its number of examples as weight, so
    /// that without weights every example is read equally often. `buffer` is how many bytes of shards may be in memory.
    ///
    /// # Errors
    /// There are no datasets, some have a weight and others none, their validation splits do not fit together, one has no
    /// examples of the split, or its shards had to be counted and cannot be read.
    pub fn new(
        datasets: Vec<(Shards, Option<f64>)>,
        split: Split,
        seed: u64,
        buffer: u64,
    ) -> Result<Self, DataError> {
        check_weights(&datasets)?;
        check_splits(&datasets)?;
        let part = |(shards, weight): (Shards, Option<f64>)| {
            let sizes = shards.sizes(split)?;
            if sizes.iter().all(|shard| shard.examples == 0) {
                return Err(DataError::EmptySplit { folder: shards.folder().to_owned(), split });
            }
            Ok(Part { shards: Arc::new(shards), sizes, weight })
        };
        let parts = datasets.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
        if parts.is_empty() {
            return Err(DataError::Nothing {
                reasons: "no dataset is given".to_owned(),
                problems: Vec::new(),
            });
        }
        Ok(Self { parts, split, seed, buffer })
    }

    /// Its datasets and the weights that were given for them.
    pub fn datasets(&self) -> impl Iterator<Item = (&Shards, Option<f64>)> {
        self.parts.iter().map(|part| (&*part.shards, part.weight))
    }

    /// Examples of all datasets together.
    pub fn examples(&self) -> usize {
        self.parts.iter().map(Part::examples).sum()
    }

    /// Checks that all datasets hold images.
    ///
    /// # Errors
    /// One holds tokens.
    pub fn require_images(&self) -> Result<(), DataError> {
        match self.datasets().find(|(shards, _)| shards.manifest().tokens.is_some()) {
            Some((shards, _)) => Err(DataError::TokensNotImages(shards.folder().to_owned())),
            None => Ok(()),
        }
    }

    /// The smallest side of the images in pixels.
    pub fn image_size(&self) -> u32 {
        self.datasets().map(|(shards, _)| shards.manifest().image_size).min().unwrap_or(0)
    }

    /// What decides which examples are read and in which order, beside the seed: a run resumes only with the same.
    pub fn identity(&self) -> Value {
        let datasets: Vec<Value> = self
            .datasets()
            .map(|(shards, weight)| match weight {
                None => json!(shards.hash()),
                Some(weight) => json!({ "hash": shards.hash(), "weight": weight }),
            })
            .collect();
        let fits = self.orders().all(|order| order.windows(0).len() == 1);
        match (datasets.as_slice(), fits) {
            ([one], true) => one.clone(),
            (_, true) => json!(datasets),
            (_, false) => json!({ "datasets": datasets, "buffer": self.buffer }),
        }
    }

    /// Bytes of shards that are in memory at the same time.
    pub fn memory(&self) -> u64 {
        self.orders().map(|order| order.memory()).sum()
    }

    pub(crate) fn mixture(&self) -> Mixture {
        let weights: Vec<f64> =
            self.parts.iter().map(|part| part.weight.unwrap_or(part.examples() as f64)).collect();
        Mixture::new(self.seed, &weights)
    }

    /// A stream of the examples of one dataset that starts at `place` in its order.
    pub(crate) fn stream(&self, dataset: usize, place: u64) -> Stream {
        let part = &self.parts[dataset];
        Stream::start(Arc::clone(&part.shards), self.split, self.order(dataset), place)
    }

    pub(crate) fn order(&self, dataset: usize) -> Order {
        let part = &self.parts[dataset];
        // Each dataset has memory in proportion to its size: all of them fit, or each has its share.
        let total: u64 = self.parts.iter().map(Part::bytes).sum();
        let share = part.bytes() as f64 / total.max(1) as f64;
        let buffer = if total <= self.buffer { part.bytes() } else { (share * self.buffer as f64) as u64 };
        let seed = stream(self.seed, Purpose::Dataset, dataset as u64).next_u64();
        Order::new(seed, part.sizes.clone(), buffer)
    }

    fn orders(&self) -> impl Iterator<Item = Order> {
        (0..self.parts.len()).map(|dataset| self.order(dataset))
    }
}

/// Checks that all datasets have a weight or none. A number of examples and a weight are not comparable.
fn check_weights(datasets: &[(Shards, Option<f64>)]) -> Result<(), DataError> {
    let first = |weighted: bool| datasets.iter().find(|(_, weight)| weight.is_some() == weighted);
    match (first(true), first(false)) {
        (Some((with, _)), Some((without, _))) => Err(DataError::PartlyWeighted {
            with: with.folder().to_owned(),
            without: without.folder().to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Checks that no concept can be trained on in one dataset and held out in another: [`Split::of`] depends on the share.
fn check_splits(datasets: &[(Shards, Option<f64>)]) -> Result<(), DataError> {
    let share = |shards: &Shards| shards.manifest().options.val_share;
    let held_out = datasets.iter().map(|(shards, _)| shards).find(|shards| shards.manifest().val > 0);
    let Some(held_out) = held_out else { return Ok(()) };
    match datasets.iter().find(|(shards, _)| share(shards) != share(held_out)) {
        None => Ok(()),
        Some((other, _)) => Err(DataError::OtherSplit {
            folders: [held_out, other].map(|shards| shards.folder().to_owned()),
            shares: [held_out, other].map(share),
        }),
    }
}

impl Part {
    fn examples(&self) -> usize {
        self.sizes.iter().map(|shard| shard.examples).sum()
    }

    fn bytes(&self) -> u64 {
        self.sizes.iter().map(|shard| shard.bytes).sum()
    }
}
