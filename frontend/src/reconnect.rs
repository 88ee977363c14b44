//! When to open an event stream again that ended early, and when to give up.
//!
//! Every attempt waits, longer each time, whatever ended the stream. Only an event that is new resets the waits.

/// Waits before the attempts in milliseconds; the last one repeats.
const WAITS_MS: [f64; 4] = [300.0, 1_000.0, 2_000.0, 4_000.0];
/// A server that does not answer for longer is gone.
const PATIENCE_MS: f64 = 15_000.0;
/// Streams in a row that may end without a new event.
const MAX_FRUITLESS: usize = 5;

/// Attempts since the last new event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reconnect {
    attempts: usize,
    fruitless: usize,
    unanswered_since: Option<f64>,
}

impl Reconnect {
    /// A new event arrived: the connection works.
    pub fn progressed(&mut self) {
        *self = Self::default();
    }

    /// The server answered with a stream.
    pub fn opened(&mut self) {
        self.unanswered_since = None;
    }

    /// An open stream ended early. Returns the milliseconds to wait before the next attempt, or None to give up.
    pub fn ended(&mut self) -> Option<f64> {
        self.fruitless += 1;
        (self.fruitless <= MAX_FRUITLESS).then(|| self.wait())
    }

    /// The server did not answer at time `now` (milliseconds). Returns the milliseconds to wait before the next attempt, or
    /// None to give up.
    pub fn unanswered(&mut self, now: f64) -> Option<f64> {
        let since = *self.unanswered_since.get_or_insert(now);
        (now - since < PATIENCE_MS).then(|| self.wait())
    }

    /// Whether the server has not answered the latest attempt.
    pub fn is_unanswered(&self) -> bool {
        self.unanswered_since.is_some()
    }

    fn wait(&mut self) -> f64 {
        let wait = WAITS_MS[self.attempts.min(WAITS_MS.len() - 1)];
        self.attempts += 1;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_that_ends_early_counts_and_waits_longer_each_time() {
        let mut reconnect = Reconnect::default();
        let mut waits = Vec::new();
        while let Some(wait) = reconnect.ended() {
            // The server answers each time, but brings nothing new.
            reconnect.opened();
            waits.push(wait);
            assert!(waits.len() < 100, "a loop without end");
        }
        assert_eq!(waits, [300.0, 1_000.0, 2_000.0, 4_000.0, 4_000.0]);
    }

    #[test]
    fn a_server_that_stays_away_is_given_up_after_a_quarter_of_a_minute() {
        let mut reconnect = Reconnect::default();
        let (mut now, mut attempts) = (5_000.0, 0);
        while let Some(wait) = reconnect.unanswered(now) {
            assert!(reconnect.is_unanswered());
            now += wait;
            attempts += 1;
        }
        assert!((15_000.0..=20_000.0).contains(&(now - 5_000.0)), "gave up after {now}");
        assert!(attempts < 10, "{attempts} attempts");
    }

    #[test]
    fn a_new_event_begins_the_count_again() {
        let mut reconnect = Reconnect::default();
        for _ in 0..100 {
            assert_eq!(reconnect.ended(), Some(300.0));
            assert_eq!(reconnect.unanswered(0.0), Some(1_000.0));
            reconnect.opened();
            reconnect.progressed();
        }
        // An answer alone ends the wait for the server, but is no progress.
        assert_eq!(reconnect.unanswered(0.0), Some(300.0));
        reconnect.opened();
        assert!(!reconnect.is_unanswered());
        assert_eq!(reconnect.unanswered(1e9), Some(1_000.0));
    }
}
