//! Parameters, rearranged for the kernels once for each update.

use rayon::prelude::*;

use super::network::{Block, Conv, Network};
use crate::{pointwise, stem, winograd};

/// A kernel and the way back of its gradient.
pub(super) struct Layer<K> {
    pub conv: Conv,
    pub forward: K,
    pub backward: K,
    pub bias: Vec<f32>,
}

pub(super) type Pointwise = Layer<pointwise::Kernel>;
pub(super) type Winograd = Layer<winograd::Kernel>;

/// A block: in the encoder the last convolution is the 1×1 one, in the decoder the first.
pub(super) struct BlockWeights {
    pub id: Option<Pointwise>,
    pub wide: Pointwise,
    pub square: [Winograd; 3],
}

pub(super) struct Weights {
    pub stem: stem::Kernel,
    pub stem_bias: Vec<f32>,
    pub stem_conv: Conv,
    pub encoder: [Vec<BlockWeights>; 4],
    pub logits: Pointwise,
    pub codes: Pointwise,
    pub decoder: [Vec<BlockWeights>; 4],
    pub maps: Pointwise,
    /// Factor of the residual paths, contained in the kernels and biases of their last convolutions.
    pub gain: f32,
}

/// The values of a convolution's kernel and bias.
fn values<'a>(conv: &Conv, parameters: &'a [f32]) -> (&'a [f32], &'a [f32]) {
    let length = conv.n_out * conv.n_in * conv.side * conv.side;
    (&parameters[conv.w..][..length], &parameters[conv.b..][..conv.n_out])
}

fn scale(bias: &mut [f32], values: &[f32], gain: f32) {
    for (bias, value) in bias.iter_mut().zip(values) {
        *bias = value * gain;
    }
}

impl Pointwise {
    fn zeros(conv: &Conv) -> Self {
        let (n_in, n_out) = (conv.n_in, conv.n_out);
        let (forward, backward) =
            (pointwise::Kernel::zeros(n_out, n_in), pointwise::Kernel::zeros(n_in, n_out));
        Self { conv: *conv, forward, backward, bias: vec![0.0; n_out] }
    }

    fn set(&mut self, parameters: &[f32], gain: f32) {
        let (w, b) = values(&self.conv, parameters);
        self.forward.set(w, gain);
        self.backward.set_backward(w, gain);
        scale(&mut self.bias, b, gain);
    }
}

impl Winograd {
    fn zeros(conv: &Conv) -> Self {
        let (n_in, n_out) = (conv.n_in, conv.n_out);
        let (forward, backward) =
            (winograd::Kernel::zeros(n_out, n_in), winograd::Kernel::zeros(n_in, n_out));
        Self { conv: *conv, forward, backward, bias: vec![0.0; n_out] }
    }

    fn set(&mut self, parameters: &[f32], gain: f32) {
        let (w, b) = values(&self.conv, parameters);
        self.forward.set(w, gain);
        self.backward.set_backward(w, gain);
        scale(&mut self.bias, b, gain);
    }
}

impl BlockWeights {
    fn zeros(block: &Block) -> Self {
        let [a, b, c, d] = &block.res;
        let (wide, square) = if d.side == 1 { (d, [a, b, c]) } else { (a, [b, c, d]) };
        Self {
            id: block.id.as_ref().map(Pointwise::zeros),
            wide: Pointwise::zeros(wide),
            square: square.map(Winograd::zeros),
        }
    }

    /// The last convolution, which in the encoder is the 1×1 one, has the factor of the residual path.
    fn set(&mut self, encoder: bool, parameters: &[f32], gain: f32) {
        if let Some(id) = &mut self.id {
            id.set(parameters, 1.0);
        }
        let [a, b, c] = &mut self.square;
        a.set(parameters, 1.0);
        b.set(parameters, 1.0);
        let (wide, last) = if encoder { (gain, 1.0) } else { (1.0, gain) };
        c.set(parameters, last);
        self.wide.set(parameters, wide);
    }
}

impl Weights {
    /// Weights of zeros.
    pub fn zeros(network: &Network) -> Self {
        let groups = |groups: &[Vec<Block>; 4]| {
            std::array::from_fn(|group| groups[group].iter().map(BlockWeights::zeros).collect())
        };
        Self {
            stem: stem::Kernel::zeros(network.stem.n_out, network.stem.n_in),
            stem_bias: vec![0.0; network.stem.n_out],
            stem_conv: network.stem,
            encoder: groups(&network.encoder),
            logits: Pointwise::zeros(&network.logits),
            codes: Pointwise::zeros(&network.codes),
            decoder: groups(&network.decoder),
            maps: Pointwise::zeros(&network.maps),
            gain: network.post_gain(),
        }
    }

    /// Takes over the values of parameters.
    pub fn set(&mut self, parameters: &[f32]) {
        let (w, b) = values(&self.stem_conv, parameters);
        self.stem.set(w);
        self.stem_bias.copy_from_slice(b);
        for layer in [&mut self.logits, &mut self.codes, &mut self.maps] {
            layer.set(parameters, 1.0);
        }
        let gain = self.gain;
        let encoder = self.encoder.iter_mut().flatten().map(|block| (true, block));
        let decoder = self.decoder.iter_mut().flatten().map(|block| (false, block));
        let blocks: Vec<_> = encoder.chain(decoder).collect();
        blocks.into_par_iter().for_each(|(encoder, block)| block.set(encoder, parameters, gain));
    }
}
