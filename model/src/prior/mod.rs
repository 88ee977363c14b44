//! Stage 2: the transformer prior over `[text | image]` tokens (section 2.2, appendix B).
//!
//! [`Prior::forward`] is the whole stream at once, for training. [`Prior::prefill`] and [`Prior::step`] are the same network
//! with a [`Cache`], one token at a time, for sampling. A slot predicts the token of the next one: text slots the caption,
//! the last text slot the first image token, image slots the rest.

pub(crate) mod block;
mod cache;
mod embed;
pub mod loss;
pub mod mask;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, FloatDType, Tensor};
use dalle_shared::{ImageToken, TextToken};

use block::{Block, INIT_STD, Linear, Qkv};
use cache::LayerCache;
pub use cache::{Cache, TextCache};
use embed::Embed;
use mask::{Layout, Pattern};

use crate::config::ModelConfig;
use crate::precision::Precision;

/// The prior.
#[derive(Module, Debug)]
pub struct Prior {
    embed: Embed,
    blocks: Vec<Block>,
    norm: LayerNorm,
    text_logits: Linear,
    image_logits: Linear,
}

/// The attention masks of each [`Pattern`], `[slots, slots]`, on one device. They hold no weights: made once, used by every call.
#[derive(Clone, Debug)]
pub struct Masks {
    layout: Layout,
    row: Tensor<2, Bool>,
    column: Tensor<2, Bool>,
    conv: Tensor<2, Bool>,
}

impl Masks {
    /// The masks of a model.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let geometry = config.geometry();
        let layout =
            Layout { text: geometry.text_length, grid: geometry.grid, kernel: config.prior.conv_kernel };
        let hidden = |pattern| layout.hidden(pattern, device);
        Self {
            layout,
            row: hidden(Pattern::Row),
            column: hidden(Pattern::Column),
            conv: hidden(Pattern::Conv),
        }
    }

    /// A part of the mask of each pattern, in the order of [`Pattern::ALL`].
    fn map<const D: usize>(&self, part: impl Fn(Tensor<2, Bool>) -> Tensor<D, Bool>) -> [Tensor<D, Bool>; 3] {
        [&self.row, &self.column, &self.conv].map(|mask| part(mask.clone()))
    }
}

/// Logits of the whole stream.
pub struct Logits {
    /// What follows each text slot but the last, `[B, text_length − 1, text_vocab + 1]`; the extra class is the caption's end.
    pub text: Tensor<3>,
    /// The image tokens, `[B, grid², image_vocab]`.
    pub image: Tensor<3>,
}

