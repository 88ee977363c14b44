//! Stage 2: the transformer prior over the stream `[text | image]` (section 2.2, appendix B).
//!
//! [`Prior::forward`] computes the whole stream at once, for training. For sampling, [`Prior::prefill`] and [`Prior::step`] compute
//! the same network one token at a time with a [`Cache`]. Each slot predicts the token of the next slot: text slots the caption, the
//! last text slot the first image token, and image slots the rest.
//!
//! Shapes: B batch, T slots, D width of the stream, H heads.

mod cache;
mod embed;
#[cfg(not(target_arch = "wasm32"))]
mod kernels;
pub mod loss;
pub mod mask;

#[cfg(not(target_arch = "wasm32"))]
pub use kernels::kernel_sizes;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use kernels::storage;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, FloatDType, Tensor};
use dalle_shared::{Geometry, ImageToken, RequestError, TextToken};

use cache::LayerCache;
pub use cache::{Cache, TextCache};
use embed::Embed;
use mask::{Pattern, StreamLayout};

use crate::config::ModelConfig;
use crate::precision::Precision;
use crate::transformer::{INIT_STD, InitStd, Layer, Linear, Qkv};

/// The prior.
#[derive(Module, Debug)]
pub struct Prior {
    embed: Embed,
    layers: Vec<Layer>,
    norm: LayerNorm,
    text_logits: Linear,
    image_logits: Linear,
}

/// The attention masks of a model on a device, created once.
#[derive(Clone, Debug)]
pub struct Masks {
    layout: StreamLayout,
    /// One mask per [`Pattern`], `[slots, slots]`: true where a query (row) must not attend to a key (column).
    by_pattern: [Tensor<2, Bool>; 3],
}

impl Masks {
    /// Creates the masks of a model.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let layout = StreamLayout::new(config);
        Self { layout, by_pattern: Pattern::ALL.map(|pattern| layout.mask(pattern, device)) }
    }

    /// The mask of each of `layers` layers, for the first `slots` slots: `[1, 1, slots, slots]`.
    pub fn of_layers(&self, layers: usize, slots: usize) -> impl Iterator<Item = Tensor<4, Bool>> {
        let masks = self.by_pattern.clone().map(|mask| mask.slice([0..slots, 0..slots]).unsqueeze::<4>());
        (0..layers).map(move |index| masks[Pattern::of_layer(index, layers) as usize].clone())
    }
}

/// Logits of the whole stream.
pub struct Logits {
    /// Logits of the ids after all text slots but the last, `[B, text_length − 1, text_vocab + 1]`. The extra class is the end token.
    pub text: Tensor<3>,
    /// Logits of the image tokens, `[B, grid², image_vocab]`.
    pub image: Tensor<3>,
}

