//! The examples of each batch of a training.
//!
//! The examples of all batches are one endless sequence; the batch of an update takes those at places `step · batch` to
//! `(step + 1) · batch`. So a batch is a function of the data, the seed and the update's number, and reading can start at any
//! update: that is all that resuming a run takes. Of several workers, each takes its part of these places.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::DataError;
use crate::mixture::{Mixture, Origin};
use crate::shard::Entry;
use crate::stream::Stream;
use crate::training_data::TrainingData;

/// The part of every batch that one worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Examples in a batch of all workers together.
    pub batch: usize,
    /// Number of this worker, from 0.
    pub rank: usize,
    /// Number of workers.
    pub world: usize,
}

impl Share {
    /// All of every batch.
    pub fn whole(batch: usize) -> Self {
        Self { batch, rank: 0, world: 1 }
    }

    /// Places in the sequence of examples: rank r of W takes those from `r · batch / W` to `(r + 1) · batch / W` of the batch.
    pub fn places(&self, step: u64) -> Range<u64> {
        let first = step * self.batch as u64;
        let bound = |rank: usize| first + (rank * self.batch / self.world) as u64;
        bound(self.rank)..bound(self.rank + 1)
    }
}

/// An example of a batch, not yet decoded.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its record.
    pub entry: Entry,
    /// Index of its dataset.
    pub dataset: usize,
    /// How many times its dataset was read before.
    pub epoch: u64,
    /// Its place in the sequence: the index of its random numbers.
    pub number: u64,
}

/// Reads the batch of each update.
pub struct Reader {
    data: TrainingData,
    share: Share,
    mixture: Mixture,
    /// By dataset: those that were read so far.
    streams: BTreeMap<usize, Stream>,
    /// The update that the streams stand at.
    next: u64,
}

impl TrainingData {
    /// Reads the batches of a worker.
    pub fn reader(&self, share: Share) -> Reader {
        Reader::new(self.clone(), share)
    }
}

impl Reader {
    fn new(data: TrainingData, share: Share) -> Self {
        let mixture = data.mixture();
        Self { data, share, mixture, streams: BTreeMap::new(), next: 0 }
    }

    /// The examples of update `step`. Updates that follow one another are read from memory that is filled ahead; any other
    /// one begins by reading a window.
    ///
    /// # Errors
    /// A shard cannot be read or is damaged.
    pub fn items(&mut self, step: u64) -> Result<Vec<Item>, DataError> {
        if step != self.next {
            self.streams.clear();
        }
        let items = self.share.places(step).map(|number| self.item(number)).collect::<Result<Vec<_>, _>>();
        self.next = step + 1;
        if items.is_err() {
            // A stream ends with its error; asked again, a new one repeats it.
            self.streams.clear();
        }
        items
    }

    fn item(&mut self, number: u64) -> Result<Item, DataError> {
        let Origin { dataset, place } = self.mixture.at(number);
        let stream = self.streams.entry(dataset).or_insert_with(|| self.data.stream(dataset, place));
        let (entry, epoch) = stream.get(place)?;
        Ok(Item { entry, dataset, epoch, number })
    }
}
