//! Priors for the sampling loop of [`dalle_sampler`], whose types are re-exported, and sampling of captions.
//!
//! ```
//! use dalle_model::Device;
//! use dalle_model::prior::Prior;
//! use dalle_model::sample::{self, JobKey, SampleRequest};
//! use dalle_shared::{SamplingSettings, TextToken};
//!
//! let config = serde_json::from_str(include_str!("../../../configs/tiny.json"))?;
//! let mut batch = sample::batch(Prior::new(&config, &Device::flex()), &config);
//! let request = SampleRequest {
//!     text: vec![TextToken(1), TextToken(2)],
//!     samples: 2,
//!     seed: 7,
//!     sampling: SamplingSettings::default(),
//!     prefix: Vec::new(),
//! };
//! batch.admit(JobKey(0), request)?;
//! while !batch.is_empty() {
//!     for output in batch.step()? {
//!         assert_eq!(output.tokens?.len(), 2);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod burn_prior;
mod text;

pub use dalle_sampler::{Batch, JobKey, NotFinite, SampleError, SampleRequest, StepOutput, choose, uniform};
pub use text::continue_caption;

use crate::config::ModelConfig;
use crate::prior::Prior;
use burn_prior::BurnPrior;

/// An empty batch. On the CPU the prior is computed by `dalle-kernels`, elsewhere by Burn.
pub fn batch(prior: Prior, config: &ModelConfig) -> Batch {
    match prior.into_kernels(config) {
        Ok(sampler) => Batch::new(sampler),
        Err(prior) => batch_on_burn(*prior, config),
    }
}

/// An empty batch whose prior is computed by Burn, on any device.
pub fn batch_on_burn(prior: Prior, config: &ModelConfig) -> Batch {
    Batch::new(BurnPrior::new(prior, config))
}