impl Prior {
    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.embed.device()
    }

    /// The sizes of the stream.
    pub fn geometry(&self) -> Geometry {
        self.embed.geometry()
    }

    /// The layers, for callers that run them one by one between [`embed`](Self::embed) and [`logits`](Self::logits).
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// A prior with random weights.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let (d, layers) = (config.prior.d_model(), config.prior.layers);
        Self {
            embed: Embed::new(config, device),
            layers: Layer::stack(layers, d, config.prior.heads, InitStd::gpt2(layers), device),
            norm: LayerNormConfig::new(d).init(device),
            text_logits: Linear::new(d, config.text_vocab + 1, INIT_STD, device),
            image_logits: Linear::new(d, config.dvae.vocab, INIT_STD, device),
        }
    }

    /// The prior with the matrices of its layers, and therefore their activations and cache, in another type. The identity path,
    /// gains, biases, embeddings and logits stay in f32 (section 2.4). Uninitialised weights are later created or loaded one by one
    /// in that type.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        struct Matrices(FloatDType);
        impl ModuleMapper for Matrices {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let dtype = self.0;
                let cast = move |tensor: Tensor<D>| tensor.cast(dtype);
                if D == 2 { param.load_mapper(cast).init_mapper(cast) } else { param }
            }
        }
        self.layers = self.layers.map(&mut Matrices(precision.into()));
        self
    }

    /// Logits of all tokens of captions (ids without padding) and their images (`grid²` tokens each).
    ///
    /// # Errors
    /// A caption is too long, or an id or token is not in the vocabulary.
    ///
    /// # Panics
    /// If the images differ in length, or there are not as many as captions.
    pub fn forward(
        &self,
        masks: &Masks,
        captions: &[&[TextToken]],
        images: &[&[ImageToken]],
    ) -> Result<Logits, RequestError> {
        let mut x = self.embed(captions, images)?;
        for (layer, mask) in self.layers.iter().zip(masks.of_layers(self.layers.len(), x.dims()[1])) {
            x = layer.attention.forward(x, mask);
            x = layer.mlp.forward(x);
        }
        Ok(self.logits(x))
    }

    /// The input of the first layer, `[B, T, D]`, for captions and the first tokens of their images.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn embed(
        &self,
        captions: &[&[TextToken]],
        images: &[&[ImageToken]],
    ) -> Result<Tensor<3>, RequestError> {
        if images.iter().all(|image| image.is_empty()) {
            return self.embed.text(captions);
        }
        let image = self.embed.image(images, &vec![0; images.len()])?;
        Ok(Tensor::cat(vec![self.embed.text(captions)?, image], 1))
    }

    /// The logits of the whole stream from the output of the last layer, `[B, T, D]`.
    pub fn logits(&self, x: Tensor<3>) -> Logits {
        let text = self.geometry().text_length;
        let x = self.norm.forward(x);
        let images = x.dims()[1] - text;
        Logits {
            text: self.text_logits.forward(x.clone().narrow(1, 0, text - 1)),
            image: self.image_logits.forward(x.narrow(1, text - 1, images)),
        }
    }

    /// Runs a caption and the first tokens of an image, which may be none. Returns a cache of one sample with them, and the logits of
    /// the next image token, `[1, image_vocab]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    ///
    /// # Panics
    /// If the image is complete.
    pub fn prefill(
        &self,
        masks: &Masks,
        caption: &[TextToken],
        image: &[ImageToken],
    ) -> Result<(Cache, Tensor<2>), RequestError> {
        let mut x = self.embed(&[caption], &[image])?;
        let slots = x.dims()[1];
        assert!(slots < masks.layout.slots(), "the image is complete");
        let mut layers = Vec::with_capacity(self.layers.len());
        let indices = 0..self.layers.len();
        for ((index, layer), mask) in indices.zip(&self.layers).zip(masks.of_layers(self.layers.len(), slots))
        {
            let Qkv { q, kv } = layer.attention.qkv(x.clone());
            let pattern = Pattern::of_layer(index, self.layers.len());
            layers.push(LayerCache::new(masks.layout, pattern, &kv));
            x = x + layer.attention.project(kv.attend(q, mask));
            x = layer.mlp.forward(x);
        }
        let cache = Cache { layers, samples: 1, position: image.len() };
        Ok((cache, self.next_image_logits(x.narrow(1, slots - 1, 1))))
    }

    /// Adds one image token per sample to the caches. `tokens` are ordered by cache. Returns the logits of the next tokens,
    /// `[samples of all caches, image_vocab]`.
    ///
    /// Attention is computed per cache, whose samples share a caption and a position; everything else for all samples at once. So
    /// captions can be added and removed without moving the keys of others.
    ///
    /// # Errors
    /// A token is not in the codebook.
    ///
    /// # Panics
    /// If there are not as many tokens as samples, or an image is complete.
    pub fn step(&self, caches: &mut [&mut Cache], tokens: &[ImageToken]) -> Result<Tensor<2>, RequestError> {
        let positions: Vec<usize> =
            caches.iter().flat_map(|cache| vec![cache.position; cache.samples]).collect();
        assert_eq!(positions.len(), tokens.len(), "expected one token per sample");
        let rows: Vec<&[ImageToken]> = tokens.iter().map(std::slice::from_ref).collect();
        let mut x = self.embed.image(&rows, &positions)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let qkv = layer.attention.qkv(x.clone());
            let mut row = 0;
            let attended = caches.iter_mut().map(|cache| {
                let own = qkv.clone().rows(row, cache.samples);
                row += cache.samples;
                cache.layers[index].attend(cache.position, own)
            });
            x = x + layer.attention.project(Tensor::cat(attended.collect(), 0));
            x = layer.mlp.forward(x);
        }
        for cache in caches {
            cache.position += 1;
        }
        Ok(self.next_image_logits(x))
    }

    /// Logits of the id after the first ids of a caption, `[1, text_vocab + 1]`; the last class is the end token. The cache holds the
    /// keys and values of earlier calls with fewer ids of the same caption.
    ///
    /// # Errors
    /// The caption is too long, or an id is not in the vocabulary.
    ///
    /// # Panics
    /// If no slot is left for the next id, or the cache is of a longer caption.
    pub fn continue_text(
        &self,
        masks: &Masks,
        cache: &mut TextCache,
        caption: &[TextToken],
    ) -> Result<Tensor<2>, RequestError> {
        let (from, slots) = (cache.slots(), caption.len() + 1);
        let text = self.embed.text(&[caption])?;
        assert!(from < slots && slots < masks.layout.text, "no slot is left for the next id");
        // Within the text, all patterns are causal.
        let mask = masks.by_pattern[0].clone().slice([from..slots, 0..slots]).unsqueeze::<4>();
        let mut x = text.narrow(1, from, slots - from);
        for (index, layer) in self.layers.iter().enumerate() {
            let Qkv { q, kv } = layer.attention.qkv(x.clone());
            let kv = cache.extend(index, kv);
            x = x + layer.attention.project(kv.attend(q, mask.clone()));
            x = layer.mlp.forward(x);
        }
        let last = x.narrow(1, slots - from - 1, 1);
        Ok(self.text_logits.forward(self.norm.forward(last)).squeeze_dim(1))
    }

    /// The attention weights of layer `layer` for the token after the last one given: `[H, T]`, one per head and slot. Each row
    /// sums to 1. The stream is recomputed up to that layer.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn attention(
        &self,
        masks: &Masks,
        caption: &[TextToken],
        image: &[ImageToken],
        layer: usize,
    ) -> Result<Tensor<2>, RequestError> {
        let mut x = self.embed(&[caption], &[image])?;
        let slots = x.dims()[1];
        let mut masks = masks.of_layers(self.layers.len(), slots);
        for (layer, mask) in self.layers[..layer].iter().zip(masks.by_ref()) {
            x = layer.attention.forward(x, mask);
            x = layer.mlp.forward(x);
        }
        let mask = masks.next().expect("a mask for each layer");
        Ok(self.layers[layer].attention.weights(x, mask, slots - 1).squeeze_dim(0))
    }

    /// `[B, 1, D] → [B, image_vocab]`.
    fn next_image_logits(&self, x: Tensor<3>) -> Tensor<2> {
        self.image_logits.forward(self.norm.forward(x)).squeeze_dim(1)
    }
}
