//! What computes the prior for sampling. `dalle-kernels` is one such network; `dalle_model::sample` has another, on Burn.

use std::sync::Arc;

use dalle_kernels::prior::{Cache, Sampler};
use dalle_shared::{Geometry, ImageToken, TextToken};

use crate::error::SampleError;

/// A prior that samples images. Captions and tokens are checked before they get here.
pub trait Network {
    /// Keys and values of one caption and its samples.
    type Cache;

    /// Sizes of its token stream.
    fn geometry(&self) -> Geometry;

    /// Runs a caption and the first tokens of its images: a cache for `samples` samples, and the logits of the next token, which are
    /// the same for all of them.
    ///
    /// # Errors
    /// The device fails.
    fn prefill(
        &self,
        caption: &[TextToken],
        image: &[ImageToken],
        samples: usize,
    ) -> Result<(Self::Cache, Vec<f32>), SampleError>;

    /// One image token for each sample of each cache, cache by cache: adds it to the cache and returns the logits of the next token,
    /// `[samples of all caches, image_vocab]`.
    ///
    /// # Errors
    /// The device fails.
    fn step(&self, caches: &mut [&mut Self::Cache], tokens: &[ImageToken]) -> Result<Vec<f32>, SampleError>;

    /// Samples of a cache.
    fn samples(cache: &Self::Cache) -> usize;
}

/// The same network for several users.
impl<N: Network> Network for Arc<N> {
    type Cache = N::Cache;

    fn geometry(&self) -> Geometry {
        N::geometry(self)
    }

    fn prefill(
        &self,
        caption: &[TextToken],
        image: &[ImageToken],
        samples: usize,
    ) -> Result<(Self::Cache, Vec<f32>), SampleError> {
        N::prefill(self, caption, image, samples)
    }

    fn step(&self, caches: &mut [&mut Self::Cache], tokens: &[ImageToken]) -> Result<Vec<f32>, SampleError> {
        N::step(self, caches, tokens)
    }

    fn samples(cache: &Self::Cache) -> usize {
        N::samples(cache)
    }
}

impl Network for Sampler {
    type Cache = Cache;

    fn geometry(&self) -> Geometry {
        let sizes = self.sizes();
        Geometry {
            text_length: sizes.text,
            text_vocab: sizes.text_vocab,
            grid: sizes.grid,
            image_vocab: sizes.image_vocab,
            image_size: 8 * sizes.grid,
        }
    }

    fn prefill(
        &self,
        caption: &[TextToken],
        image: &[ImageToken],
        samples: usize,
    ) -> Result<(Cache, Vec<f32>), SampleError> {
        let ids: Vec<u32> = caption.iter().map(|id| id.0).collect();
        let (cache, logits) = self.prefill(&ids, &numbers(image));
        Ok((cache.repeat(samples, self.sizes()), logits))
    }

    fn step(&self, caches: &mut [&mut Cache], tokens: &[ImageToken]) -> Result<Vec<f32>, SampleError> {
        Ok(self.step(caches, &numbers(tokens)))
    }

    fn samples(cache: &Cache) -> usize {
        cache.samples()
    }
}

fn numbers(tokens: &[ImageToken]) -> Vec<u32> {
    tokens.iter().map(|token| u32::from(token.0)).collect()
}
