//! One resblock pair of the prior: attention, then an MLP of four times the width (section 2.2).
//!
//! The residual stream (the identity path) is f32. What a resblock computes beside it has the type of its matrices: f32, or 16
//! bits (section 2.4).
//!
//! Shapes: B batch, T slots, H heads, K width of a head, D = H·K.

use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::module::linear;
use burn::tensor::{Bool, DType, Device, Tensor};

use crate::config::PriorConfig;

/// y = x·W + b.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Linear {
    /// Weights N(0, std), bias 0.
    pub fn new(n_in: usize, n_out: usize, std: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Normal { mean: 0.0, std }.init([n_in, n_out], device),
            bias: Initializer::Zeros.init([n_out], device),
        }
    }

    /// `[.., in] → [.., out]`, in the type of the weights.
    pub fn forward<const N: usize>(&self, x: Tensor<N>) -> Tensor<N> {
        let weight = self.weight.val();
        let dtype = weight.dtype();
        linear(x.cast(dtype), weight, Some(self.bias.val().cast(dtype)))
    }
}

/// Standard deviation of the prior's weights (as GPT-2's; the paper leaves it open).
pub const INIT_STD: f64 = 0.02;

/// Standard deviations that a block's weights start with.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// Of queries, keys and values.
    pub qkv: f64,
    /// Of the MLP's first layer.
    pub fc1: f64,
    /// Of the two layers that write to the residual stream.
    pub residual: f64,
}

/// Attention resblock and MLP resblock, each behind its own LayerNorm.
#[derive(Module, Debug)]
pub struct Block {
    norm_attention: LayerNorm,
    qkv: Linear,
    projection: Linear,
    norm_mlp: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
}

/// Queries, keys and values of some slots, `[B, H, T, K]` each.
#[derive(Clone, Debug)]
pub struct Qkv {
    /// Queries, already divided by √K.
    pub q: Tensor<4>,
    /// Keys.
    pub k: Tensor<4>,
    /// Values.
    pub v: Tensor<4>,
}

impl Block {
    /// A block with random weights. The layers that write to the residual stream start smaller by √(2·layers), so that the
    /// stream's variance does not grow with depth.
    pub fn new(config: &PriorConfig, device: &Device) -> Self {
        let residual = INIT_STD / ((2 * config.layers) as f64).sqrt();
        let spread = Spread { qkv: INIT_STD, fc1: INIT_STD, residual };
        Self::with_spread(config.d_model(), config.heads, spread, device)
    }

    /// A block of width `d` whose random weights have given deviations.
    ///
    /// # Panics
    /// If `heads` does not divide `d`.
    pub fn with_spread(d: usize, heads: usize, spread: Spread, device: &Device) -> Self {
        assert!(d.is_multiple_of(heads), "{heads} heads do not divide a width of {d}");
        Self {
            norm_attention: LayerNormConfig::new(d).init(device),
            qkv: Linear::new(d, 3 * d, spread.qkv, device),
            projection: Linear::new(d, d, spread.residual, device),
            norm_mlp: LayerNormConfig::new(d).init(device),
            fc1: Linear::new(d, 4 * d, spread.fc1, device),
            fc2: Linear::new(4 * d, d, spread.residual, device),
            heads,
        }
    }

    /// What the block's attention is computed from, `[B, T, D] → 3 × [B, H, T, K]`.
    pub fn qkv(&self, x: Tensor<3>) -> Qkv {
        let [b, t, d] = x.dims();
        let heads = self.heads;
        let qkv = self.qkv.forward(self.norm_attention.forward(x));
        let mut parts =
            qkv.chunk(3, 2).into_iter().map(|part| part.reshape([b, t, heads, d / heads]).swap_dims(1, 2));
        let mut next = || parts.next().expect("three chunks of three");
        let scale = 1.0 / ((d / heads) as f64).sqrt();
        Qkv { q: next().mul_scalar(scale), k: next(), v: next() }
    }

    /// The rest of the block: its attention `[B, H, T, K]`, projected and added to its input `x` `[B, T, D]`, then the MLP,
    /// added.
    pub fn finish(&self, x: Tensor<3>, attention: Tensor<4>) -> Tensor<3> {
        let x_dims = x.dims();
        let attention = self.projection.forward(attention.swap_dims(1, 2).reshape(x_dims));
        let x = x + attention.cast(DType::F32);
        let mlp = self.fc2.forward(gelu(self.fc1.forward(self.norm_mlp.forward(x.clone()))));
        x + mlp.cast(DType::F32)
    }

    /// The whole block over a stream that sees only itself, `[B, T, D] → [B, T, D]`.
    pub fn forward(&self, x: Tensor<3>, hidden: Tensor<4, Bool>) -> Tensor<3> {
        let attention = self.qkv(x.clone()).attend(hidden);
        self.finish(x, attention)
    }
}

impl Qkv {
    /// Attention of every query to every key that is not `hidden` from it; `hidden` broadcasts to `[B, H, T, T]`.
    pub fn attend(self, hidden: Tensor<4, Bool>) -> Tensor<4> {
        let scores = self.q.matmul(self.k.swap_dims(2, 3));
        let hidden = hidden.expand(scores.dims());
        softmax_f32(scores.mask_fill(hidden, f32::NEG_INFINITY)).matmul(self.v)
    }
}

/// Softmax over the keys, computed in f32 whatever the type of the scores.
pub fn softmax_f32(scores: Tensor<4>) -> Tensor<4> {
    let dtype = scores.dtype();
    softmax(scores.cast(DType::F32), 3).cast(dtype)
}
