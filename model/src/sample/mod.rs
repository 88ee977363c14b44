//! The sampling loop of the command line, the server and evaluation.
//!
//! A [`Batch`] advances any number of jobs together, one token per [`step`](Batch::step). Jobs join and leave between steps
//! (continuous batching). A job's tokens do not depend on the other jobs or their errors.
//!
//! ```
//! use dalle_model::Device;
//! use dalle_model::prior::Prior;
//! use dalle_model::sample::{Batch, JobKey, SampleRequest};
//! use dalle_shared::{SamplingSettings, TextToken};
//!
//! let config = serde_json::from_str(include_str!("../../../configs/tiny.json"))?;
//! let mut batch = Batch::new(Prior::new(&config, &Device::flex()), &config);
//! let request = SampleRequest {
//!     text: vec![TextToken(1), TextToken(2)],
//!     samples: 2,
//!     seed: 7,
//!     sampling: SamplingSettings::default(),
//!     prefix: Vec::new(),
//! };
//! batch.admit(JobKey(0), request)?;
//! let mut images = vec![Vec::new(); 2];
//! while !batch.is_empty() {
//!     for output in batch.step()? {
//!         // An error here concerns only this job.
//!         for (image, token) in images.iter_mut().zip(output.tokens?) {
//!             image.push(token);
//!         }
//!     }
//! }
//! assert!(images.iter().all(|image| image.len() == config.geometry().image_length()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod choose;
mod jobs;
mod network;
mod philox;
mod text;

use dalle_shared::{ImageToken, RequestError, SamplingSettings, TextToken};

pub use choose::choose;
pub use philox::uniform;
pub use text::continue_caption;

use crate::config::ModelConfig;
use crate::prior::Prior;
use jobs::{Jobs, Sampling};
use network::BurnPrior;

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

/// NaN or infinite logits: the weights are damaged, or the prior overflows on this job's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the prior produced NaN or infinite logits at position {position}; its weights are damaged, or it overflows (in 16 bits, \
     try --dtype f32)"
)]
pub struct NotFinite {
    /// Raster position; in caption sampling, the index of the id.
    pub position: usize,
}

/// A request that does not fit the model, or a failed device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// A field of the request is out of range.
    #[error("{0}")]
    Request(String),
    /// The device could not compute, or its memory could not be read.
    #[error("the device failed: {0}")]
    Device(String),
    /// Caption sampling produced NaN or infinite logits.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
}

impl From<RequestError> for SampleError {
    fn from(error: RequestError) -> Self {
        Self::Request(error.to_string())
    }
}

/// The prior and the jobs it is sampling.
pub struct Batch {
    jobs: Box<dyn Sampling + Send>,
}

impl Batch {
    /// An empty batch. On the processor the prior is computed by `dalle-kernels`, elsewhere by Burn.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(prior: Prior, config: &ModelConfig) -> Self {
        match prior.into_kernels(config) {
            Ok(sampler) => Self { jobs: Box::new(Jobs::new(sampler, config)) },
            Err(prior) => Self::on_burn(*prior, config),
        }
    }

    /// An empty batch, whose prior is computed by Burn.
    #[cfg(target_arch = "wasm32")]
    pub fn new(prior: Prior, config: &ModelConfig) -> Self {
        Self::on_burn(prior, config)
    }

    /// An empty batch whose prior is computed by Burn, on any device.
    pub fn on_burn(prior: Prior, config: &ModelConfig) -> Self {
        Self { jobs: Box::new(Jobs::new(BurnPrior::new(prior, config), config)) }
    }

    /// Number of rows in the batch, see [`SampleRequest::rows`].
    pub fn rows(&self) -> usize {
        self.jobs.rows()
    }

    /// Whether there are no jobs.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Adds a job. Its caption and prefix run through the prior once, for all samples.
    ///
    /// # Errors
    /// [`SampleError::Request`] for a request out of range, [`SampleError::Device`]. The batch is then unchanged.
    pub fn admit(&mut self, key: JobKey, request: SampleRequest) -> Result<(), SampleError> {
        self.jobs.admit(key, request)
    }

    /// Drops a job. Does nothing if it has left the batch.
    pub fn remove(&mut self, key: JobKey) {
        self.jobs.remove(key);
    }

    /// Samples the next token of every sample of every job. A job's first step also returns its prefix, one output per position.
    ///
    /// A job leaves the batch when its images are complete, or with an error output if its logits are not finite. The other jobs
    /// continue.
    ///
    /// # Errors
    /// [`SampleError::Device`]. The batch is then empty.
    pub fn step(&mut self) -> Result<Vec<StepOutput>, SampleError> {
        self.jobs.step()
    }
}
