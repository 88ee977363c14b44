//! CLIP's towers on the CPU: features and gradients by `dalle-kernels`, several times faster than by Burn.

use dalle_kernels::clip::{ClipPair as KernelPair, ClipUpdate};
use dalle_model::Device;
use dalle_model::burn::tensor::{Tensor, TensorData};
use dalle_model::clip::{Clip, ClipConfig, kernel_sizes};
use dalle_model::config::ModelConfig;

use crate::clip_data::ClipPair;
use crate::flat;
use crate::gradients::Gradients;

/// The kernels of a CLIP, and its parameters in the kernels' layout.
pub(crate) struct ClipKernels {
    update: ClipUpdate,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
}

impl ClipKernels {
    /// The kernels of a CLIP, or None if they do not support its sizes.
    pub(crate) fn new(clip: &ClipConfig, model: &ModelConfig) -> Option<Self> {
        let sizes = kernel_sizes(clip, model);
        ClipUpdate::supports(&sizes).then(|| {
            let update = ClipUpdate::new(sizes);
            let gradients = vec![0.0; update.network().length()];
            Self { update, parameters: Vec::new(), gradients }
        })
    }

    /// Features of captions and images, `[B, E]` each, not normalised. With `keep`, [`ClipKernels::gradients`] can follow.
    pub(crate) fn features(&mut self, clip: &Clip, pairs: &[ClipPair], keep: bool) -> [Tensor<2>; 2] {
        flat::read(clip, &mut self.parameters);
        let parameters = &self.parameters;
        let features = with_ids(pairs, |pairs| self.update.features(parameters, pairs, keep));
        features.map(|values| {
            let shape = [pairs.len(), values.len() / pairs.len()];
            Tensor::from_data(TensorData::new(values, shape), &Device::flex())
        })
    }

    /// The gradients of the parameters for the pairs whose features were kept last, from those of their features, `[B, E]` each. That of
    /// the scale is 0.
    pub(crate) fn gradients(&mut self, pairs: &[ClipPair], by_feature: [Tensor<2>; 2]) -> Gradients {
        let [texts, images] = by_feature.map(|tensor| tensor.into_data().iter::<f32>().collect::<Vec<f32>>());
        let gradients = &mut self.gradients;
        with_ids(pairs, |pairs| self.update.backward(pairs, [&texts, &images], gradients));
        flat::gradients(&self.update.network().parameters, gradients)
    }
}

/// Calls `run` with the pairs' ids as integers.
fn with_ids<R>(pairs: &[ClipPair], run: impl FnOnce(&[KernelPair<'_>]) -> R) -> R {
    let ids: Vec<Vec<u32>> =
        pairs.iter().map(|pair| pair.caption.ids.iter().map(|id| id.0).collect()).collect();
    let pairs: Vec<KernelPair<'_>> =
        pairs.iter().zip(&ids).map(|(pair, ids)| KernelPair { ids, image: pair.image.as_raw() }).collect();
    run(&pairs)
}
