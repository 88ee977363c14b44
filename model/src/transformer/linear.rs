//! A linear layer, y = x·W + b.

use burn::module::{Initializer, Module, Param};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

/// A matrix and a bias.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`.
    weight: Param<Tensor<2>>,
    /// `[out]`.
    bias: Param<Tensor<1>>,
}

impl Linear {
    /// A layer with weights N(0, std²) and bias 0.
    pub fn new(n_in: usize, n_out: usize, std: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Normal { mean: 0.0, std }.init([n_in, n_out], device),
            bias: Initializer::Zeros.init([n_out], device),
        }
    }

    /// The type of the weights.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn dtype(&self) -> burn::tensor::DType {
        self.weight.val().dtype()
    }

    /// `[.., in] → [.., out]`, computed in the type of the weights.
    pub fn forward<const N: usize>(&self, x: Tensor<N>) -> Tensor<N> {
        let weight = self.weight.val();
        let dtype = weight.dtype();
        linear(x.cast(dtype), weight, Some(self.bias.val().cast(dtype)))
    }
}
