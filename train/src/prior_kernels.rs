//! Stage 2 on the CPU: losses and gradients by `dalle-kernels`, several times faster than by Burn or LibTorch.

use dalle_kernels::prior::{Pair, PriorLosses, PriorUpdate, ScoredTokens};
use dalle_model::config::ModelConfig;
use dalle_model::prior::{Prior, kernel_sizes};
use dalle_shared::ImageToken;

use crate::flat;
use crate::gradients::Gradients;
use crate::prior_data::PriorPair;

/// The kernels of a prior, and its parameters in the kernels' layout.
pub(crate) struct PriorKernels {
    update: PriorUpdate,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
}

impl PriorKernels {
    /// The kernels of a model's prior, or None if they do not support its sizes.
    pub(crate) fn new(config: &ModelConfig) -> Option<Self> {
        let sizes = kernel_sizes(config);
        PriorUpdate::supports(&sizes).then(|| {
            let update = PriorUpdate::new(sizes);
            let gradients = vec![0.0; update.network().length()];
            Self { update, parameters: Vec::new(), gradients }
        })
    }

    /// What pairs, in which captions may be missing, contribute to the losses of a batch with `whole` scored tokens and to the gradients
    /// of their weighted sum.
    pub(crate) fn gradients<'a>(
        &mut self,
        prior: &Prior,
        pairs: impl Iterator<Item = &'a PriorPair>,
        whole: ScoredTokens,
    ) -> (PriorLosses, Gradients) {
        flat::read(prior, &mut self.parameters);
        let (parameters, gradients) = (&self.parameters, &mut self.gradients);
        let losses = with_ids(pairs, |pairs| self.update.run_share(parameters, pairs, whole, gradients));
        (losses, flat::gradients(&self.update.network().parameters, gradients))
    }

    /// The losses of a batch of pairs.
    pub(crate) fn evaluate<'a>(
        &mut self,
        prior: &Prior,
        pairs: impl Iterator<Item = &'a PriorPair>,
    ) -> PriorLosses {
        flat::read(prior, &mut self.parameters);
        with_ids(pairs, |pairs| self.update.evaluate(&self.parameters, pairs))
    }
}

/// Calls `run` with the pairs' tokens as integers.
fn with_ids<'a, R>(pairs: impl Iterator<Item = &'a PriorPair>, run: impl FnOnce(&[Pair<'_>]) -> R) -> R {
    let integers =
        |tokens: &[ImageToken]| tokens.iter().map(|token| u32::from(token.0)).collect::<Vec<u32>>();
    let pairs: Vec<&PriorPair> = pairs.collect();
    let captions: Vec<Option<Vec<u32>>> = pairs
        .iter()
        .map(|pair| pair.caption.as_ref().map(|ids| ids.iter().map(|id| id.0).collect()))
        .collect();
    let images: Vec<[Vec<u32>; 2]> =
        pairs.iter().map(|pair| [integers(&pair.image), integers(pair.seen())]).collect();
    let pairs: Vec<Pair<'_>> = captions
        .iter()
        .zip(&images)
        .map(|(caption, [image, seen])| Pair {
            input: caption.as_deref().unwrap_or_default(),
            scored: caption.is_some(),
            image,
            seen,
        })
        .collect();
    run(&pairs)
}
