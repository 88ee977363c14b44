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
mod error;
mod jobs;
mod network;
mod philox;
mod request;
mod text;

pub use choose::choose;
pub use error::{NotFinite, SampleError};
pub use philox::uniform;
pub use request::{JobKey, SampleRequest, StepOutput};
pub use text::continue_caption;

use crate::config::ModelConfig;
use crate::prior::Prior;
use jobs::{Jobs, Sampling};
use network::BurnPrior;

/// The prior and the jobs it is sampling.
pub struct Batch {
    jobs: Box<dyn Sampling + Send>,
}

impl Batch {
    /// An empty batch. On the CPU the prior is computed by `dalle-kernels`, elsewhere by Burn.
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
