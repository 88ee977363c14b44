//! The matrices, packed once for each update.

use rayon::prelude::*;

use super::network::{LinearOffsets, PriorNetwork};
use crate::grid::UNIT;
use crate::matrix::Packed;

/// A matrix for the forward pass and, transposed, for the backward pass; its bias padded to whole units.
pub(super) struct PackedLayer {
    pub linear: LinearOffsets,
    pub forward: Packed,
    pub backward: Packed,
    pub bias: Vec<f32>,
}

impl PackedLayer {
    fn zeros(linear: &LinearOffsets) -> Self {
        let (n_in, n_out) = (linear.n_in, linear.n_out);
        Self {
            linear: *linear,
            forward: Packed::zeros(n_in, n_out),
            backward: Packed::zeros(n_out, n_in),
            bias: vec![0.0; n_out.next_multiple_of(UNIT)],
        }
    }

    fn set(&mut self, parameters: &[f32], backward: bool) {
        let LinearOffsets { n_in, n_out, w, b } = self.linear;
        let w = &parameters[w..][..n_in * n_out];
        self.forward.set(w);
        if backward {
            self.backward.set_transposed(w);
        }
        self.bias[..n_out].copy_from_slice(&parameters[b..][..n_out]);
    }
}

pub(super) struct BlockWeights {
    pub qkv: PackedLayer,
    pub projection: PackedLayer,
    pub fc1: PackedLayer,
    pub fc2: PackedLayer,
}

pub(super) struct PriorWeights {
    pub blocks: Vec<BlockWeights>,
    pub text_logits: PackedLayer,
    pub image_logits: PackedLayer,
}

impl PriorWeights {
    /// Weights of zeros.
    pub fn zeros(network: &PriorNetwork) -> Self {
        let blocks = network.blocks.iter().map(|block| BlockWeights {
            qkv: PackedLayer::zeros(&block.qkv),
            projection: PackedLayer::zeros(&block.projection),
            fc1: PackedLayer::zeros(&block.fc1),
            fc2: PackedLayer::zeros(&block.fc2),
        });
        Self {
            blocks: blocks.collect(),
            text_logits: PackedLayer::zeros(&network.text_logits),
            image_logits: PackedLayer::zeros(&network.image_logits),
        }
    }

    /// Values of the matrices.
    pub fn values(network: &PriorNetwork) -> usize {
        let blocks = network.blocks.iter();
        let layers = blocks.flat_map(|block| [&block.qkv, &block.projection, &block.fc1, &block.fc2]);
        let layers = layers.chain([&network.text_logits, &network.image_logits]);
        let padded = |count: usize| count.next_multiple_of(UNIT);
        layers.map(|layer| layer.n_in * padded(layer.n_out) + layer.n_out * padded(layer.n_in)).sum()
    }

    /// Packs the values of parameters; the matrices of the backward pass only if it follows.
    pub fn set(&mut self, parameters: &[f32], backward: bool) {
        let blocks = self.blocks.iter_mut();
        let mut layers: Vec<&mut PackedLayer> = blocks
            .flat_map(|block| [&mut block.qkv, &mut block.projection, &mut block.fc1, &mut block.fc2])
            .collect();
        layers.extend([&mut self.text_logits, &mut self.image_logits]);
        layers.into_par_iter().for_each(|layer| layer.set(parameters, backward));
    }
}
