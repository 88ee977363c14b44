//! Collects a job's tokens and appends them to its log, at most one event per interval.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dalle_shared::{EventKind, ImageToken};

use crate::jobs::Job;

/// Minimum time between two token events of a job. The last one may come earlier.
pub const EVENT_INTERVAL: Duration = Duration::from_millis(30);

/// The tokens of a job that are not in its log yet.
pub struct EventThrottle {
    job: Arc<Job>,
    /// Number of tokens of a complete image.
    length: usize,
    /// Raster position of the first pending token.
    start: usize,
    /// Sampled tokens that are not in the log yet, one row per sample.
    pending: Vec<Vec<ImageToken>>,
    /// Time of the last token event.
    appended: Option<Instant>,
}

impl EventThrottle {
    /// No tokens yet; `length` is the number of tokens of a complete image.
    pub fn new(job: Arc<Job>, length: usize) -> Self {
        let pending = vec![Vec::new(); job.request.samples];
        Self { job, length, start: 0, pending, appended: None }
    }

    /// Adds the next token of each sample. Appends an event if the interval is over or the images are complete.
    pub fn push(&mut self, tokens: &[ImageToken], now: Instant) {
        for (row, token) in self.pending.iter_mut().zip(tokens) {
            row.push(*token);
        }
        let due = self.appended.is_none_or(|at| now.saturating_duration_since(at) >= EVENT_INTERVAL);
        if due || self.steps_left() == 0 {
            self.append(now);
        }
    }

    /// Number of steps until the images are complete.
    pub fn steps_left(&self) -> usize {
        self.length.saturating_sub(self.start + self.pending[0].len())
    }

    fn append(&mut self, now: Instant) {
        if self.appended.is_none() {
            let waited = now.saturating_duration_since(self.job.created);
            metrics::histogram!("dalle_time_to_first_token_seconds").record(waited.as_secs_f64());
        }
        let tokens = self.pending.iter_mut().map(std::mem::take).collect::<Vec<_>>();
        let start = self.start;
        self.start += tokens[0].len();
        self.appended = Some(now);
        self.job.log.append(EventKind::Tokens { start, tokens });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::tests::job;

    /// Pushes `length` tokens, `spacing` apart, and returns the token events as (start, rows).
    fn events(samples: usize, length: u16, spacing: Duration) -> Vec<(usize, Vec<Vec<ImageToken>>)> {
        let job = job(samples);
        let mut throttle = EventThrottle::new(Arc::clone(&job), length.into());
        let begin = Instant::now();
        for i in 0..length {
            throttle.push(&vec![ImageToken(i); samples], begin + spacing * i.into());
            assert_eq!(throttle.steps_left(), usize::from(length - i - 1));
        }
        let (events, _) = job.log.read(0);
        events
            .into_iter()
            .filter_map(|event| match event.kind {
                EventKind::Tokens { start, tokens } => Some((start, tokens)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn events_contain_every_token_exactly_once() {
        for spacing in [0, 1, 7, 30, 100] {
            let mut next = [0, 0, 0];
            for (start, rows) in events(3, 64, Duration::from_millis(spacing)) {
                for (next, row) in next.iter_mut().zip(&rows) {
                    assert_eq!(start, usize::from(*next));
                    for token in row {
                        assert_eq!(token.0, *next);
                        *next += 1;
                    }
                }
            }
            assert_eq!(next, [64; 3], "spacing {spacing} ms");
        }
    }

    #[test]
    fn at_most_one_event_per_interval_plus_the_last() {
        assert_eq!(events(1, 61, Duration::from_millis(1)).len(), 3, "at 0, 30 and 60 ms");
        assert_eq!(events(1, 62, Duration::from_millis(1)).len(), 4, "and the rest with the end");
        assert_eq!(events(1, 10, Duration::from_millis(40)).len(), 10);
        assert_eq!(events(1, 10, Duration::ZERO).len(), 2);
    }
}
