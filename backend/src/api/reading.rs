//! Reads the log of a job as tokens and scores, for responses that contain images.

use std::sync::Arc;

use dalle_shared::{ErrorCode, EventKind, ImageToken, best_first};

use crate::error_response::ErrorResponse;
use crate::jobs::Job;

/// Reads the log of a job up to its end.
pub struct LogReader {
    job: Arc<Job>,
    /// Number of the next event.
    next: usize,
    rows: Vec<Vec<ImageToken>>,
    scores: Vec<f32>,
    scored: bool,
    finished: bool,
}

impl LogReader {
    /// A reader that has read nothing.
    pub fn new(job: &Arc<Job>) -> Self {
        let samples = job.request.samples;
        let (rows, scores) = (vec![Vec::new(); samples], vec![0.0; samples]);
        Self { job: Arc::clone(job), next: 0, rows, scores, scored: false, finished: false }
    }

    /// Reads what has been appended.
    ///
    /// # Errors
    /// The generation failed or was cancelled.
    pub fn read(&mut self) -> Result<(), ErrorResponse> {
        for event in self.job.log.read(self.next).0 {
            self.next += 1;
            match event.kind {
                EventKind::Tokens { tokens, .. } => {
                    self.rows.iter_mut().zip(tokens).for_each(|(row, tokens)| row.extend(tokens));
                }
                EventKind::Scored { sample, score, .. } => {
                    self.scores[sample] = score;
                    self.scored = true;
                }
                EventKind::Finished { .. } => self.finished = true,
                EventKind::Failed { error } => return Err(error.into()),
                EventKind::Cancelled => {
                    let message = "the generation was cancelled; try again";
                    return Err(ErrorResponse::new(ErrorCode::Unavailable, message));
                }
                EventKind::Started | EventKind::Unknown => {}
            }
        }
        Ok(())
    }

    /// Waits until every sample has `count` tokens, or is complete.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn until_tokens(&mut self, count: usize) -> Result<(), ErrorResponse> {
        let mut length = self.job.log.watch();
        loop {
            length.borrow_and_update();
            self.read()?;
            // The job holds the sender, so waiting cannot fail.
            if self.finished || self.rows[0].len() >= count || length.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Waits until the generation has finished.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn until_finished(&mut self) -> Result<(), ErrorResponse> {
        self.until_tokens(usize::MAX).await
    }

    /// The samples, best first if they were scored.
    pub fn best(&self) -> Vec<usize> {
        match self.scored {
            true => best_first(&self.scores, &self.rows),
            false => (0..self.rows.len()).collect(),
        }
    }

    /// The first tokens of a sample, with the first one in place of those after `count`: usually it is background.
    pub fn preview(&self, sample: usize, count: usize, length: usize) -> Vec<ImageToken> {
        let row = &self.rows[sample];
        let mut tokens = row[..count.min(row.len())].to_vec();
        let background = tokens.first().copied().unwrap_or(ImageToken(0));
        tokens.resize(length, background);
        tokens
    }

    /// Takes the tokens of a sample.
    pub fn take(&mut self, sample: usize) -> Vec<ImageToken> {
        std::mem::take(&mut self.rows[sample])
    }
}
