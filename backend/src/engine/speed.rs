//! The engine's measured speed, from which Retry-After and stall detection are computed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Weight of the newest step in the moving average.
const NEWEST: f64 = 0.1;

/// Written by the engine after each step, read by other threads.
#[derive(Default)]
pub struct Speed {
    /// Moving average of a step's duration in seconds, as bits of an f64; 0 before the first step.
    step_seconds: AtomicU64,
    /// Seconds until there is room for the first job of the queue, as bits of an f64.
    next_place_seconds: AtomicU64,
}

impl Speed {
    /// Records a step that took `step`. After `steps_left` more steps there is room for the first job of the queue.
    pub fn record(&self, step: Duration, steps_left: usize) {
        let old = read(&self.step_seconds);
        let new = step.as_secs_f64();
        let mean = if old == 0.0 { new } else { old + NEWEST * (new - old) };
        write(&self.step_seconds, mean);
        write(&self.next_place_seconds, mean * steps_left as f64);
    }

    /// Records that there is room for the first job of the queue after `time`. For when no job is being sampled.
    pub fn record_next_place(&self, time: Duration) {
        write(&self.next_place_seconds, time.as_secs_f64());
    }

    /// Mean duration of a step; zero before the first one.
    pub fn step(&self) -> Duration {
        duration(read(&self.step_seconds))
    }

    /// Time until the engine has room for the first job of the queue, which then leaves its slot in the queue.
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
        assert!(close(speed.next_place(), 3000) && close(speed.step(), 110), "the mean step is unchanged");
    }
}
