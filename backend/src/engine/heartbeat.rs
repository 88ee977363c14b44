//! Whether the engine makes progress: it beats after every piece of work, and a busy engine that does not beat has stalled.
//!
//! Written by the engine and by those who give it work, read by anyone. An engine without work does not beat, so work that
//! arrives counts as a beat.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A busy engine has stalled when it has not beaten for this many mean steps, where that is longer than the timeout: the first
/// step of a new batch size may compile kernels.
const STEPS: u32 = 20;

/// See the module.
pub struct Heartbeat {
    start: Instant,
    /// Milliseconds from the start to the last beat.
    last: AtomicU64,
    busy: AtomicBool,
    timeout: Duration,
}

impl Heartbeat {
    /// An engine without work, which stalls when it is busy for `timeout` without a beat.
    pub fn new(timeout: Duration) -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), busy: AtomicBool::new(false), timeout }
    }

    /// The engine did a piece of work and has more.
    pub fn beat(&self) {
        self.last.store(self.elapsed(Instant::now()), Ordering::SeqCst);
        self.busy.store(true, Ordering::SeqCst);
    }

    /// The engine has no work.
    pub fn rest(&self) {
        self.busy.store(false, Ordering::SeqCst);
    }

    /// Work is about to be given to the engine. Must come before the command that wakes it.
    pub fn work_arrives(&self) {
        if !self.busy.load(Ordering::SeqCst) {
            self.beat();
        }
    }

    /// Time since the last beat of a busy engine; zero for one without work.
    pub fn silence(&self, now: Instant) -> Duration {
        if !self.busy.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        Duration::from_millis(self.elapsed(now).saturating_sub(self.last.load(Ordering::SeqCst)))
    }

    /// Silence after which the engine has stalled, for a mean step of `step`.
    pub fn patience(&self, step: Duration) -> Duration {
        self.timeout.max(step.saturating_mul(STEPS))
    }

    fn elapsed(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_last_beat_of_a_busy_engine_and_is_zero_when_idle() {
        let heartbeat = Heartbeat::new(Duration::from_secs(60));
        let later = || Instant::now() + Duration::from_secs(100);
        assert_eq!(heartbeat.silence(later()), Duration::ZERO, "no work yet");
        heartbeat.work_arrives();
        assert!(heartbeat.silence(later()) >= Duration::from_secs(99), "work arrived and nothing happened");
        heartbeat.beat();
        assert!(heartbeat.silence(Instant::now()) < Duration::from_secs(50));
        heartbeat.rest();
        assert_eq!(heartbeat.silence(later()), Duration::ZERO);
    }

    #[test]
    fn more_work_does_not_hide_that_a_busy_engine_is_silent() {
        let heartbeat = Heartbeat::new(Duration::from_secs(1));
        heartbeat.beat();
        let beat = heartbeat.last.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        heartbeat.work_arrives();
        assert_eq!(heartbeat.last.load(Ordering::SeqCst), beat);
    }

    #[test]
    fn patience_is_the_timeout_or_twenty_steps() {
        let heartbeat = Heartbeat::new(Duration::from_secs(60));
        assert_eq!(heartbeat.patience(Duration::from_millis(10)), Duration::from_secs(60));
        assert_eq!(heartbeat.patience(Duration::from_secs(10)), Duration::from_secs(200));
    }
}
