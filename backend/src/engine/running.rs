//! A job in the engine: collects its tokens and appends them to its log, at most one event an interval.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dalle_shared::{EventKind, ImageToken};

use crate::jobs::Job;

/// Least time between two token events of a job that is not finished.
pub const EVENT_INTERVAL: Duration = Duration::from_millis(30);

/// See the module.
pub struct Running {
    /// The job.
    pub job: Arc<Job>,
    started: Instant,
    /// Raster position of the first pending token.
    start: usize,
    /// Tokens sampled and not yet in the log, a row for each sample.
    pending: Vec<Vec<ImageToken>>,
    /// When the last token event was appended.
    appended: Option<Instant>,
    /// Tokens of a whole picture.
    length: usize,
}

impl Running {
    /// Takes a job up, now.
    pub fn start(job: Arc<Job>, length: usize) -> Self {
        let samples = job.request.samples;
        job.log.append(EventKind::Started);
        Self {
            job,
            started: Instant::now(),
            start: 0,
            pending: vec![Vec::new(); samples],
            appended: None,
            length,
        }
    }

    /// Takes the next token of each sample. True when that was the last: the log has ended then.
    pub fn push(&mut self, tokens: &[ImageToken], now: Instant) -> bool {
        for (row, token) in self.pending.iter_mut().zip(tokens) {
            row.push(*token);
        }
        let finished = self.steps_left() == 0;
        if finished || self.appended.is_none_or(|at| now.saturating_duration_since(at) >= EVENT_INTERVAL) {
            self.append(now);
        }
        if finished {
            self.job.log.append(EventKind::Finished { seconds: self.started.elapsed().as_secs_f64() });
        }
        finished
    }

    /// Steps until the job has all its tokens.
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
    use dalle_shared::GenerationState;

    use super::*;
    use crate::jobs::tests::job;

    /// Pushes `length` tokens, `spacing` apart, and returns the token events as (start, rows).
    fn events(samples: usize, length: u16, spacing: Duration) -> Vec<(usize, Vec<Vec<ImageToken>>)> {
        let job = job(samples);
        let mut running = Running::start(job.clone(), length.into());
        let begin = Instant::now();
        for i in 0..length {
            let last = running.push(&vec![ImageToken(i); samples], begin + spacing * i.into());
            assert_eq!(last, i + 1 == length);
        }
        assert_eq!(job.log.state(), GenerationState::Finished);
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
    fn events_join_to_every_token_once() {
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
    fn at_most_one_event_an_interval_beside_the_last() {
        assert_eq!(events(1, 61, Duration::from_millis(1)).len(), 3, "at 0, 30 and 60 ms");
        assert_eq!(events(1, 62, Duration::from_millis(1)).len(), 4, "and the rest with the end");
        assert_eq!(events(1, 10, Duration::from_millis(40)).len(), 10);
        assert_eq!(events(1, 10, Duration::ZERO).len(), 2);
    }
}
