//! The transformer layers of the prior and of both CLIP towers. A layer is two residual blocks (resblocks), attention and MLP, each
//! `x + f(norm(x))`.
//!
//! The residual stream `x` (the identity path) is f32. A resblock's residual is computed in the type of its matrices, f32 or 16 bits
//! (section 2.4).
//!
//! ```text
//! for layer in &layers {
//!     x = layer.attention.forward(x, mask.clone());
//!     x = layer.mlp.forward(x);
//! }
//! ```
//!
//! `residual` gives a resblock's residual alone, for example to recompute it or to scale its gradient.
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

/// Standard deviation of the prior's initial weights, as in GPT-2. The paper does not state one.
pub const INIT_STD: f64 = 0.02;

/// Standard deviations of a layer's initial weights.
#[derive(Clone, Copy, Debug)]
pub struct InitStd {
    /// The matrix of queries, keys and values.
    pub qkv: f64,
    /// The MLP's first matrix.
    pub fc1: f64,
    /// The two matrices that write to the residual stream.
    pub residual: f64,
}

impl InitStd {
    /// As in GPT-2. The matrices that write to the residual stream are smaller by a factor of √(2·layers), so that the stream's
    /// variance does not grow with depth.
    pub fn gpt2(layers: usize) -> Self {
        Self { qkv: INIT_STD, fc1: INIT_STD, residual: INIT_STD / ((2 * layers) as f64).sqrt() }
    }

    /// As in CLIP's released code, for a tower of this width.
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
    /// Lets slots attend to each other.
    pub attention: AttentionBlock,
    /// Transforms each slot independently.
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

    /// The type of the matrices.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn dtype(&self) -> burn::tensor::DType {
        self.mlp.dtype()
    }
}