impl Prior {
    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.embed.device()
    }

    /// A prior with random weights.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let d = config.prior.d_model();
        Self {
            embed: Embed::new(config, device),
            blocks: (0..config.prior.layers).map(|_| Block::new(&config.prior, device)).collect(),
            norm: LayerNormConfig::new(d).init(device),
            text_logits: Linear::new(d, config.text_vocab + 1, INIT_STD, device),
            image_logits: Linear::new(d, config.dvae.vocab, INIT_STD, device),
        }
    }

    /// The same prior with the matrices of its blocks, and with them what the blocks compute and cache, in another type.
    /// The identity path, gains, biases, embeddings and logits stay in f32 (section 2.4). Weights that are not there yet are
    /// made, or loaded, one by one in that type.
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
        self.blocks = self.blocks.map(&mut Matrices(precision.into()));
        self
    }

    /// Logits of every token of some captions (ids without padding) with their images (`grid²` tokens each).
    ///
    /// # Panics
    /// If a caption is too long, an image of another size, or a token out of range.
    pub fn forward(&self, masks: &Masks, captions: &[&[TextToken]], images: &[&[ImageToken]]) -> Logits {
        let Layout { text, .. } = masks.layout;
        let image = self.embed.image(images, &vec![0; images.len()]);
        let mut x = Tensor::cat(vec![self.embed.text(captions), image], 1);
        let hidden = masks.map(|mask| mask.unsqueeze::<4>());
        for (index, block) in self.blocks.iter().enumerate() {
            let pattern = Pattern::of_layer(index, self.blocks.len());
            x = block.forward(x, hidden[pattern as usize].clone());
        }
        let x = self.norm.forward(x);
        let images = x.dims()[1] - text;
        Logits {
            text: self.text_logits.forward(x.clone().narrow(1, 0, text - 1)),
            image: self.image_logits.forward(x.narrow(1, text - 1, images)),
        }
    }

    /// Runs a caption and the first tokens of an image that are given, if any: a fresh cache of one sample holding them, and
    /// the logits of the next image token, `[1, image_vocab]`.
    ///
    /// # Panics
    /// As [`Prior::forward`], or if all of the image is given.
    pub fn prefill(&self, masks: &Masks, caption: &[TextToken], given: &[ImageToken]) -> (Cache, Tensor<2>) {
        let layout = masks.layout;
        let mut x = self.embed.text(&[caption]);
        if !given.is_empty() {
            x = Tensor::cat(vec![x, self.embed.image(&[given], &[0])], 1);
        }
        let slots = layout.text + given.len();
        assert!(slots < layout.slots(), "nothing is left to predict");
        let hidden = masks.map(|mask| mask.slice([0..slots, 0..slots]).unsqueeze::<4>());
        let mut layers = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            let pattern = Pattern::of_layer(index, self.blocks.len());
            let qkv = block.qkv(x.clone());
            layers.push(LayerCache::new(layout, pattern, qkv.k.clone(), qkv.v.clone()));
            x = block.finish(x, qkv.attend(hidden[pattern as usize].clone()));
        }
        let cache = Cache { layers, samples: 1, position: given.len() };
        (cache, self.next_image_logits(x.narrow(1, slots - 1, 1)))
    }

    /// One image token for each sample of each cache, cache by cache: takes it into the cache and returns the logits of the
    /// token behind it, `[samples of all caches, image_vocab]`.
    ///
    /// What belongs to all is computed for all at once; the attention of each cache's samples, which share a caption and a
    /// position, by itself, so that captions come and go without moving one another's keys.
    ///
    /// # Panics
    /// If a token is out of range, their number is not that of the samples, or an image is complete.
    pub fn step(&self, caches: &mut [&mut Cache], tokens: &[ImageToken]) -> Tensor<2> {
        let positions: Vec<usize> =
            caches.iter().flat_map(|cache| vec![cache.position; cache.samples]).collect();
        assert_eq!(positions.len(), tokens.len(), "one token for each sample");
        let rows: Vec<&[ImageToken]> = tokens.iter().map(std::slice::from_ref).collect();
        let mut x = self.embed.image(&rows, &positions);
        for (index, block) in self.blocks.iter().enumerate() {
            let Qkv { q, k, v } = block.qkv(x.clone());
            let mut row = 0;
            let attention = caches.iter_mut().map(|cache| {
                let part = |tensor: &Tensor<4>| tensor.clone().narrow(0, row, cache.samples);
                let own = Qkv { q: part(&q), k: part(&k), v: part(&v) };
                row += cache.samples;
                cache.layers[index].attend(cache.position, own)
            });
            x = block.finish(x, Tensor::cat(attention.collect(), 0));
        }
        for cache in caches {
            cache.position += 1;
        }
        self.next_image_logits(x)
    }

    /// Logits of the id behind a caption's beginning, `[1, text_vocab + 1]`; the last class is the caption's end. The cache
    /// holds what was computed for shorter beginnings of the same caption.
    ///
    /// # Panics
    /// If the caption is already as long as can be, or an id is out of range.
    pub fn continue_text(&self, masks: &Masks, cache: &mut TextCache, caption: &[TextToken]) -> Tensor<2> {
        let (from, slots) = (cache.slots(), caption.len() + 1);
        assert!(from < slots && slots < masks.layout.text, "no slot is left for the next id");
        let hidden = masks.row.clone().slice([from..slots, 0..slots]).unsqueeze::<4>();
        let mut x = self.embed.text(&[caption]).narrow(1, from, slots - from);
        for (index, block) in self.blocks.iter().enumerate() {
            let Qkv { q, k, v } = block.qkv(x.clone());
            let (k, v) = cache.extend(index, k, v);
            x = block.finish(x, Qkv { q, k, v }.attend(hidden.clone()));
        }
        let last = x.narrow(1, slots - from - 1, 1);
        self.text_logits.forward(self.norm.forward(last)).squeeze_dim(1)
    }

    /// Most ids of a caption, and how many different ones there are.
    pub fn text_sizes(&self) -> (usize, usize) {
        self.embed.text_sizes()
    }

    /// `[B, 1, D] → [B, image_vocab]`.
    fn next_image_logits(&self, x: Tensor<3>) -> Tensor<2> {
        self.image_logits.forward(self.norm.forward(x)).squeeze_dim(1)
    }
}
