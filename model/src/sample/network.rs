//! The prior's implementations for sampling: Burn on any device, `dalle-kernels` on the CPU.

use burn::tensor::Tensor;
#[cfg(not(target_arch = "wasm32"))]
use dalle_kernels::prior::{self as kernels, Sampler};
use dalle_shared::{ImageToken, TextToken};

use super::error::SampleError;
use crate::config::ModelConfig;
use crate::prior::{Cache, Masks, Prior};

/// A prior that samples images. Captions and tokens are checked before they get here.
pub(super) trait Network {
    /// Keys and values of one caption and its samples.
    type Cache;

    /// Runs a caption and the first tokens of its images: a cache for `samples` samples, and the logits of the next token, which are
    /// the same for all of them.
    fn prefill(
        &self,
        caption: &[TextToken],
        image: &[ImageToken],
        samples: usize,
    ) -> Result<(Self::Cache, Vec<f32>), SampleError>;

    /// One image token for each sample of each cache, cache by cache: adds it to the cache and returns the logits of the next token,
    /// `[samples of all caches, image_vocab]`.
    fn step(&self, caches: &mut [&mut Self::Cache], tokens: &[ImageToken]) -> Result<Vec<f32>, SampleError>;

    /// Samples of a cache.
    fn samples(cache: &Self::Cache) -> usize;
}

/// A prior on Burn.
pub(super) struct BurnPrior {
    prior: Prior,
    masks: Masks,
}

impl BurnPrior {
    pub fn new(prior: Prior, config: &ModelConfig) -> Self {
        let masks = Masks::new(config, &prior.device());
        Self { prior, masks }
    }
}

impl Network for BurnPrior {
    type Cache = Cache;

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

#[cfg(not(target_arch = "wasm32"))]
impl Network for Sampler {
    type Cache = kernels::Cache;

    fn prefill(
        &self,
        caption: &[TextToken],
        image: &[ImageToken],
        samples: usize,
    ) -> Result<(kernels::Cache, Vec<f32>), SampleError> {
        let ids: Vec<u32> = caption.iter().map(|id| id.0).collect();
        let (cache, logits) = self.prefill(&ids, &numbers(image));
        Ok((cache.repeat(samples, self.sizes()), logits))
    }

    fn step(
        &self,
        caches: &mut [&mut kernels::Cache],
        tokens: &[ImageToken],
    ) -> Result<Vec<f32>, SampleError> {
        Ok(self.step(caches, &numbers(tokens)))
    }

    fn samples(cache: &kernels::Cache) -> usize {
        cache.samples()
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn numbers(tokens: &[ImageToken]) -> Vec<u32> {
    tokens.iter().map(|token| u32::from(token.0)).collect()
}

/// Copies logits to the host, in f32.
pub(super) fn read(logits: Tensor<2>) -> Result<Vec<f32>, SampleError> {
    logits.try_into_vec_as::<f32>().map_err(|error| SampleError::Device(error.to_string()))
}
