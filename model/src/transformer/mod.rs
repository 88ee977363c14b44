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
mod init;
mod linear;
mod mlp;

use burn::module::Module;
use burn::tensor::Device;

pub(crate) use attention::softmax_f32;
pub use attention::{AttentionBlock, KeyValue, Qkv};
pub use init::{INIT_STD, InitStd};
pub use linear::Linear;
pub use mlp::MlpBlock;

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
