//! The networks of a model as the engine uses them.

use dalle_model::clip::{Clip, ScoreError};
use dalle_model::dvae::{DecodeError, Decoder};
use dalle_model::sample::{Batch, JobKey, SampleError, SampleRequest, StepOutput};
use dalle_shared::{ImageToken, TextToken};

/// A batch of jobs that advance together, one token a step, and the decoder that turns tokens into pixels.
///
/// It is made and used on the engine's thread alone.
pub trait Sampler {
    /// Adds a job: `request.samples` rows.
    ///
    /// # Errors
    /// The request does not fit the model (nothing has changed then), or the device failed.
    fn admit(&mut self, job: JobKey, request: SampleRequest) -> Result<(), SampleError>;

    /// Samples one token for every row. Jobs that are complete leave by themselves.
    ///
    /// # Errors
    /// The device failed; the batch is empty then. A job whose logits are not finite leaves with an output that says so.
    fn step(&mut self) -> Result<Vec<StepOutput>, SampleError>;

    /// Drops a job. Does nothing if it has left.
    fn remove(&mut self, job: JobKey);

    /// Number of rows that the next step advances.
    fn rows(&self) -> usize;

    /// The image of `grid²` tokens: RGB8, `image_size² · 3` bytes.
    ///
    /// # Errors
    /// The device failed.
    fn decode(&self, tokens: &[ImageToken]) -> Result<Vec<u8>, DecodeError>;

    /// CLIP's score of an image for a caption, from −1 to 1. The missing tokens of an incomplete image are filled with its first
    /// token, which is most often background.
    ///
    /// # Errors
    /// The model has no CLIP, or CLIP fails.
    fn score(&self, text: &[TextToken], tokens: &[ImageToken]) -> Result<f32, ScoreError>;
}

/// The prior and the decoder of a model folder.
pub struct ModelSampler {
    /// The prior and the jobs that it samples.
    pub batch: Batch,
    /// The dVAE's decoder.
    pub decoder: Decoder,
    /// Side of the token grid.
    pub grid: usize,
    /// CLIP, if the folder has it.
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

    fn decode(&self, tokens: &[ImageToken]) -> Result<Vec<u8>, DecodeError> {
        self.decoder.decode_rgb(tokens, self.grid)
    }

    fn score(&self, text: &[TextToken], tokens: &[ImageToken]) -> Result<f32, ScoreError> {
        let (Some(clip), Some(&first)) = (&self.clip, tokens.first()) else {
            return Err(ScoreError::Request("the model has no CLIP to score with".to_owned()));
        };
        let mut whole = tokens.to_vec();
        whole.resize(self.grid * self.grid, first);
        Ok(clip.cosines(&[text], &[&self.decode(&whole)?])?[0][0])
    }
}
