//! Convolutions with their parameters rearranged for the kernels.

use super::network::{Conv, DvaeBlock};
use crate::conv_kernel::ConvKernel;
use crate::{pointwise, winograd};

/// What a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Forward alone.
    Inference,
    /// Forward and backward.
    #[cfg(not(target_arch = "wasm32"))]
    Training,
}

/// A convolution.
#[derive(Debug)]
pub(super) struct ConvLayer<K> {
    pub conv: Conv,
    pub kernel: K,
    pub bias: Vec<f32>,
    backward: Option<K>,
}

pub(super) type PointwiseLayer = ConvLayer<pointwise::PointwiseKernel>;
pub(super) type WinogradLayer = ConvLayer<winograd::WinogradKernel>;

impl<K: ConvKernel> ConvLayer<K> {
    pub fn zeros(conv: &Conv, purpose: Use) -> Self {
        let (n_in, n_out) = (conv.n_in, conv.n_out);
        Self {
            conv: *conv,
            kernel: K::zeros(n_out, n_in),
            bias: vec![0.0; n_out],
            backward: (purpose != Use::Inference).then(|| K::zeros(n_in, n_out)),
        }
    }

    /// Sets the values of the parameters, times `gain`.
    pub fn set(&mut self, parameters: &[f32], gain: f32) {
        let (w, b) = self.conv.values(parameters);
        self.kernel.set(w, gain);
        if let Some(backward) = &mut self.backward {
            backward.set_backward(w, gain);
        }
        for (bias, value) in self.bias.iter_mut().zip(b) {
            *bias = value * gain;
        }
    }

    /// The kernel that takes gradients back.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn backward(&self) -> &K {
        self.backward.as_ref().expect("only layers for training are trained")
    }
}

/// A residual block: in the encoder the last convolution is the 1×1 one, in the decoder the first.
#[derive(Debug)]
pub(super) struct BlockLayers {
    pub id: Option<PointwiseLayer>,
    pub wide: PointwiseLayer,
    pub square: [WinogradLayer; 3],
    wide_is_last: bool,
}

impl BlockLayers {
    pub fn zeros(block: &DvaeBlock, purpose: Use) -> Self {
        let [a, b, c, d] = &block.res;
        let wide_is_last = d.side == 1;
        let (wide, square) = if wide_is_last { (d, [a, b, c]) } else { (a, [b, c, d]) };
        Self {
            id: block.id.as_ref().map(|id| ConvLayer::zeros(id, purpose)),
            wide: ConvLayer::zeros(wide, purpose),
            square: square.map(|conv| ConvLayer::zeros(conv, purpose)),
            wide_is_last,
        }
    }

    /// The layers that decode or encode, with the values of `parameters`.
    pub fn for_inference(block: &DvaeBlock, parameters: &[f32], gain: f32) -> Self {
        let mut layers = Self::zeros(block, Use::Inference);
        layers.set(parameters, gain);
        layers
    }

    /// Takes over the values of parameters. The last convolution contains the factor `gain` of the residual path.
    pub fn set(&mut self, parameters: &[f32], gain: f32) {
        if let Some(id) = &mut self.id {
            id.set(parameters, 1.0);
        }
        let [a, b, c] = &mut self.square;
        a.set(parameters, 1.0);
        b.set(parameters, 1.0);
        let (wide, last) = if self.wide_is_last { (gain, 1.0) } else { (1.0, gain) };
        c.set(parameters, last);
        self.wide.set(parameters, wide);
    }
}
