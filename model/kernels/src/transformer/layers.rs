//! Where the parameters of a transformer's layers are.

use crate::parameters::Builder;

/// y = x·W + b: its sizes, and where W, `[n_in, n_out]`, and b begin among all parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearOffsets {
    pub n_in: usize,
    pub n_out: usize,
    pub w: usize,
    pub b: usize,
}

/// Where gain and bias of a LayerNorm begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormOffsets {
    pub gamma: usize,
    pub beta: usize,
}

/// A resblock pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockOffsets {
    pub norm_attention: NormOffsets,
    pub qkv: LinearOffsets,
    pub projection: LinearOffsets,
    pub norm_mlp: NormOffsets,
    pub fc1: LinearOffsets,
    pub fc2: LinearOffsets,
}

/// Adds a matrix and its bias.
pub(crate) fn linear(builder: &mut Builder, name: &str, n_in: usize, n_out: usize) -> LinearOffsets {
    let w = builder.add(format!("{name}.weight"), vec![n_in, n_out]);
    let b = builder.add(format!("{name}.bias"), vec![n_out]);
    LinearOffsets { n_in, n_out, w, b }
}

/// Adds a LayerNorm of width `d`.
pub(crate) fn norm(builder: &mut Builder, name: &str, d: usize) -> NormOffsets {
    let gamma = builder.add(format!("{name}.gamma"), vec![d]);
    NormOffsets { gamma, beta: builder.add(format!("{name}.beta"), vec![d]) }
}

/// Adds a resblock pair of width `d`.
pub(crate) fn block(b: &mut Builder, name: &str, d: usize) -> BlockOffsets {
    let name = |part: &str| format!("{name}.{part}");
    BlockOffsets {
        norm_attention: norm(b, &name("norm_attention"), d),
        qkv: linear(b, &name("qkv"), d, 3 * d),
        projection: linear(b, &name("projection"), d, d),
        norm_mlp: norm(b, &name("norm_mlp"), d),
        fc1: linear(b, &name("fc1"), d, 4 * d),
        fc2: linear(b, &name("fc2"), 4 * d, d),
    }
}
