//! All layers, filled from the parameters once for each update.

use rayon::prelude::*;

use super::layers::{BlockLayers, ConvLayer, PointwiseLayer, Use};
use super::network::{Conv, DvaeBlock, DvaeNetwork};
use crate::stem;

pub(super) struct DvaeWeights {
    pub stem: stem::StemKernel,
    pub stem_bias: Vec<f32>,
    pub stem_conv: Conv,
    pub encoder: [Vec<BlockLayers>; 4],
    pub logits: PointwiseLayer,
    pub codes: PointwiseLayer,
    pub decoder: [Vec<BlockLayers>; 4],
    pub maps: PointwiseLayer,
    /// Factor of the residual paths.
    gain: f32,
}

impl DvaeWeights {
    /// Weights of zeros.
    pub fn zeros(network: &DvaeNetwork) -> Self {
        let layer = |conv: &Conv| ConvLayer::zeros(conv, Use::Training);
        let groups = |groups: &[Vec<DvaeBlock>; 4]| {
            let layers = |block: &DvaeBlock| BlockLayers::zeros(block, Use::Training);
            std::array::from_fn(|group| groups[group].iter().map(layers).collect())
        };
        Self {
            stem: stem::StemKernel::zeros(network.stem.n_out, network.stem.n_in),
            stem_bias: vec![0.0; network.stem.n_out],
            stem_conv: network.stem,
            encoder: groups(&network.encoder),
            logits: layer(&network.logits),
            codes: layer(&network.codes),
            decoder: groups(&network.decoder),
            maps: layer(&network.maps),
            gain: network.post_gain(),
        }
    }

    /// Sets the values of the parameters.
    pub fn set(&mut self, parameters: &[f32]) {
        let (w, b) = self.stem_conv.values(parameters);
        self.stem.set(w);
        self.stem_bias.copy_from_slice(b);
        for layer in [&mut self.logits, &mut self.codes, &mut self.maps] {
            layer.set(parameters, 1.0);
        }
        let gain = self.gain;
        let blocks: Vec<&mut BlockLayers> =
            self.encoder.iter_mut().chain(&mut self.decoder).flatten().collect();
        blocks.into_par_iter().for_each(|block| block.set(parameters, gain));
    }
}
