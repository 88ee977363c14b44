//! Detects a stalled engine. It beats after every unit of work, and a busy engine that does not beat for too long has stalled.
//!
//! Written by the engine and by the threads that give it work. An idle engine does not beat, so the arrival of work counts as a
//! beat.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A busy engine stalls after this many mean steps without a beat, if that is longer than the timeout: the first step of a new batch
/// size may compile kernels.
const STEPS: u32 = 20;

/// The engine's heartbeat.
pub struct Heartbeat {
    start: Instant,
    /// Time of the last beat, in milliseconds since the start.
    last: AtomicU64,
    busy: AtomicBool,
    timeout: Duration,
}

impl Heartbeat {
    /// The heartbeat of an idle engine, which stalls if it is busy for `timeout` without a beat.
    pub fn new(timeout: Duration) -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), busy: AtomicBool::new(false), timeout }
    }

    /// The engine finished a unit of work and has more.
    pub fn beat(&self) {
        self.last.store(self.elapsed(Instant::now()), Ordering::SeqCst);
        self.busy.store(true, Ordering::SeqCst);
    }

    /// The engine has no more work.
    pub fn rest(&self) {
        self.busy.store(false, Ordering::SeqCst);
    }

    /// Work is about to be given to the engine. To be called before the command that wakes it.
    pub fn work_arrives(&self) {
        if !self.busy.load(Ordering::SeqCst) {
            self.beat();
        }
    }

    /// Time since the last beat of a busy engine; zero for an idle one.
    pub fn silence(&self, now: Instant) -> Duration {
        if !self.busy.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        Duration::from_millis(self.elapsed(now).saturating_sub(self.last.load(Ordering::SeqCst)))
    }

    /// Silence after which the engine counts as stalled, for a mean step of `step`.
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
