//! The transformer that the prior and both towers of CLIP are made of: layers of two residual blocks (resblocks), attention and
//! MLP, each of them `x + f(norm(x))`.
//!
//! The residual stream `x` (the identity path) is f32. What a resblock adds to it is computed in the type of its matrices: f32, or
//! 16 bits (section 2.4).
//!
//! ```text
//! for layer in &layers {
//!     x = layer.attention.forward(x, mask.clone());
//!     x = layer.mlp.forward(x);
//! }
//! ```
//!
//! A resblock's `residual` is what it adds, in f32: the place to recompute it, or to scale its gradient.
//!
//! Shapes: B batch, T slots, H heads, K width of a head, D = H·K.

mod attention;
mod linear;
mod mlp;

use burn::module::Module;
use burn::tensor::Device;

pub(crate) use attention::softmax_f32;
pub use attention::{AttentionBlock, KeyValue, Qkv};
pub use linear::Linear;
pub use mlp::MlpBlock;

/// Standard deviation of the prior's weights (as GPT-2's; the paper leaves it open).
pub const INIT_STD: f64 = 0.02;

/// Standard deviations of a layer's random weights.
#[derive(Clone, Copy, Debug)]
pub struct InitStd {
    /// Of queries, keys and values.
    pub qkv: f64,
    /// Of the MLP's first matrix.
    pub fc1: f64,
    /// Of the two matrices that write to the residual stream.
    pub residual: f64,
}

impl InitStd {
    /// GPT-2's. The matrices that write to the residual stream start smaller by √(2·layers), so that its variance does not grow
    /// with depth.
    pub fn gpt2(layers: usize) -> Self {
        Self { qkv: INIT_STD, fc1: INIT_STD, residual: INIT_STD / ((2 * layers) as f64).sqrt() }
    }

    /// Those of CLIP's released code, for a tower of this width.
    pub fn clip(width: usize, layers: usize) -> Self {
        let width = width as f64;
        Self {
            qkv: width.powf(-0.5),
            fc1: (2.0 * width).powf(-0.5),
            residual: (width * 2.0 * layers as f64).powf(-0.5),
        }
    }
}

/// An attention resblock, then an MLP resblock.
#[derive(Module, Debug)]
pub struct Layer {
    /// Mixes slots.
    pub attention: AttentionBlock,
    /// Works on each slot alone.
    pub mlp: MlpBlock,
}

impl Layer {
    /// `layers` layers of width `d` with random weights.
    ///
    /// # Panics
    /// If `heads` does not divide `d`.
    pub fn stack(layers: usize, d: usize, heads: usize, std: InitStd, device: &Device) -> Vec<Self> {
        assert!(d.is_multiple_of(heads), "{heads} heads do not divide a width of {d}");
        let layer = |_| Self {
            attention: AttentionBlock::new(d, heads, std, device),
            mlp: MlpBlock::new(d, std, device),
        };
        (0..layers).map(layer).collect()
    }
}
