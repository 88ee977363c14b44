//! Stage 2: the transformer prior over `[text | image]` tokens (section 2.2, appendix B).
//!
//! [`Prior::forward`] is the whole stream at once, for training. [`Prior::prefill`] and [`Prior::step`] are the same network
//! with a [`Cache`], one slot at a time, for sampling. A slot predicts the token of the next one: text slots the caption,
//! the last text slot the first image token, image slots the rest.

pub(crate) mod block;
mod cache;
mod embed;
pub mod loss;
pub mod mask;

use std::ops::Range;

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use dalle_shared::{ImageToken, TextToken};

use block::{Block, INIT_STD, Linear, Qkv};
pub use cache::Cache;
use cache::LayerCache;
use embed::Embed;
use mask::{Layout, Pattern};

use crate::config::ModelConfig;

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

    /// For each pattern, a part of its mask.
    fn map<const D: usize>(&self, part: impl Fn(Tensor<2, Bool>) -> Tensor<D, Bool>) -> [Tensor<D, Bool>; 3] {
        [&self.row, &self.column, &self.conv].map(|mask| part(mask.clone()))
    }
}

/// Of three masks in the order of [`Pattern::ALL`], that of layer `index` of `layers`.
fn of_layer<const D: usize>(masks: &[Tensor<D, Bool>; 3], index: usize, layers: usize) -> Tensor<D, Bool> {
    masks[Pattern::of_layer(index, layers) as usize].clone()
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
            x = block.forward(x, of_layer(&hidden, index, self.blocks.len()));
        }
        let x = self.norm.forward(x);
        let images = x.dims()[1] - text;
        Logits {
            text: self.text_logits.forward(x.clone().narrow(1, 0, text - 1)),
            image: self.image_logits.forward(x.narrow(1, text - 1, images)),
        }
    }

    /// Runs the text slots: a fresh cache holding them, and the logits of the first image token, `[B, image_vocab]`.
    ///
    /// # Panics
    /// As [`Prior::forward`].
    pub fn prefill(&self, masks: &Masks, captions: &[&[TextToken]]) -> (Cache, Tensor<2>) {
        let Layout { text, .. } = masks.layout;
        let mut x = self.embed.text(captions);
        let b = x.dims()[0];
        let hidden = masks.map(|mask| mask.slice([0..text, 0..text]).unsqueeze::<4>());
        let mut layers = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            let Qkv { q, k, v } = block.qkv(x.clone());
            let [_, heads, _, width] = k.dims();
            // The last image token is never an input: one slot less than the stream.
            let empty = Tensor::zeros([b, heads, masks.layout.slots() - 1, width], &x.device());
            let mut layer = LayerCache { k: empty.clone(), v: empty };
            layer.write(0..b, 0, k.clone(), v.clone());
            layers.push(layer);
            x = block.finish(x, q, k, v, of_layer(&hidden, index, self.blocks.len()));
        }
        (Cache { layers }, self.next_image_logits(x.narrow(1, text - 1, 1)))
    }

    /// One image token for each row of the cache: takes token `tokens[row]` at raster position `positions[row]` into the
    /// cache and returns the logits of the token behind it, `[rows, image_vocab]`.
    ///
    /// # Panics
    /// If a token or position is out of range, or the cache has another number of rows.
    pub fn step(
        &self,
        masks: &Masks,
        cache: &mut Cache,
        tokens: &[ImageToken],
        positions: &[usize],
    ) -> Tensor<2> {
        let Layout { text, .. } = masks.layout;
        let rows: Vec<&[ImageToken]> = tokens.iter().map(std::slice::from_ref).collect();
        let mut x = self.embed.image(&rows, positions);
        let slots: Vec<i64> = positions.iter().map(|position| (text + position) as i64).collect();
        let seen = text + positions.iter().max().map_or(0, |position| position + 1);
        let slots: Tensor<1, Int> = Tensor::from_data(TensorData::new(slots, [positions.len()]), &x.device());
        let hidden = masks.map(|mask| {
            let rows = mask.select(0, slots.clone()).narrow(1, 0, seen);
            rows.reshape([positions.len(), 1, 1, seen])
        });
        for (index, (block, layer)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            let Qkv { q, k, v } = block.qkv(x.clone());
            for run in runs(positions) {
                let part = |tensor: &Tensor<4>| tensor.clone().slice_dim(0, run.clone());
                layer.write(run.clone(), text + positions[run.start], part(&k), part(&v));
            }
            let (k, v) = (layer.k.clone().narrow(2, 0, seen), layer.v.clone().narrow(2, 0, seen));
            x = block.finish(x, q, k, v, of_layer(&hidden, index, self.blocks.len()));
        }
        self.next_image_logits(x)
    }

    /// `[B, 1, D] → [B, image_vocab]`.
    fn next_image_logits(&self, x: Tensor<3>) -> Tensor<2> {
        self.image_logits.forward(self.norm.forward(x)).squeeze_dim(1)
    }
}

/// Maximal runs of neighbouring rows at the same position: the samples of one request move together, so their new keys are
/// written at once.
fn runs(positions: &[usize]) -> impl Iterator<Item = Range<usize>> {
    let mut end = 0;
    positions.chunk_by(|a, b| a == b).map(move |run| {
        let start = end;
        end += run.len();
        start..end
    })
}
