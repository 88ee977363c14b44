//! A prior on Burn, for the sampling loop.

use burn::tensor::Tensor;
use dalle_sampler::{Network, SampleError};
use dalle_shared::{Geometry, ImageToken, TextToken};

use crate::config::ModelConfig;
use crate::prior::{Cache, Masks, Prior};

/// A prior on Burn.
pub(super) struct BurnPrior {
    prior: Prior,
    masks: Masks,
    geometry: Geometry,
}

impl BurnPrior {
    pub fn new(prior: Prior, config: &ModelConfig) -> Self {
        let masks = Masks::new(config, &prior.device());
        Self { prior, masks, geometry: config.geometry() }
    }
}

impl Network for BurnPrior {
    type Cache = Cache;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn prefill(
        &self,
        caption: &[TextToken],
        image: &[ImageToken],
        samples: usize,
    ) -> Result<(Cache, Vec<f32>), SampleError> {
        let (cache, logits) = self.prior.prefill(&self.masks, caption, image)?;
        Ok((cache.repeat(samples), read(logits)?))
    }

    fn step(&self, caches: &mut [&mut Cache], tokens: &[ImageToken]) -> Result<Vec<f32>, SampleError> {
        read(self.prior.step(caches, tokens)?)
    }

    fn samples(cache: &Cache) -> usize {
        cache.samples()
    }
}

/// Copies logits to the host, in f32.
pub(super) fn read(logits: Tensor<2>) -> Result<Vec<f32>, SampleError> {
    logits.try_into_vec_as::<f32>().map_err(|error| SampleError::Device(error.to_string()))
}
