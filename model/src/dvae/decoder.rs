//! The decoder p(x|z): from image tokens to the parameters of each pixel's distribution (appendix A.1).

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, ExecutionError, Int, Tensor, TensorData};
use dalle_shared::{ImageToken, RequestError, check_ids};

use super::layers::{Block, Conv2d};
use super::pixels::{maps_to_rgb, rgb_bytes};
use crate::config::DvaeConfig;

/// The dVAE decoder.
#[derive(Module, Debug)]
pub struct Decoder {
    input: Conv2d,
    groups: Vec<Vec<Block>>,
    output: Conv2d,
}

impl Decoder {
    /// A decoder with random weights.
    pub fn new(config: &DvaeConfig, device: &Device) -> Self {
        let n_layers = 4 * config.blocks_per_group;
        let mut groups = Vec::new();
        let mut n_in = config.n_init;
        for factor in [8, 4, 2, 1] {
            let n_out = factor * config.n_hid;
            let mut group = Vec::new();
            for _ in 0..config.blocks_per_group {
                group.push(Block::new(n_in, n_out, [1, 3, 3, 3], n_layers, device));
                n_in = n_out;
            }
            groups.push(group);
        }
        Self {
            input: Conv2d::new(config.vocab, config.n_init, 1, device),
            groups,
            output: Conv2d::new(n_in, 6, 1, device),
        }
    }

    /// Maps relaxed tokens (a distribution over the codebook in each cell), `[B, vocab, H, W]`, to six maps `[B, 6, 8H, 8W]`: μ of
    /// red, green and blue, then their ln b.
    pub fn forward(&self, z: Tensor<4>) -> Tensor<4> {
        self.trunk(self.input.forward(z))
    }

    /// [`forward`](Self::forward) of hard tokens, `[B, H, W]`. On a one-hot map the first convolution is a table look-up.
    pub fn forward_tokens(&self, tokens: Tensor<3, Int>) -> Tensor<4> {
        self.trunk(self.embed(tokens))
    }

    /// The six maps of each of the four stages, from `[B, 6, H, W]` to `[B, 6, 8H, 8W]`: what the decoder would paint after each group
    /// if the later ones added nothing. Their residual paths are left out, so that only their identity paths and the output layer
    /// follow. The last are the maps of [`forward_tokens`](Self::forward_tokens).
    pub fn stages(&self, tokens: Tensor<3, Int>) -> Vec<Tensor<4>> {
        let mut x = self.embed(tokens);
        let mut stages = Vec::with_capacity(self.groups.len());
        for index in 0..self.groups.len() {
            x = self.group(index, x);
            // Identity paths commute with upsampling, so that they run at this group's resolution.
            let later = self.groups[index + 1..].iter().flatten();
            let painted = later.fold(x.clone(), |x, block| block.identity(x));
            stages.push(self.output.forward(relu(painted)));
        }
        stages
    }

    fn embed(&self, tokens: Tensor<3, Int>) -> Tensor<4> {
        let [b, h, w] = tokens.dims();
        let kernel = self.input.w.val();
        let [n_init, vocab, _, _] = kernel.dims();
        let columns = kernel.reshape([n_init, vocab]).swap_dims(0, 1).select(0, tokens.reshape([b * h * w]));
        let x = columns + self.input.b.val().unsqueeze();
        x.reshape([b, h, w, n_init]).permute([0, 3, 1, 2])
    }

    fn group(&self, index: usize, mut x: Tensor<4>) -> Tensor<4> {
        for (place, block) in self.groups[index].iter().enumerate() {
            x = if index > 0 && place == 0 { block.forward_upsampled(x) } else { block.forward(x) };
        }
        x
    }

    fn trunk(&self, x: Tensor<4>) -> Tensor<4> {
        let x = (0..self.groups.len()).fold(x, |x, index| self.group(index, x));
        self.output.forward(relu(x))
    }

