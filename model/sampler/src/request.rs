//! Jobs of a batch: what is requested, and what a step returns.

use dalle_shared::{ImageToken, SamplingSettings, TextToken};

use crate::error::NotFinite;

/// The caller's identifier of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey(pub u64);

/// A caption and how to sample images from it.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRequest {
    /// Caption ids without padding, at most `text_length − 1`.
    pub text: Vec<TextToken>,
    /// Number of images of that caption.
    pub samples: usize,
    /// Seed of the first sample; sample `s` has the seed `seed + s` (wrapping), so that each can be sampled again alone.
    pub seed: u64,
    /// Temperature, top-k, top-p and guidance.
    pub sampling: SamplingSettings,
    /// Tokens that every image begins with, in raster order (section 3.3).
    pub prefix: Vec<ImageToken>,
}

impl SampleRequest {
    /// Number of batch rows that the request takes: one per sample, or two with guidance (with and without the caption).
    pub fn rows(&self) -> usize {
        if self.sampling.is_guided() { 2 * self.samples } else { self.samples }
    }
}

/// The result of one position of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOutput {
    /// The job.
    pub job: JobKey,
    /// Raster position.
    pub position: usize,
    /// One token per sample, or the reason why the job left the batch.
    pub tokens: Result<Vec<ImageToken>, NotFinite>,
}
