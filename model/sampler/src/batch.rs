//! A prior of any kind and the jobs that it samples.

use crate::error::SampleError;
use crate::jobs::{Jobs, Sampling};
use crate::network::Network;
use crate::request::{JobKey, SampleRequest, StepOutput};

/// The prior and the jobs it is sampling.
pub struct Batch {
    jobs: Box<dyn Sampling + Send>,
}

impl Batch {
    /// An empty batch.
    pub fn new<N: Network<Cache: Send> + Send + 'static>(network: N) -> Self {
        Self { jobs: Box::new(Jobs::new(network)) }
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
