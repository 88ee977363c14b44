//! Prepares the data of the next update on another thread while the current one is computed.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// Number of ready batches besides the one in preparation. Enough to bridge an update that is faster than usual.
const AHEAD: usize = 1;

/// A source of batches for a stage.
pub trait Batches: Send + 'static {
    /// The data of an update, not yet on the device.
    type Batch: Send + Sync + 'static;

    /// The data of update `step`: a function of the dataset and `step` alone.
    ///
    /// # Errors
    /// It cannot be read.
    fn batch(&mut self, step: u64) -> Result<Self::Batch>;
}

/// Prefetches [`Batches`]. When this is dropped, the thread ends after the batch in preparation.
pub struct Prefetch<T> {
    batches: Arc<Mutex<dyn Batches<Batch = T>>>,
    /// Batches starting with update `next`.
    ready: Option<Receiver<Result<T>>>,
    next: u64,
    last: Option<(u64, Arc<T>)>,
}

impl<T: Send + Sync + 'static> Prefetch<T> {
    /// Wraps a source. Nothing is prepared before the first call of [`batch`](Self::batch).
    pub fn new(batches: impl Batches<Batch = T>) -> Self {
        Self { batches: Arc::new(Mutex::new(batches)), ready: None, next: 0, last: None }
    }

    /// The data of update `step`, which is prefetched if the last call was for the previous update. The last batch can be requested
    /// again.
    ///
    /// # Errors
    /// The data cannot be read.
    pub fn batch(&mut self, step: u64) -> Result<Arc<T>> {
        if let Some((last, batch)) = &self.last
            && *last == step
        {
            return Ok(Arc::clone(batch));
        }
        let ready = match self.ready.take() {
            Some(ready) if self.next == step => ready,
            _ => prepare(Arc::clone(&self.batches), step)?,
        };
        let batch = ready.recv().context("the thread that prepares data ended unexpectedly")??;
        let batch = Arc::new(batch);
        self.ready = Some(ready);
        self.next = step + 1;
        self.last = Some((step, Arc::clone(&batch)));
        Ok(batch)
    }
}

/// Starts a thread that prepares batches, starting with update `first`, until one fails or the receiver is dropped.
fn prepare<T: Send + Sync + 'static>(
    batches: Arc<Mutex<dyn Batches<Batch = T>>>,
    first: u64,
) -> Result<Receiver<Result<T>>> {
    let (sender, receiver) = sync_channel(AHEAD);
    let prepare = move || {
        for step in first.. {
            let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).batch(step);
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    };
    thread::Builder::new().name("data".to_owned()).spawn(prepare).context("cannot start the data thread")?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Counts its calls; fails at update 9.
    struct Counted(Arc<Mutex<Vec<u64>>>);

    impl Batches for Counted {
        type Batch = u64;

        fn batch(&mut self, step: u64) -> Result<u64> {
            self.0.lock().unwrap().push(step);
            anyhow::ensure!(step != 9, "shard 9 is damaged");
            Ok(step * step)
        }
    }

    #[test]
    fn batches_come_in_order_from_any_update_and_few_are_prefetched() {
        let calls = Arc::default();
        let mut prefetch = Prefetch::new(Counted(Arc::clone(&calls)));
        let made = || calls.lock().unwrap().len();
        assert_eq!(made(), 0);
        for step in [0, 1, 1, 2] {
            assert_eq!(*prefetch.batch(step).unwrap(), step * step);
        }
        // The next two are prefetched: one is ready, one waits to be handed over.
        let begun = Instant::now();
        while made() < 5 && begun.elapsed() < Duration::from_secs(60) {
            thread::yield_now();
        }
        assert_eq!(*calls.lock().unwrap(), [0, 1, 2, 3, 4]);
        // A jump, as after a resume.
        assert_eq!(*prefetch.batch(7).unwrap(), 49);
        assert_eq!(*prefetch.batch(8).unwrap(), 64);
    }

    #[test]
    fn an_error_is_returned_in_place_of_its_batch_and_can_be_retried() {
        let mut prefetch = Prefetch::new(Counted(Arc::default()));
        assert_eq!(*prefetch.batch(8).unwrap(), 64);
        for _ in 0..2 {
            assert_eq!(prefetch.batch(9).unwrap_err().to_string(), "shard 9 is damaged");
        }
        assert_eq!(*prefetch.batch(10).unwrap(), 100);
    }
}
