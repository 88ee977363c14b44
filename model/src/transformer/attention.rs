//! The attention resblock: `x + project(attend(qkv(norm(x))))`.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, DType, Device, Tensor};

use super::{InitStd, Linear};

/// The resblock of a layer that lets slots attend to each other.
#[derive(Module, Debug)]
pub struct AttentionBlock {
    norm: LayerNorm,
    qkv: Linear,
    projection: Linear,
    heads: usize,
}

/// Queries, keys and values of slots.
#[derive(Clone, Debug)]
pub struct Qkv {
    /// Queries divided by √K, `[B, H, T, K]`.
    pub q: Tensor<4>,
    /// Keys and values.
    pub kv: KeyValue,
}

/// Keys and values of slots, `[B, H, T, K]` each.
#[derive(Clone, Debug)]
pub struct KeyValue {
    /// Keys.
    pub k: Tensor<4>,
    /// Values.
    pub v: Tensor<4>,
}

impl AttentionBlock {
    /// A resblock of width `d` with random weights.
    pub(super) fn new(d: usize, heads: usize, std: InitStd, device: &Device) -> Self {
        Self {
            norm: LayerNormConfig::new(d).init(device),
            qkv: Linear::new(d, 3 * d, std.qkv, device),
            projection: Linear::new(d, d, std.residual, device),
            heads,
        }
    }

    /// `[B, T, D] → [B, T, D]`, f32. The mask broadcasts to `[B, H, T, T]` and is true where a query (row) must not attend to a key
    /// (column).
    pub fn forward(&self, x: Tensor<3>, mask: Tensor<4, Bool>) -> Tensor<3> {
        x.clone() + self.residual(x, mask)
    }

    /// The residual that the resblock adds to its input `x`: `[B, T, D] → [B, T, D]`, f32. The mask is as in
    /// [`forward`](Self::forward).
    pub fn residual(&self, x: Tensor<3>, mask: Tensor<4, Bool>) -> Tensor<3> {
        let Qkv { q, kv } = self.qkv(x);
        self.project(kv.attend(q, mask))
    }

    /// Queries, keys and values of the input, `[B, T, D]`.
    pub fn qkv(&self, x: Tensor<3>) -> Qkv {
        let [b, t, d] = x.dims();
        let heads = self.heads;
        let qkv = self.qkv.forward(self.norm.forward(x));
        let mut parts =
            qkv.chunk(3, 2).into_iter().map(|part| part.reshape([b, t, heads, d / heads]).swap_dims(1, 2));
        let mut next = || parts.next().expect("the projection is split into three");
        let scale = 1.0 / ((d / heads) as f64).sqrt();
        Qkv { q: next().mul_scalar(scale), kv: KeyValue { k: next(), v: next() } }
    }

    /// Projects the heads' outputs, `[B, H, T, K]`, to the residual that the resblock adds to its input: `[B, T, D]`, f32.
    pub fn project(&self, attended: Tensor<4>) -> Tensor<3> {
        let [b, h, t, k] = attended.dims();
        self.projection.forward(attended.swap_dims(1, 2).reshape([b, t, h * k])).cast(DType::F32)
    }

    /// The attention weights of slot `slot` over all slots: `[B, T, D] → [B, H, T]`, f32. They sum to 1 over the last axis. The mask,
    /// `[1, 1, T, T]`, is as in [`forward`](Self::forward).
    pub fn weights(&self, x: Tensor<3>, mask: Tensor<4, Bool>, slot: usize) -> Tensor<3> {
        let Qkv { q, kv } = self.qkv(x);
        weights(q.narrow(2, slot, 1), kv.k, mask.narrow(2, slot, 1)).squeeze_dim::<3>(2).cast(DType::F32)
    }
}

impl Qkv {
    /// `count` rows of the batch, starting at `start`.
    pub fn rows(self, start: usize, count: usize) -> Self {
        let rows = |tensor: Tensor<4>| tensor.narrow(0, start, count);
        Self { q: rows(self.q), kv: KeyValue { k: rows(self.kv.k), v: rows(self.kv.v) } }
    }
}

impl KeyValue {
    /// Attention of the queries `q`, `[B, H, Q, K]`, over these keys and values: `[B, H, Q, K]`. The mask broadcasts to
    /// `[B, H, Q, T]` and is true where a query must not attend to a key.
    pub fn attend(self, q: Tensor<4>, mask: Tensor<4, Bool>) -> Tensor<4> {
        weights(q, self.k, mask).matmul(self.v)
    }
}

/// The attention weights of queries `[B, H, Q, K]` over keys `[B, H, T, K]`: `[B, H, Q, T]`.
fn weights(q: Tensor<4>, k: Tensor<4>, mask: Tensor<4, Bool>) -> Tensor<4> {
    let scores = q.matmul(k.swap_dims(2, 3));
    let mask = mask.expand(scores.dims());
    softmax_f32(scores.mask_fill(mask, f32::NEG_INFINITY))
}

/// Softmax over the keys (the last axis), computed in f32 for scores of any type.
pub(crate) fn softmax_f32(scores: Tensor<4>) -> Tensor<4> {
    let dtype = scores.dtype();
    softmax(scores.cast(DType::F32), 3).cast(dtype)
}
