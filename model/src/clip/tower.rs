//! CLIP's two towers: a transformer for captions and one for images, each followed by a projection into the joint space.
//!
//! Shapes: B batch, W width of the tower, E width of the joint space.

use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::module::linear;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use dalle_shared::{RequestError, TextToken, check_ids};

use super::config::{ClipConfig, TowerConfig};
use crate::config::ModelConfig;
use crate::transformer::{InitStd, Layer};

/// Rows of the text embedding after the vocabulary: start token and end token.
const START_AND_END: usize = 2;

/// A parameter with random values N(0, std²).
fn normal<const D: usize>(shape: [usize; D], std: f64, device: &Device) -> Param<Tensor<D>> {
    Initializer::Normal { mean: 0.0, std }.init(shape, device)
}

/// The layers of a tower.
fn layers(config: &TowerConfig, device: &Device) -> Vec<Layer> {
    let std = InitStd::clip(config.width, config.layers);
    Layer::stack(config.layers, config.width, config.heads, std, device)
}

/// Runs the layers of a tower, `[B, T, W] → [B, T, W]`. The mask broadcasts to `[B, heads, T, T]`.
fn forward(layers: &[Layer], mut x: Tensor<3>, mask: &Tensor<4, Bool>) -> Tensor<3> {
    for layer in layers {
        x = layer.attention.forward(x, mask.clone());
        x = layer.mlp.forward(x);
    }
    x
}

/// Text tower: causal attention; the feature is taken at the end of the caption.
#[derive(Module, Debug)]
pub struct TextTower {
    /// `[text_vocab + 2, W]`: the vocabulary, then start and end.
    token: Param<Tensor<2>>,
    /// `[text_length + 1, W]`: start, at most `text_length − 1` ids, end.
    position: Param<Tensor<2>>,
    layers: Vec<Layer>,
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
            layers: layers(&config.text, device),
            norm: LayerNormConfig::new(width).init(device),
            projection: normal([width, config.embedding], (width as f64).powf(-0.5), device),
        }
    }

    /// Captions without padding to `[B, E]`. They are padded to the longest of the batch, which changes nothing because attention is
    /// causal.
    ///
    /// # Errors
    /// A caption has more than `text_length − 1` ids, or an id that is not in the vocabulary.
    pub fn forward(&self, captions: &[&[TextToken]]) -> Result<Tensor<2>, RequestError> {
        let vocab = self.token.lazy_shape()[0] - START_AND_END;
        let longest = self.position.lazy_shape()[0] - START_AND_END;
        for caption in captions {
            check_ids("text", caption.iter().map(|id| id.0 as usize), longest, vocab)?;
        }
        let (start, end) = (vocab as i64, vocab as i64 + 1);
        let slots = START_AND_END + captions.iter().map(|caption| caption.len()).max().unwrap_or(0);
        let (mut ids, mut ends) = (Vec::with_capacity(captions.len() * slots), Vec::new());
        for (row, caption) in captions.iter().enumerate() {
            ids.push(start);
            ids.extend(caption.iter().map(|id| i64::from(id.0)));
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
        let x = table.select(0, index(ids)).reshape([b, slots, width]) + position;
        let mask: Tensor<4, Bool> = Tensor::<2, Bool>::tril_mask([slots, slots], 0, &device).unsqueeze();
        let x = forward(&self.layers, x, &mask);
        let ends = x.reshape([b * slots, width]).select(0, index(ends));
        Ok(linear(self.norm.forward(ends), self.projection.val(), None))
    }
}

/// Image tower: a vision transformer (arXiv 2010.11929); the feature is taken at the class token.
#[derive(Module, Debug)]
pub struct ImageTower {
    /// Kernel of the patch convolution, `[3·P·P, W]`. Its stride equals its side P, so it is a matrix product.
    patch: Param<Tensor<2>>,
    /// `[W]`.
    class: Param<Tensor<1>>,
    /// `[1 + patches, W]`.
    position: Param<Tensor<2>>,
    norm_before: LayerNorm,
    layers: Vec<Layer>,
    norm_after: LayerNorm,
    /// `[W, E]`.
    projection: Param<Tensor<2>>,
    patch_side: usize,
    /// Patches per row.
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
            layers: layers(&config.image, device),
            norm_after: LayerNormConfig::new(width).init(device),
            projection: normal([width, config.embedding], std, device),
            patch_side: side,
            grid,
        }
    }

    /// Side of the images in pixels.
    pub fn side(&self) -> usize {
        self.patch_side * self.grid
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.patch.lazy_device()
    }

    /// Images, `[B, 3, side, side]` in 0..1, to `[B, E]`.
    ///
    /// # Panics
    /// If the images have another size.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let ([b, planes, height, width], side) = (images.dims(), self.side());
        assert_eq!([planes, height, width], [3, side, side], "images of another size");
        let (grid, patch) = (self.grid, self.patch_side);
        let patches = images.mul_scalar(2.0).sub_scalar(1.0).reshape([b, 3, grid, patch, grid, patch]);
        let patches = patches.permute([0, 2, 4, 1, 3, 5]).reshape([b, grid * grid, 3 * patch * patch]);
        let patches = linear(patches, self.patch.val(), None);
        let [_, _, width] = patches.dims();
        let class = self.class.val().reshape([1, 1, width]).expand([b, 1, width]);
        let x = Tensor::cat(vec![class, patches], 1) + self.position.val().unsqueeze();
        // Full attention: nothing is masked.
        let mask = Tensor::<4, Int>::zeros([1, 1, 1, 1], &x.device()).bool();
        let x = forward(&self.layers, self.norm_before.forward(x), &mask);
        let class = x.narrow(1, 0, 1).reshape([b, width]);
        linear(self.norm_after.forward(class), self.projection.val(), None)
    }
}
