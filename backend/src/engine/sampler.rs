//! What the engine needs of a model, and the model that has it.

use dalle_model::dvae::Decoder;
use dalle_model::sample::{Batch, JobKey, SampleError, SampleRequest, StepOutput};
use dalle_shared::ImageToken;

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
    /// The device's failure, or a model that gives no numbers; the batch is empty then.
    fn step(&mut self) -> Result<Vec<StepOutput>, SampleError>;

    /// Drops a job. Unknown jobs are ignored.
    fn remove(&mut self, job: JobKey);

    /// Rows that the next step advances.
    fn rows(&self) -> usize;

    /// Pixels of a whole picture's tokens: RGB8, `image_size² · 3` bytes.
    fn decode(&self, tokens: &[ImageToken]) -> Vec<u8>;
}

/// The prior and the decoder of a model folder.
pub struct ModelSampler {
    /// The prior and its running jobs.
    pub batch: Batch,
    /// The dVAE's decoder.
    pub decoder: Decoder,
    /// Side of the token grid.
    pub grid: usize,
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
}
