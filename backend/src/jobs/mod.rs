//! Generations: a job is a request, an append-only log of events, and its viewers.

mod job;
mod log;
mod registry;

pub use job::{Job, Viewer};
pub use log::Log;
pub use registry::{Registry, Retention};

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use dalle_model::sample::{JobKey, SampleRequest};
    use dalle_shared::{SamplingSettings, TextToken};

    use super::{Job, Registry};

    /// A job of that many samples.
    pub fn job(samples: usize) -> Arc<Job> {
        scored_job(samples, false)
    }

    /// The same, and perhaps scored.
    pub fn scored_job(samples: usize, scored: bool) -> Arc<Job> {
        Job::new(JobKey(rand::random()), request(samples), scored, None, Arc::default())
    }

    /// A job whose memory counts in `registry`.
    pub fn job_of(registry: &Registry) -> Arc<Job> {
        Job::new(JobKey(rand::random()), request(1), false, None, registry.memory())
    }

    fn request(samples: usize) -> SampleRequest {
        SampleRequest {
            text: vec![TextToken(1)],
            samples,
            seed: 0,
            sampling: SamplingSettings::default(),
            prefix: Vec::new(),
        }
    }
}
