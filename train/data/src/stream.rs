//! The examples of one dataset in the order of training, window by window. A thread reads the next window while the
//! current one is used.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use crate::error::DataError;
use crate::order::{Order, Window};
use crate::record::Split;
use crate::shard::{Entry, Shard};
use crate::shards::Shards;

/// A stream of examples that starts at a given place in the order.
pub(crate) struct Stream {
    windows: Option<Receiver<Result<Loaded, DataError>>>,
    current: Option<Loaded>,
    reader: Option<JoinHandle<()>>,
}

/// A window in memory.
struct Loaded {
    first: u64,
    epoch: u64,
    /// In the order in which they are read.
    entries: Vec<Entry>,
}

impl Stream {
    /// Starts to read the window that holds `place`.
    pub fn start(shards: Arc<Shards>, split: Split, order: Order, place: u64) -> Self {
        // Without room for a window that waits, two are in memory: this one and the one that is being read.
        let (sender, windows) = sync_channel(0);
        let reader = std::thread::spawn(move || read_windows(&shards, split, &order, place, &sender));
        Self { windows: Some(windows), current: None, reader: Some(reader) }
    }

    /// The example at a place, and its epoch. Places must not decrease.
    ///
    /// # Errors
    /// A shard cannot be read or is damaged.
    pub fn get(&mut self, place: u64) -> Result<(Entry, u64), DataError> {
        loop {
            if let Some(window) = &self.current
                && let Some(index) = place.checked_sub(window.first)
                && let Some(entry) = window.entries.get(index as usize)
            {
                return Ok((entry.clone(), window.epoch));
            }
            let next = self.windows.as_ref().map(Receiver::recv);
            // The reader ends after an error only, which was returned then.
            let Some(Ok(next)) = next else { return Err(DataError::StreamEnded) };
            self.current = Some(next?);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Without a receiver the reader ends after the shard that it is reading.
        drop(self.windows.take());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read_windows(
    shards: &Shards,
    split: Split,
    order: &Order,
    place: u64,
    sender: &SyncSender<Result<Loaded, DataError>>,
) {
    let examples = order.examples();
    if examples == 0 {
        return;
    }
    // Shards that are still in use need not be read again: all of them, where the dataset is one window.
    let mut in_memory: HashMap<usize, Weak<Shard>> = HashMap::new();
    for epoch in place / examples.. {
        for window in order.windows(epoch) {
            if window.first + window.examples as u64 <= place {
                continue;
            }
            let loaded = load(shards, split, order, &window, &mut in_memory);
            let failed = loaded.is_err();
            if sender.send(loaded).is_err() || failed {
                return;
            }
        }
    }
}

fn load(
    shards: &Shards,
    split: Split,
    order: &Order,
    window: &Window,
    in_memory: &mut HashMap<usize, Weak<Shard>>,
) -> Result<Loaded, DataError> {
    let mut entries = Vec::with_capacity(window.examples);
    for &index in &window.shards {
        let shard = match in_memory.get(&index).and_then(Weak::upgrade) {
            Some(shard) => shard,
            None => shards.read(index)?,
        };
        in_memory.insert(index, Arc::downgrade(&shard));
        entries.extend(shard.entries(Some(split)));
    }
    in_memory.retain(|_, shard| shard.strong_count() > 0);
    if entries.len() != window.examples {
        let message = format!("expected {} {split} records, got {}", window.examples, entries.len());
        return Err(DataError::damaged(shards.folder(), message));
    }
    let entries = order.permutation(window).into_iter().map(|index| entries[index].clone()).collect();
    Ok(Loaded { first: window.first, epoch: window.epoch, entries })
}
