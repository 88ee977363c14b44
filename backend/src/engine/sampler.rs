//! The interface between the engine and a model's networks.

use dalle_model::clip::{Clip, ScoreError};
use dalle_model::config::DOWNSAMPLING;
use dalle_model::dvae::{DecodeError, ImageDecoder, ImageEncoder};
use dalle_model::sample::{Batch, JobKey, SampleError, SampleRequest, StepOutput};
use dalle_shared::{ImageToken, TextToken};

/// The device failed while it encoded an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("encoding an image failed: {0}")]
pub struct EncodeError(pub String);

/// A batch of jobs that advance together, one token per step, and the decoder that turns tokens into pixels.
///
/// Created and used only on the engine's thread.
pub trait Sampler {
    /// Adds a job: `request.samples` rows.
    ///
    /// # Errors
    /// The request does not fit the model (the batch is then unchanged), or the device failed.
    fn admit(&mut self, job: JobKey, request: SampleRequest) -> Result<(), SampleError>;

    /// Samples one token for every row. Complete jobs leave the batch.
    ///
    /// # Errors
    /// The device failed; the batch is then empty. A job with NaN or infinite logits is not an error here: it leaves the batch with
    /// an output that contains the error.
    fn step(&mut self) -> Result<Vec<StepOutput>, SampleError>;

    /// Removes a job. Does nothing if it has left the batch.
    fn remove(&mut self, job: JobKey);

    /// Number of rows that the next step advances.
    fn rows(&self) -> usize;

    /// Decodes `grid²` tokens to RGB8, `image_size² · 3` bytes.
    ///
    /// # Errors
    /// The device failed.
    fn decode(&self, tokens: &[ImageToken]) -> Result<Vec<u8>, DecodeError>;

    /// Encodes an image of the model's size, RGB8, into `grid²` tokens.
    ///
    /// # Errors
    /// The model has no encoder, or the device failed.
    fn encode(&self, pixels: &[u8]) -> Result<Vec<ImageToken>, EncodeError>;

    /// CLIP's score of an image for a caption, from −1 to 1. Missing tokens of an incomplete image are filled with its first token,
    /// which is usually background.
    ///
    /// # Errors
    /// The model has no CLIP, or CLIP fails.
    fn score(&self, text: &[TextToken], tokens: &[ImageToken]) -> Result<f32, ScoreError>;
}

/// The prior and the decoder of a model folder.
pub struct ModelSampler {
    /// The prior and the jobs it is sampling.
    pub batch: Batch,
    /// The dVAE's decoder.
    pub decoder: ImageDecoder,
    /// The dVAE's encoder, if the folder has it.
    pub encoder: Option<ImageEncoder>,
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
        self.decoder.decode(tokens, self.grid)
    }

    fn encode(&self, pixels: &[u8]) -> Result<Vec<ImageToken>, EncodeError> {
        let Some(encoder) = &self.encoder else {
            return Err(EncodeError("the model has no encoder".to_owned()));
        };
        let encoded = encoder.encode(&[pixels], self.grid * DOWNSAMPLING);
        Ok(encoded.map_err(|error| EncodeError(error.to_string()))?.swap_remove(0))
    }

    fn score(&self, text: &[TextToken], tokens: &[ImageToken]) -> Result<f32, ScoreError> {
        let (Some(clip), Some(&first)) = (&self.clip, tokens.first()) else {
            return Err(ScoreError::Request("the model has no CLIP".to_owned()));
        };
        let mut whole = tokens.to_vec();
        whole.resize(self.grid * self.grid, first);
        Ok(clip.cosines(&[text], &[&self.decode(&whole)?])?[0][0])
    }
}
