//! How fast the engine is, measured: the source of Retry-After.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Weight of the newest step in the moving average.
const NEWEST: f64 = 0.1;
/// Bounds of the advice: a client should neither hammer nor despair.
const ADVICE_SECONDS: (f64, f64) = (1.0, 600.0);

/// Written by the engine after each step, read by anybody.
#[derive(Default)]
pub struct Speed {
    /// Moving average of a step's seconds, as bits; 0 before the first.
    step_seconds: AtomicU64,
    /// Steps until the running job that is nearest its end leaves.
    steps_left: AtomicU64,
}

impl Speed {
    /// A step took this long, after which the first job to end needs `steps_left` more.
    pub fn record(&self, step: Duration, steps_left: usize) {
        let old = f64::from_bits(self.step_seconds.load(Ordering::Relaxed));
        let new = step.as_secs_f64();
        let mean = if old == 0.0 { new } else { old + NEWEST * (new - old) };
        self.step_seconds.store(mean.to_bits(), Ordering::Relaxed);
        self.steps_left.store(steps_left as u64, Ordering::Relaxed);
    }

    /// Whole seconds after which the queue should have a place.
    pub fn retry_after(&self) -> u64 {
        let step = f64::from_bits(self.step_seconds.load(Ordering::Relaxed));
        let steps = self.steps_left.load(Ordering::Relaxed) as f64;
        (step * steps).clamp(ADVICE_SECONDS.0, ADVICE_SECONDS.1).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_steps_times_measured_seconds_within_bounds() {
        let speed = Speed::default();
        assert_eq!(speed.retry_after(), 1, "before anything was measured");
        for _ in 0..100 {
            speed.record(Duration::from_millis(100), 255);
        }
        assert_eq!(speed.retry_after(), 26);
        speed.record(Duration::from_millis(100), 100_000);
        assert_eq!(speed.retry_after(), 600);
    }
}
