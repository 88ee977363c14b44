//! The two towers: a transformer that reads a caption and one that looks at a picture, each ending in the shared space.
//!
//! Shapes: B batch, W width of the tower, E width of the shared space.

use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::module::linear;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use dalle_shared::TextToken;

use super::config::{ClipConfig, TowerConfig};
use crate::config::ModelConfig;
use crate::prior::block::{Block, Spread};

/// Rows of the text's embedding behind the vocabulary: the start of a caption, and its end.
const START_AND_END: usize = 2;

/// Random values N(0, std).
fn normal<const D: usize>(shape: [usize; D], std: f64, device: &Device) -> Param<Tensor<D>> {
    Initializer::Normal { mean: 0.0, std }.init(shape, device)
}

/// The blocks of a tower, initialised as in CLIP's own code.
fn blocks(config: &TowerConfig, device: &Device) -> Vec<Block> {
    let width = config.width as f64;
    let spread = Spread {
        qkv: width.powf(-0.5),
        fc1: (2.0 * width).powf(-0.5),
        residual: (width * 2.0 * config.layers as f64).powf(-0.5),
    };
    (0..config.layers).map(|_| Block::with_spread(config.width, config.heads, spread, device)).collect()
}

/// Reads captions: causal attention, the feature taken where the caption ends.
#[derive(Module, Debug)]
pub struct TextTower {
    /// `[text_vocab + 2, W]`: the vocabulary, then start and end.
    token: Param<Tensor<2>>,
    /// `[text_length + 1, W]`: start, at most `text_length − 1` ids, end.
    position: Param<Tensor<2>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    /// `[W, E]`.
    projection: Param<Tensor<2>>,
}

impl TextTower {
    /// A tower with random weights.
    pub fn new(config: &ClipConfig, model: &ModelConfig, device: &Device) -> Self {
        let width = config.text.width;
        Self {
            token: normal([model.text_vocab + START_AND_END, width], 0.02, device),
            position: normal([model.text_length + 1, width], 0.01, device),
            blocks: blocks(&config.text, device),
            norm: LayerNormConfig::new(width).init(device),
            projection: normal([width, config.embedding], (width as f64).powf(-0.5), device),
        }
    }

    /// Ids in the vocabulary.
    pub fn vocab(&self) -> usize {
        self.token.lazy_shape()[0] - START_AND_END
    }

    /// Most ids of a caption.
    pub fn longest(&self) -> usize {
        self.position.lazy_shape()[0] - START_AND_END
    }

    /// Captions, without padding, to `[B, E]`. Attention is causal, so that what fills the slots behind a caption's end, up to the
    /// longest of the batch, changes nothing.
    ///
    /// # Panics
    /// If a caption has more than [`longest`](Self::longest) ids, or one outside the vocabulary.
    pub fn forward(&self, captions: &[&[TextToken]]) -> Tensor<2> {
        let (vocab, longest) = (self.vocab(), self.longest());
        let (start, end) = (vocab as i64, vocab as i64 + 1);
        let slots = START_AND_END + captions.iter().map(|caption| caption.len()).max().unwrap_or(0);
        let (mut ids, mut ends) = (Vec::with_capacity(captions.len() * slots), Vec::new());
        for (row, caption) in captions.iter().enumerate() {
            assert!(caption.len() <= longest, "{} caption ids do not fit {longest} slots", caption.len());
            ids.push(start);
            for id in *caption {
                assert!((id.0 as usize) < vocab, "text id {} is outside the vocabulary of {vocab}", id.0);
                ids.push(i64::from(id.0));
            }
            ends.push(ids.len() as i64);
            ids.resize((row + 1) * slots, end);
        }
        let (b, table) = (captions.len(), self.token.val());
        let (device, width) = (table.device(), table.dims()[1]);
        let index = |values: Vec<i64>| -> Tensor<1, Int> {
            let length = values.len();
            Tensor::from_data(TensorData::new(values, [length]), &device)
        };
        let position: Tensor<3> = self.position.val().narrow(0, 0, slots).unsqueeze();
        let mut x = table.select(0, index(ids)).reshape([b, slots, width]) + position;
        let hidden: Tensor<4, Bool> = Tensor::<2, Bool>::tril_mask([slots, slots], 0, &device).unsqueeze();
        for block in &self.blocks {
            x = block.forward(x, hidden.clone());
        }
        let read = x.reshape([b * slots, width]).select(0, index(ends));
        linear(self.norm.forward(read), self.projection.val(), None)
    }
}

/// Looks at pictures: a vision transformer (arXiv 2010.11929), the feature taken at the class token.
#[derive(Module, Debug)]
pub struct ImageTower {
    /// Kernel of the patches' convolution, `[3·P·P, W]`. Its stride is its side P, so that it is a matrix product.
    patch: Param<Tensor<2>>,
    /// `[W]`.
    class: Param<Tensor<1>>,
    /// `[1 + patches, W]`.
    position: Param<Tensor<2>>,
    norm_before: LayerNorm,
    blocks: Vec<Block>,
    norm_after: LayerNorm,
    /// `[W, E]`.
    projection: Param<Tensor<2>>,
    patch_side: usize,
    /// Patches in a row.
    grid: usize,
}

impl ImageTower {
    /// A tower with random weights.
    pub fn new(config: &ClipConfig, model: &ModelConfig, device: &Device) -> Self {
        let (width, side) = (config.image.width, config.patch);
        let (grid, values) = (model.image_size / side, 3 * side * side);
        let std = (width as f64).powf(-0.5);
        Self {
            patch: normal([values, width], (values as f64).powf(-0.5), device),
            class: normal([width], std, device),
            position: normal([1 + grid * grid, width], std, device),
            norm_before: LayerNormConfig::new(width).init(device),
            blocks: blocks(&config.image, device),
            norm_after: LayerNormConfig::new(width).init(device),
            projection: normal([width, config.embedding], std, device),
            patch_side: side,
            grid,
        }
    }

    /// Side of the pictures in pixels.
    pub fn side(&self) -> usize {
        self.patch_side * self.grid
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.patch.lazy_device()
    }

    /// Pictures, `[B, 3, side, side]` in 0..1, to `[B, E]`.
    ///
    /// # Panics
    /// If they have another size.
    pub fn forward(&self, pictures: Tensor<4>) -> Tensor<2> {
        let ([b, planes, height, width], side) = (pictures.dims(), self.side());
        assert_eq!([planes, height, width], [3, side, side], "pictures of another size");
        let (grid, patch) = (self.grid, self.patch_side);
        let patches = pictures.mul_scalar(2.0).sub_scalar(1.0).reshape([b, 3, grid, patch, grid, patch]);
        let patches = patches.permute([0, 2, 4, 1, 3, 5]).reshape([b, grid * grid, 3 * patch * patch]);
        let patches = linear(patches, self.patch.val(), None);
        let [_, _, width] = patches.dims();
        let class = self.class.val().reshape([1, 1, width]).expand([b, 1, width]);
        let x = Tensor::cat(vec![class, patches], 1) + self.position.val().unsqueeze();
        let mut x = self.norm_before.forward(x);
        // Every patch sees every other.
        let nothing = Tensor::<4, Int>::zeros([1, 1, 1, 1], &x.device()).bool();
        for block in &self.blocks {
            x = block.forward(x, nothing.clone());
        }
        let read = x.narrow(1, 0, 1).reshape([b, width]);
        linear(self.norm_after.forward(read), self.projection.val(), None)
    }
}
