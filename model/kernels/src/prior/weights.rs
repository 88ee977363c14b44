//! The matrices, packed once for each update.

use rayon::prelude::*;

use super::network::{Linear, Network};
use crate::grid::UNIT;
use crate::matrix::Packed;

/// A matrix for the way forward and, turned, for the way back; its bias padded to whole units.
pub(super) struct Layer {
    pub linear: Linear,
    pub forward: Packed,
    pub backward: Packed,
    pub bias: Vec<f32>,
}

impl Layer {
    fn zeros(linear: &Linear) -> Self {
        let (n_in, n_out) = (linear.n_in, linear.n_out);
        Self {
            linear: *linear,
            forward: Packed::zeros(n_in, n_out),
            backward: Packed::zeros(n_out, n_in),
            bias: vec![0.0; n_out.next_multiple_of(UNIT)],
        }
    }

    fn set(&mut self, parameters: &[f32]) {
        let Linear { n_in, n_out, w, b } = self.linear;
        let w = &parameters[w..][..n_in * n_out];
        self.forward.set(w);
        self.backward.set_transposed(w);
        self.bias[..n_out].copy_from_slice(&parameters[b..][..n_out]);
    }
}

pub(super) struct BlockWeights {
    pub qkv: Layer,
    pub projection: Layer,
    pub fc1: Layer,
    pub fc2: Layer,
}

pub(super) struct Weights {
    pub blocks: Vec<BlockWeights>,
    pub text_logits: Layer,
    pub image_logits: Layer,
}

impl Weights {
    /// Weights of zeros.
    pub fn zeros(network: &Network) -> Self {
        let blocks = network.blocks.iter().map(|block| BlockWeights {
            qkv: Layer::zeros(&block.qkv),
            projection: Layer::zeros(&block.projection),
            fc1: Layer::zeros(&block.fc1),
            fc2: Layer::zeros(&block.fc2),
        });
        Self {
            blocks: blocks.collect(),
            text_logits: Layer::zeros(&network.text_logits),
            image_logits: Layer::zeros(&network.image_logits),
        }
    }

    /// Takes over the values of parameters.
    pub fn set(&mut self, parameters: &[f32]) {
        let blocks = self.blocks.iter_mut();
        let mut layers: Vec<&mut Layer> = blocks
            .flat_map(|block| [&mut block.qkv, &mut block.projection, &mut block.fc1, &mut block.fc2])
            .collect();
        layers.extend([&mut self.text_logits, &mut self.image_logits]);
        layers.into_par_iter().for_each(|layer| layer.set(parameters));
    }
}
