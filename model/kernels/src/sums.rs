//! Gradients of a batch, whatever the number of threads, and the memory that updates need.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Most sums of gradients of a batch, and so most threads that compute its examples. Examples are dealt out to the sums, which are
/// then added up in order: the result does not depend on the number of threads.
pub(crate) const SUMS: usize = 64;

/// What updates keep in memory beside parameters and gradients, in values of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateValues {
    /// Weights as the kernels read them, and sums of gradients.
    pub state: usize,
    /// Feature maps, or rows of slots.
    pub activations: usize,
}

/// Threads that compute updates.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Buffers that sums of `examples` need on `threads` threads.
pub(crate) fn buffers(examples: usize, threads: usize) -> usize {
    if threads == 1 { 1 } else { examples.min(threads + 1) }
}

/// Buffers for sums: one, or with several threads one more than these.
#[derive(Debug, Default)]
pub(crate) struct SumBuffers(Mutex<Vec<Vec<f32>>>);

impl SumBuffers {
    /// A buffer of zeros.
    fn take(&self, length: usize) -> Vec<f32> {
        let mut buffer = lock(&self.0).pop().unwrap_or_default();
        buffer.clear();
        buffer.resize(length, 0.0);
        buffer
    }

    fn give_back(&self, buffer: Vec<f32>) {
        lock(&self.0).push(buffer);
    }
}

struct Progress<'a, R> {
    /// Sums that have been begun, and those that have been added to the total.
    begun: usize,
    added: usize,
    /// Sums that wait for one before them.
    waiting: BTreeMap<usize, Vec<f32>>,
    results: BTreeMap<usize, R>,
    total: &'a mut [f32],
}

/// Computes `count` sums on `threads` threads: `compute` adds to a buffer of zeros. Writes their total, added up in order, to `total`,
/// and returns the results of `compute` in order.
pub(crate) fn add_up<R: Send>(
    buffers: &SumBuffers,
    (count, threads): (usize, usize),
    total: &mut [f32],
    compute: impl Fn(usize, &mut [f32]) -> R + Sync,
) -> Vec<R> {
    let (length, threads) = (total.len(), threads.min(count));
    let (waiting, results) = (BTreeMap::new(), BTreeMap::new());
    let progress = Mutex::new(Progress { begun: 0, added: 0, waiting, results, total });
    let changed = Condvar::new();
    let work = || {
        let _guard = ReleaseOthers { progress: &progress, changed: &changed, count };
        loop {
            let mut now = lock(&progress);
            // A thread that is ahead of the others waits, so that few buffers are needed. None waits for a sum that is not being
            // computed.
            while now.begun < count && now.begun > now.added + threads {
                now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
            }
            let index = now.begun;
            if index >= count {
                return;
            }
            now.begun += 1;
            drop(now);
            let mut buffer = buffers.take(length);
            let result = compute(index, &mut buffer);
            let mut now = lock(&progress);
            now.results.insert(index, result);
            now.waiting.insert(index, buffer);
            let now = &mut *now;
            while let Some(buffer) = now.waiting.remove(&now.added) {
                if now.added == 0 {
                    now.total.copy_from_slice(&buffer);
                } else {
                    now.total.iter_mut().zip(&buffer).for_each(|(total, value)| *total += value);
                }
                buffers.give_back(buffer);
                now.added += 1;
            }
            changed.notify_all();
        }
    };
    if threads == 1 {
        work();
    } else {
        rayon::scope(|scope| (0..threads).for_each(|_| scope.spawn(|_| work())));
    }
    progress.into_inner().unwrap_or_else(PoisonError::into_inner).results.into_values().collect()
}

/// Lets the other threads end when one ends: it panics, or there is nothing left to begin.
struct ReleaseOthers<'a, 'b, R> {
    progress: &'a Mutex<Progress<'b, R>>,
    changed: &'a Condvar,
    count: usize,
}

impl<R> Drop for ReleaseOthers<'_, '_, R> {
    fn drop(&mut self) {
        lock(self.progress).begun = self.count;
        self.changed.notify_all();
    }
}

/// Locks a value that stays valid if a thread panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The total and the results of some sums, on a number of threads.
    fn sums(count: usize, threads: usize) -> (Vec<f32>, Vec<usize>) {
        let buffers = SumBuffers::default();
        let mut total = vec![f32::NAN; 3];
        let compute = |index: usize, sum: &mut [f32]| {
            assert_eq!(sum, [0.0; 3]);
            sum.iter_mut().zip([1.0e7, 0.1, -1.0]).for_each(|(sum, x)| *sum += x * (index as f32 + 0.3));
            // Later sums are faster.
            (0..100_000 * (count - index)).for_each(|turn| assert!(std::hint::black_box(turn) < usize::MAX));
            index
        };
        let results = add_up(&buffers, (count, threads), &mut total, compute);
        let kept = lock(&buffers.0).len();
        assert!(kept <= if threads == 1 { 1 } else { threads + 1 }, "{kept} buffers");
        (total, results)
    }

    #[test]
    fn totals_do_not_depend_on_the_number_of_threads() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        let expected = sums(11, 1);
        assert_eq!(expected.1, (0..11).collect::<Vec<_>>());
        for threads in [2, 3, 4] {
            assert_eq!(pool.install(|| sums(11, threads)), expected);
        }
    }

    #[test]
    #[should_panic(expected = "example 1")]
    fn a_panic_ends_all_threads() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let compute = |index: usize, _: &mut [f32]| assert!(index != 1, "example {index}");
        pool.install(|| add_up(&SumBuffers::default(), (9, 2), &mut [0.0], compute));
    }
}
