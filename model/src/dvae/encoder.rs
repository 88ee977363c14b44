//! The encoder q(z|x): from an image to the logits of its grid of image tokens (appendix A.1).

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, ExecutionError, Int, Tensor};
use dalle_shared::ImageToken;

use super::layers::{Block, Conv2d};
use super::pixels::{images_to_tensor, map_pixels};
use crate::config::DvaeConfig;

/// The dVAE encoder.
#[derive(Module, Debug)]
pub struct Encoder {
    input: Conv2d,
    groups: Vec<Vec<Block>>,
    output: Conv2d,
}

impl Encoder {
    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.input.b.lazy_device()
    }

    /// The sizes of its dVAE. `n_init`, which the encoder does not have, is 0.
    pub fn config(&self) -> DvaeConfig {
        DvaeConfig {
            n_hid: self.input.w.lazy_shape()[0],
            n_init: 0,
            blocks_per_group: self.groups.first().map_or(0, Vec::len),
            vocab: self.output.w.lazy_shape()[0],
        }
    }

    /// An encoder with random weights.
    pub fn new(config: &DvaeConfig, device: &Device) -> Self {
        let n_layers = 4 * config.blocks_per_group;
        let mut groups = Vec::new();
        let mut n_in = config.n_hid;
        for factor in [1, 2, 4, 8] {
            let n_out = factor * config.n_hid;
            let mut group = Vec::new();
            for _ in 0..config.blocks_per_group {
                group.push(Block::new(n_in, n_out, [3, 3, 3, 1], n_layers, device));
                n_in = n_out;
            }
            groups.push(group);
        }
        Self {
            input: Conv2d::new(3, config.n_hid, 7, device),
            groups,
            output: Conv2d::new(n_in, config.vocab, 1, device),
        }
    }

    /// Maps pixels after [`map_pixels`](super::pixels::map_pixels), `[B, 3, S, S]`, to logits `[B, vocab, S/8, S/8]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut x = self.input.forward(x);
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                x = max_pool2d(x, MaxPoolOptions::new([2, 2]).with_stride([2, 2]));
            }
            for block in group {
                x = block.forward(x);
            }
        }
        self.output.forward(relu(x))
    }

    /// The image tokens for stage 2, `[B, S/8, S/8]`: the argmax of the logits in each cell, without noise (section 2.2).
    pub fn encode(&self, x: Tensor<4>) -> Tensor<3, Int> {
        self.forward(x).argmax(1).squeeze_dim(1)
    }

    /// The tokens of one image in raster order, for every backend: RGB8, rows of `width` pixels, both sides multiples of 8.
    ///
    /// # Errors
    /// The device fails.
    ///
    /// # Panics
    /// If `rgb` does not fill rows of `width`.
    pub async fn encode_rgb_async(
        &self,
        rgb: &[u8],
        width: usize,
    ) -> Result<Vec<ImageToken>, ExecutionError> {
        let x = images_to_tensor(&[rgb], width, rgb.len() / (3 * width), &self.device());
        let tokens = self.encode(map_pixels(x)).into_data_async().await?;
        // A codebook has at most 65,536 entries.
        Ok(tokens.iter::<u16>().map(ImageToken).collect())
    }
}
