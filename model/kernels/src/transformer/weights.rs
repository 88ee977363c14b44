//! The matrices, packed once for each update.

use super::layers::{BlockOffsets, LinearOffsets};
use crate::grid::UNIT;
use crate::matrix::Packed;

/// A matrix for the forward pass and, transposed, for the backward pass; its bias padded to whole units.
pub(crate) struct PackedLayer {
    pub linear: LinearOffsets,
    pub forward: Packed,
    pub backward: Packed,
    pub bias: Vec<f32>,
}

impl PackedLayer {
    /// Weights of zeros.
    pub fn zeros(linear: &LinearOffsets) -> Self {
        let (n_in, n_out) = (linear.n_in, linear.n_out);
        Self {
            linear: *linear,
            forward: Packed::zeros(n_in, n_out),
            backward: Packed::zeros(n_out, n_in),
            bias: vec![0.0; n_out.next_multiple_of(UNIT)],
        }
    }

    /// Packs the values of parameters; the matrix of the backward pass only if it follows.
    pub fn set(&mut self, parameters: &[f32], backward: bool) {
        let LinearOffsets { n_in, n_out, w, b } = self.linear;
        let w = &parameters[w..][..n_in * n_out];
        self.forward.set(w);
        if backward {
            self.backward.set_transposed(w);
        }
        self.bias[..n_out].copy_from_slice(&parameters[b..][..n_out]);
    }
}

/// The matrices of a resblock pair.
pub(crate) struct BlockWeights {
    pub qkv: PackedLayer,
    pub projection: PackedLayer,
    pub fc1: PackedLayer,
    pub fc2: PackedLayer,
}

impl BlockWeights {
    /// Weights of zeros.
    pub fn zeros(block: &BlockOffsets) -> Self {
        Self {
            qkv: PackedLayer::zeros(&block.qkv),
            projection: PackedLayer::zeros(&block.projection),
            fc1: PackedLayer::zeros(&block.fc1),
            fc2: PackedLayer::zeros(&block.fc2),
        }
    }

    /// The four layers.
    pub fn layers_mut(&mut self) -> [&mut PackedLayer; 4] {
        [&mut self.qkv, &mut self.projection, &mut self.fc1, &mut self.fc2]
    }
}

/// Values of the packed matrices of layers.
pub(crate) fn packed_values<'a>(layers: impl Iterator<Item = &'a LinearOffsets>) -> usize {
    let padded = |count: usize| count.next_multiple_of(UNIT);
    layers.map(|layer| layer.n_in * padded(layer.n_out) + layer.n_out * padded(layer.n_in)).sum()
}

impl BlockOffsets {
    /// The four layers.
    pub fn layers(&self) -> [&LinearOffsets; 4] {
        [&self.qkv, &self.projection, &self.fc1, &self.fc2]
    }
}
