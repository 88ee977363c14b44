//! A job in the engine, from its `started` event to its `finished` event.

use std::sync::Arc;
use std::time::Instant;

use dalle_shared::{EventKind, ImageToken};

use super::scoring::Scoring;
use super::throttle::EventThrottle;
use crate::jobs::Job;

/// A job that is being sampled, or is complete and waits for scores.
pub struct Running {
    job: Arc<Job>,
    started: Instant,
    throttle: EventThrottle,
    /// Set if the job's samples are scored.
    scoring: Option<Scoring>,
}

impl Running {
    /// Starts a job; `length` is the number of tokens of a complete image.
    pub fn start(job: Arc<Job>, length: usize) -> Self {
        job.log.append(EventKind::Started);
        let throttle = EventThrottle::new(Arc::clone(&job), length);
        let scoring = job.scored.then(|| Scoring::new(job.request.samples, length));
        Self { job, started: Instant::now(), throttle, scoring }
    }

    /// The job.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Adds the next token of each sample. Returns whether the job is now finished.
    pub fn push(&mut self, tokens: &[ImageToken], now: Instant) -> bool {
        self.throttle.push(tokens, now);
        if let Some(scoring) = &mut self.scoring {
            scoring.push(tokens);
        }
        self.finish()
    }

    /// Number of steps until the job has all its tokens.
    pub fn steps_left(&self) -> usize {
        self.throttle.steps_left()
    }

    /// Whether a sample is waiting for its score.
    pub fn waits_for_score(&self) -> bool {
        self.samples_to_score() > 0
    }

    /// Number of complete samples that wait for their scores. They have left the batch but still occupy a row.
    pub fn rows_to_score(&self) -> usize {
        if self.steps_left() == 0 { self.samples_to_score() } else { 0 }
    }

    /// Takes the next sample waiting for its score, with its tokens so far.
    pub fn take_unscored(&mut self) -> Option<(usize, &[ImageToken])> {
        self.scoring.as_mut()?.take()
    }

    /// Records the score of a sample at `tokens` tokens. Returns whether the job is now finished.
    pub fn scored(&self, sample: usize, tokens: usize, score: f32) -> bool {
        self.job.log.append(EventKind::Scored { sample, tokens, score });
        self.finish()
    }

    fn samples_to_score(&self) -> usize {
        self.scoring.as_ref().map_or(0, Scoring::waiting)
    }

    /// Ends the log if it has all tokens and scores.
    fn finish(&self) -> bool {
        let complete = self.steps_left() == 0 && !self.waits_for_score();
        if complete {
            self.job.log.append(EventKind::Finished { seconds: self.started.elapsed().as_secs_f64() });
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use dalle_shared::GenerationState;

    use super::*;
    use crate::jobs::tests::{job, scored_job};

    #[test]
    fn a_job_without_scores_finishes_with_its_last_token() {
        let job = job(2);
        let mut running = Running::start(Arc::clone(&job), 4);
        let last: Vec<bool> = (0..4).map(|i| running.push(&[ImageToken(i); 2], Instant::now())).collect();
        assert_eq!(last, [false, false, false, true]);
        assert_eq!(job.log.state(), GenerationState::Finished);
    }

    #[test]
    fn samples_are_scored_at_half_and_at_the_end_before_the_job_finishes() {
        let job = scored_job(2, true);
        let mut running = Running::start(Arc::clone(&job), 4);
        let mut given = Vec::new();
        for position in 0..4 {
            let last = running.push(&[ImageToken(position), ImageToken(9)], Instant::now());
            assert!(!last, "scores are missing");
            // One of two is scored at half, the other only when it is complete.
            for _ in 0..if position == 3 { 2 } else { 1 } {
                let Some((sample, tokens)) = running.take_unscored() else { continue };
                let tokens = tokens.len();
                given.push((sample, tokens));
                let last = running.scored(sample, tokens, 0.5);
                assert_eq!(last, given.len() == 4);
            }
        }
        assert_eq!(given, [(0, 2), (1, 3), (0, 4), (1, 4)]);
        assert_eq!(job.log.state(), GenerationState::Finished);
        let kinds: Vec<&str> = job.log.read(0).0.iter().map(|event| event.kind.name()).collect();
        assert_eq!(kinds[kinds.len() - 3..], ["scored", "scored", "finished"]);
    }
}
