//! A job in the engine: collects its tokens and appends them to its log, at most one event an interval.

use std::collections::VecDeque;
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
    /// Of a job that is scored: all tokens so far, a row for each sample.
    drawn: Vec<Vec<ImageToken>>,
    /// Samples that wait for their score.
    unscored: VecDeque<usize>,
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
            drawn: vec![Vec::new(); samples],
            unscored: VecDeque::new(),
        }
    }

    /// Takes the next token of each sample. True when the log has ended with it.
    pub fn push(&mut self, tokens: &[ImageToken], now: Instant) -> bool {
        for (row, token) in self.pending.iter_mut().zip(tokens) {
            row.push(*token);
        }
        let finished = self.steps_left() == 0;
        if finished || self.appended.is_none_or(|at| now.saturating_duration_since(at) >= EVENT_INTERVAL) {
            self.append(now);
        }
        if self.job.scored {
            self.drawn.iter_mut().zip(tokens).for_each(|(row, token)| row.push(*token));
            let drawn = self.drawn[0].len();
            if drawn == self.length / 2 || finished {
                self.unscored = (0..self.drawn.len()).collect();
            }
        }
        finished && self.finish()
    }

    /// Samples that are complete and wait for their scores: they are no longer rows of the batch.
    pub fn rows_to_score(&self) -> usize {
        if self.steps_left() == 0 { self.unscored.len() } else { 0 }
    }

    /// Whether a sample waits for its score.
    pub fn waits_for_score(&self) -> bool {
        !self.unscored.is_empty()
    }

    /// The next sample that waits for its score, and its tokens so far.
    pub fn next_unscored(&mut self) -> Option<(usize, &[ImageToken])> {
        let sample = self.unscored.pop_front()?;
        Some((sample, &self.drawn[sample]))
    }

    /// Takes a sample's score. True when the log has ended with it.
    pub fn scored(&mut self, sample: usize, score: f32) -> bool {
        let tokens = self.drawn[sample].len();
        self.job.log.append(EventKind::Scored { sample, tokens, score });
        self.steps_left() == 0 && self.finish()
    }

    /// Ends the log, if no score is wanting.
    fn finish(&self) -> bool {
        let complete = self.unscored.is_empty();
        if complete {
            self.job.log.append(EventKind::Finished { seconds: self.started.elapsed().as_secs_f64() });
        }
        complete
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
    use crate::jobs::tests::{job, scored_job};

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
    fn samples_are_scored_at_half_and_at_the_end_which_comes_after() {
        let job = scored_job(2, true);
        let mut running = Running::start(job.clone(), 4);
        let mut given = Vec::new();
        for position in 0..4 {
            assert!(
                !running.push(&[ImageToken(position), ImageToken(9)], Instant::now()),
                "scores are wanting"
            );
            // One of two at half: the other has its turn only when it is complete.
            for _ in 0..if position == 3 { 2 } else { 1 } {
                let Some((sample, tokens)) = running.next_unscored() else { continue };
                given.push((sample, tokens.len()));
                let last = running.scored(sample, 0.5);
                assert_eq!(last, given.len() == 4);
            }
        }
        assert_eq!(given, [(0, 2), (1, 3), (0, 4), (1, 4)]);
        assert_eq!(job.log.state(), GenerationState::Finished);
        let kinds: Vec<&str> = job.log.read(0).0.iter().map(|event| event.kind.name()).collect();
        assert_eq!(kinds[kinds.len() - 3..], ["scored", "scored", "finished"]);
    }

    #[test]
    fn at_most_one_event_an_interval_beside_the_last() {
        assert_eq!(events(1, 61, Duration::from_millis(1)).len(), 3, "at 0, 30 and 60 ms");
        assert_eq!(events(1, 62, Duration::from_millis(1)).len(), 4, "and the rest with the end");
        assert_eq!(events(1, 10, Duration::from_millis(40)).len(), 10);
        assert_eq!(events(1, 10, Duration::ZERO).len(), 2);
    }
}
