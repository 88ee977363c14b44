//! A bound on the memory of all threads together.

use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that threads share. A thread waits until what it needs is free; what is more than all of it is used alone.
#[derive(Debug)]
pub struct Budget {
    total: u64,
    free: Mutex<u64>,
    returned: Condvar,
}

/// Bytes in use; dropping it returns them.
#[derive(Debug)]
pub struct Reserved<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// A budget of this many bytes.
    pub const fn new(total: u64) -> Self {
        Self { total, free: Mutex::new(total), returned: Condvar::new() }
    }

    /// Waits until so many bytes are free, and takes them.
    pub fn reserve(&self, bytes: u64) -> Reserved<'_> {
        let bytes = bytes.min(self.total);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = self.returned.wait_while(free, |free| *free < bytes);
        *enough.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Reserved { budget: self, bytes }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn threads_together_never_use_more_than_the_budget() {
        static BUDGET: Budget = Budget::new(10);
        let (used, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (used, most) = (&used, &most);
                scope.spawn(move || {
                    for turn in 0..50 {
                        // Some ask for more than there is.
                        let wanted = 1 + (thread * 7 + turn * 3) % 13;
                        let reserved = BUDGET.reserve(wanted);
                        let now = used.fetch_add(reserved.bytes, Ordering::SeqCst) + reserved.bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        used.fetch_sub(reserved.bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((2..=10).contains(&most.load(Ordering::SeqCst)));
        drop(BUDGET.reserve(10));
    }
}
