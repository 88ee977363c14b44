//! Generations: a job is what was asked, an append-only log of what happened, and who is watching.

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

    use super::Job;

    /// A job of that many samples.
    pub fn job(samples: usize) -> Arc<Job> {
        scored_job(samples, false)
    }

    /// The same, and perhaps scored.
    pub fn scored_job(samples: usize, scored: bool) -> Arc<Job> {
        let request = SampleRequest {
            text: vec![TextToken(1)],
            samples,
            seed: 0,
            sampling: SamplingSettings::default(),
            prefix: Vec::new(),
        };
        Job::new(JobKey(rand::random()), request, scored)
    }
}