    /// The image of one grid of tokens (`H·W` of them in raster order, H rows of W): RGB8 of `8H × 8W` pixels.
    ///
    /// For native backends. WebGPU in a browser cannot be read synchronously; use [`Decoder::decode_rgb_async`] there.
    ///
    /// # Errors
    /// The tokens do not fill rows of `width`, one is not in the codebook, or the device fails.
    pub fn decode_rgb(&self, tokens: &[ImageToken], width: usize) -> Result<Vec<u8>, DecodeError> {
        let pixels = maps_to_rgb(self.forward_tokens(self.grid(tokens, width)?));
        Ok(rgb_bytes(&pixels.try_into_data()?))
    }

    /// [`Decoder::decode_rgb`] of several grids of one size at once.
    ///
    /// # Errors
    /// As [`Decoder::decode_rgb`].
    pub fn decode_rgb_batch(
        &self,
        grids: &[&[ImageToken]],
        width: usize,
    ) -> Result<Vec<Vec<u8>>, DecodeError> {
        let grids: Vec<Tensor<3, Int>> =
            grids.iter().map(|tokens| self.grid(tokens, width)).collect::<Result<_, _>>()?;
        let count = grids.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let pixels = maps_to_rgb(self.forward_tokens(Tensor::cat(grids, 0)));
        pixels.chunk(count, 0).into_iter().map(|image| Ok(rgb_bytes(&image.try_into_data()?))).collect()
    }

    /// [`Decoder::decode_rgb`] for every backend.
    ///
    /// # Errors
    /// As [`Decoder::decode_rgb`].
    pub async fn decode_rgb_async(
        &self,
        tokens: &[ImageToken],
        width: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        let pixels = maps_to_rgb(self.forward_tokens(self.grid(tokens, width)?));
        Ok(rgb_bytes(&pixels.into_data_async().await?))
    }

    /// The images of [`Decoder::stages`] for one grid of tokens, for every backend: RGB8 of one, two, four and eight times as many rows
    /// and columns.
    ///
    /// # Errors
    /// As [`Decoder::decode_rgb`].
    pub async fn stages_rgb_async(
        &self,
        tokens: &[ImageToken],
        width: usize,
    ) -> Result<Vec<Vec<u8>>, DecodeError> {
        let mut images = Vec::new();
        for maps in self.stages(self.grid(tokens, width)?) {
            images.push(rgb_bytes(&maps_to_rgb(maps).into_data_async().await?));
        }
        Ok(images)
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.input.b.lazy_device()
    }

    /// The sizes of its dVAE.
    pub fn config(&self) -> DvaeConfig {
        let [n_init, vocab] = [0, 1].map(|side| self.input.w.lazy_shape()[side]);
        DvaeConfig {
            n_hid: self.output.w.lazy_shape()[1],
            n_init,
            blocks_per_group: self.groups.first().map_or(0, Vec::len),
            vocab,
        }
    }

    /// Tokens as `[1, H, W]`.
    fn grid(&self, tokens: &[ImageToken], width: usize) -> Result<Tensor<3, Int>, DecodeError> {
        check_grid(tokens, width, self.input.w.lazy_shape()[1])?;
        let count = tokens.len();
        let ids: Vec<i32> = tokens.iter().map(|token| i32::from(token.0)).collect();
        Ok(Tensor::from_data(TensorData::new(ids, [1, count / width, width]), &self.device()))
    }
}

/// Checks that tokens fill rows of `width` and are in a codebook of `vocab` entries.
pub(super) fn check_grid(tokens: &[ImageToken], width: usize, vocab: usize) -> Result<(), DecodeError> {
    let count = tokens.len();
    if count == 0 || width == 0 || !count.is_multiple_of(width) {
        return Err(DecodeError::Grid { count, width });
    }
    Ok(check_ids("tokens", tokens.iter().map(|token| usize::from(token.0)), count, vocab)?)
}

/// Why tokens could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The tokens do not fill their rows.
    #[error("tokens: expected rows of {width}, got {count} tokens")]
    Grid {
        /// Number of tokens.
        count: usize,
        /// Tokens in a row.
        width: usize,
    },
    /// A token is not in the codebook.
    #[error(transparent)]
    Token(#[from] RequestError),
    /// The device could not compute, or its memory could not be read.
    #[error("the device failed: {0}")]
    Device(String),
}

impl From<ExecutionError> for DecodeError {
    fn from(error: ExecutionError) -> Self {
        Self::Device(error.to_string())
    }
}
