//! What the engine needs of a model, and the model that has it.

use dalle_model::clip::{Clip, ScoreError};
use dalle_model::dvae::Decoder;
use dalle_model::sample::{Batch, JobKey, SampleError, SampleRequest, StepOutput};
use dalle_shared::{ImageToken, TextToken};

/// A batch of jobs that advance together, one token a step, and the decoder that turns tokens into pixels.
///
/// Made and used on the engine's thread only.
pub trait Sampler {
    /// Adds a job: `request.samples` rows.
    ///
    /// # Errors
    /// A request that does not fit the model (nothing has changed then), or the device's failure.
    fn admit(&mut self, job: JobKey, request: SampleRequest) -> Result<(), SampleError>;

    /// Samples one token for every row. A job that has all its tokens leaves by itself.
    ///
    /// # Errors
    /// The device's failure; the batch is empty then. A job whose logits are not finite leaves with an output that says so.
    fn step(&mut self) -> Result<Vec<StepOutput>, SampleError>;

    /// Drops a job. Unknown jobs are ignored.
    fn remove(&mut self, job: JobKey);

    /// Rows that the next step advances.
    fn rows(&self) -> usize;

    /// Pixels of a whole picture's tokens: RGB8, `image_size² · 3` bytes.
    fn decode(&self, tokens: &[ImageToken]) -> Vec<u8>;

    /// How well a picture fits a caption, from −1 to 1. Of a picture that is not complete, what is missing is taken for more
    /// of its first token, which most often is background.
    ///
    /// # Errors
    /// There is nothing to score with, or it fails.
    fn score(&self, text: &[TextToken], tokens: &[ImageToken]) -> Result<f32, ScoreError>;
}

/// The prior and the decoder of a model folder.
pub struct ModelSampler {
    /// The prior and its running jobs.
    pub batch: Batch,
    /// The dVAE's decoder.
    pub decoder: Decoder,
    /// Side of the token grid.
    pub grid: usize,
    /// What scores pictures, if the folder has it.
    pub clip: Option<Clip>,
}

impl Sampler for ModelSampler {
    fn admit(&mut self, job: JobKey, request: SampleRequest) -> Result<(), SampleError> {
        self.batch.admit(job, request)
    }

    fn step(&mut self) -> Result<Vec<StepOutput>, SampleError> {
        self.batch.step()
    }

    fn remove(&mut self, job: JobKey) {
        self.batch.remove(job);
    }

    fn rows(&self) -> usize {
        self.batch.rows()
    }

    fn decode(&self, tokens: &[ImageToken]) -> Vec<u8> {
        self.decoder.decode_rgb(tokens, self.grid)
    }

    fn score(&self, text: &[TextToken], tokens: &[ImageToken]) -> Result<f32, ScoreError> {
        let (Some(clip), Some(&first)) = (&self.clip, tokens.first()) else {
            return Err(ScoreError::Request("there is nothing to score with".to_owned()));
        };
        let mut whole = tokens.to_vec();
        whole.resize(self.grid * self.grid, first);
        Ok(clip.cosines(&[text], &[&self.decode(&whole)])?[0][0])
    }
}
