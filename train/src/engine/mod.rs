//! Gradients of the prior, resblock by resblock (sections 2.4 and 2.5, appendix D of the paper).
//!
//! The forward pass has no tape and keeps the input of each resblock alone. The backward pass computes one resblock again, with a
//! tape, from the last to the first, and hands over the gradients of its parameters. So only the tape and the weights of one resblock
//! are needed at a time, and each has a gradient scale of its own ([`GradientScales`]):
//!
//! ```text
//! dy ──┬──────────────── f32 ────────────────▶ + ──▶ dx      of y = x + f(x)
//!      └─ · scale ─▶ backward of f ─▶ filter ─▶ ÷ scale ─┘
//! ```
//!
//! "Filter" sets gradients of the input that are not finite to 0, so that an overflow in one resblock is not seen by those before it.
//!
//! Where weights come from is a trait, [`Resblocks`]: from memory ([`InMemory`]), or gathered from other ranks.

mod resblocks;
mod scales;

use anyhow::Result;
use dalle_model::burn::tensor::{Bool, DType, Tensor};
use dalle_model::prior::{Logits, Masks, Prior};
use dalle_shared::{ImageToken, TextToken};

use crate::gradients::Gradients;
use crate::optimizer::tracked;
pub use resblocks::{InMemory, Resblock, Resblocks};
pub use scales::GradientScales;

/// The gradients of one resblock's parameters, multiplied by its scale.
pub struct ResblockGradients {
    /// Which resblock, counted from the prior's first.
    pub index: usize,
    /// Gradients by their paths in the prior, in the type of the parameter.
    pub gradients: Gradients,
    /// What they were multiplied by. May make them infinite or NaN.
    pub scale: f32,
}

impl ResblockGradients {
    /// The gradients in f32, divided by their scale.
    #[must_use]
    pub fn unscaled(self) -> Gradients {
        let scale = self.scale;
        self.gradients.map(|_, gradient| gradient.cast(DType::F32).div_scalar(scale))
    }

    /// Whether all gradients are finite.
    pub fn finite(&self) -> bool {
        let bad = self.gradients.iter().map(|(_, gradient)| gradient.clone().is_finite().bool_not().any());
        bad.reduce(Tensor::bool_or).is_none_or(|bad| !bad.into_scalar::<bool>())
    }
}

/// What a pass over all resblocks computes beside the gradients that it hands over.
pub struct Pass<T> {
    /// What the loss function returned with the loss.
    pub result: T,
    /// Gradients of the prior's other parameters by path: embeddings, the last norm and the unembeddings.
    pub outer: Gradients,
}

/// The gradients of a loss of the prior on captions and images.
///
/// `prior` has autodiff and holds the parameters outside of resblocks; those of its layers are not used. `loss` returns a loss, `[1]`,
/// and anything else. The gradients of each resblock go to `take`, the last resblock's first, as soon as they are known.
///
/// # Errors
/// A caption or image is not one of the prior's, or `resblocks` or `take` fails.
///
/// # Panics
/// If there is not one scale for each resblock.
pub fn gradients<T>(
    prior: &Prior,
    resblocks: &mut dyn Resblocks,
    masks: &Masks,
    (captions, images): (&[&[TextToken]], &[&[ImageToken]]),
    scales: &[f32],
    loss: impl FnOnce(Logits) -> (Tensor<1>, T),
    take: &mut dyn FnMut(ResblockGradients) -> Result<()>,
) -> Result<Pass<T>> {
    let embedded = prior.embed(captions, images)?;
    let slots = embedded.dims()[1];
    let layers = resblocks.count() / 2;
    let masks: Vec<Tensor<4, Bool>> = masks.of_layers(layers, slots).map(Tensor::without_autodiff).collect();
    let (x, inputs) = forward(resblocks, embedded.clone().inner(), &masks)?;
    let top = tracked(x, embedded.gradient_checkpointing_strategy());
    let (loss, result) = loss(prior.logits(top.clone()));
    let mut tape = loss.backward();
    drop(loss);
    let dy = top.grad_remove(&mut tape).unwrap_or_else(|| top.inner().zeros_like());
    let mut outer = Gradients::collect(tape, prior);
    let dx = backward(resblocks, inputs, &masks, scales, dy, take)?;
    outer.add(Gradients::collect((embedded * dx).backward(), prior));
    Ok(Pass { result, outer })
}

/// The output of the last resblock, `[B, T, D]`, and the inputs of all.
fn forward(
    resblocks: &mut dyn Resblocks,
    mut x: Tensor<3>,
    masks: &[Tensor<4, Bool>],
) -> Result<(Tensor<3>, Vec<Tensor<3>>)> {
    let count = resblocks.count();
    let mut inputs = Vec::with_capacity(count);
    for index in 0..count {
        let resblock = resblocks.get(index)?;
        if index + 1 < count {
            resblocks.prefetch(index + 1)?;
        }
        inputs.push(x.clone());
        x = x.clone() + resblock.residual(x, &masks[index / 2]);
    }
    Ok((x, inputs))
}

/// The gradient of the first resblock's input, from that of the last one's output, `[B, T, D]`.
fn backward(
    resblocks: &mut dyn Resblocks,
    mut inputs: Vec<Tensor<3>>,
    masks: &[Tensor<4, Bool>],
    scales: &[f32],
    mut dy: Tensor<3>,
    take: &mut dyn FnMut(ResblockGradients) -> Result<()>,
) -> Result<Tensor<3>> {
    assert_eq!(scales.len(), resblocks.count(), "one scale for each resblock");
    while let Some(x) = inputs.pop() {
        let index = inputs.len();
        let resblock = resblocks.get(index)?.tracked();
        if index > 0 {
            resblocks.prefetch(index - 1)?;
        }
        let scale = scales[index];
        let x = x.autodiff().require_grad();
        // Seeds the backward pass: the gradient of a sum of products with a constant is that constant.
        let seeded = resblock.residual(x.clone(), &masks[index / 2]) * dy.clone().mul_scalar(scale);
        let mut tape = seeded.backward();
        if let Some(dx) = x.grad_remove(&mut tape) {
            dy = dy + filter(dx).div_scalar(scale);
        }
        take(ResblockGradients { index, gradients: resblock.gradients(tape, index), scale })?;
    }
    Ok(dy)
}

/// Values that are not finite become 0.
fn filter(x: Tensor<3>) -> Tensor<3> {
    let bad = x.clone().is_finite().bool_not();
    x.mask_fill(bad, 0.0)
}

#[cfg(test)]
mod tests;
