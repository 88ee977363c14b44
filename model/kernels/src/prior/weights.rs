//! The matrices, packed once for each update.

use rayon::prelude::*;

use super::network::PriorNetwork;
use crate::transformer::weights::{BlockWeights, PackedLayer, packed_values};

pub(super) struct PriorWeights {
    pub blocks: Vec<BlockWeights>,
    pub text_logits: PackedLayer,
    pub image_logits: PackedLayer,
}

impl PriorWeights {
    /// Weights of zeros.
    pub fn zeros(network: &PriorNetwork) -> Self {
        Self {
            blocks: network.blocks.iter().map(BlockWeights::zeros).collect(),
            text_logits: PackedLayer::zeros(&network.text_logits),
            image_logits: PackedLayer::zeros(&network.image_logits),
        }
    }

    /// Values of the matrices.
    pub fn values(network: &PriorNetwork) -> usize {
        let layers = network.blocks.iter().flat_map(|block| block.layers());
        packed_values(layers.chain([&network.text_logits, &network.image_logits]))
    }

    /// Packs the values of parameters; the matrices of the backward pass only if it follows.
    pub fn set(&mut self, parameters: &[f32], backward: bool) {
        let blocks = self.blocks.iter_mut();
        let mut layers: Vec<&mut PackedLayer> = blocks.flat_map(BlockWeights::layers_mut).collect();
        layers.extend([&mut self.text_logits, &mut self.image_logits]);
        layers.into_par_iter().for_each(|layer| layer.set(parameters, backward));
    }
}
