//! The MLP resblock: `x + fc2(gelu(fc1(norm(x))))`, with a hidden layer four times as wide.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::activation::gelu;
use burn::tensor::{DType, Device, Tensor};

use super::{InitStd, Linear};

/// The resblock of a layer that transforms each slot independently.
#[derive(Module, Debug)]
pub struct MlpBlock {
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl MlpBlock {
    /// A resblock of width `d` with random weights.
    pub(super) fn new(d: usize, std: InitStd, device: &Device) -> Self {
        Self {
            norm: LayerNormConfig::new(d).init(device),
            fc1: Linear::new(d, 4 * d, std.fc1, device),
            fc2: Linear::new(4 * d, d, std.residual, device),
        }
    }

    /// The type of the matrices.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn dtype(&self) -> burn::tensor::DType {
        self.fc1.dtype()
    }

    /// `[B, T, D] → [B, T, D]`, f32.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        x.clone() + self.residual(x)
    }

    /// The residual that the resblock adds to its input `x`: `[B, T, D] → [B, T, D]`, f32.
    pub fn residual(&self, x: Tensor<3>) -> Tensor<3> {
        self.fc2.forward(gelu(self.fc1.forward(self.norm.forward(x)))).cast(DType::F32)
    }
}
