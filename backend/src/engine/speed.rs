//! How fast the engine is, measured: what Retry-After and the stall detection are computed from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Weight of the newest step in the moving average.
const NEWEST: f64 = 0.1;

/// Written by the engine after each step, read by anyone.
#[derive(Default)]
pub struct Speed {
    /// Moving average of a step's seconds, as bits; 0 before the first.
    step_seconds: AtomicU64,
    /// Seconds until the first job of the queue has room, as bits.
    next_place_seconds: AtomicU64,
}

impl Speed {
    /// Records a step that took `step`, after which it takes `steps_left` more until the first job of the queue has room.
    pub fn record(&self, step: Duration, steps_left: usize) {
        let old = read(&self.step_seconds);
        let new = step.as_secs_f64();
        let mean = if old == 0.0 { new } else { old + NEWEST * (new - old) };
        write(&self.step_seconds, mean);
        write(&self.next_place_seconds, mean * steps_left as f64);
    }

    /// Records that it takes `time` until the first job of the queue has room, if no job samples.
    pub fn record_next_place(&self, time: Duration) {
        write(&self.next_place_seconds, time.as_secs_f64());
    }

    /// Mean time of a step; zero before the first.
    pub fn step(&self) -> Duration {
        duration(read(&self.step_seconds))
    }

    /// Time until the first job of the queue has room in the engine and leaves its place in the queue.
    pub fn next_place(&self) -> Duration {
        duration(read(&self.next_place_seconds))
    }
}

fn read(bits: &AtomicU64) -> f64 {
    f64::from_bits(bits.load(Ordering::Relaxed))
}

fn write(bits: &AtomicU64, seconds: f64) {
    bits.store(seconds.to_bits(), Ordering::Relaxed);
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: Duration, milliseconds: u64) -> bool {
        got.abs_diff(Duration::from_millis(milliseconds)) < Duration::from_millis(1)
    }

    #[test]
    fn time_until_room_is_the_steps_left_times_the_mean_step() {
        let speed = Speed::default();
        assert_eq!(
            (speed.step(), speed.next_place()),
            (Duration::ZERO, Duration::ZERO),
            "nothing measured yet"
        );
        for _ in 0..100 {
            speed.record(Duration::from_millis(100), 255);
        }
        assert!(close(speed.next_place(), 25_500));
        speed.record(Duration::from_millis(200), 10);
        assert!(close(speed.next_place(), 1100));
        speed.record_next_place(Duration::from_secs(3));
        assert!(close(speed.next_place(), 3000) && close(speed.step(), 110), "it was no step");
    }
}
