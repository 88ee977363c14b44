//! The loss of stage 2: the cross-entropies of text and image, each averaged over its tokens, weighted by 1/8 and 7/8
//! (section 2.2).

use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Int, Tensor, TensorData};
use dalle_shared::{ImageToken, TextToken};

use super::Logits;

/// Weight of the text's cross-entropy. The image's is the rest.
pub const TEXT_WEIGHT: f64 = 1.0 / 8.0;

/// Losses in nats per token.
pub struct PriorLoss {
    /// Mean over the captions' ids and end tokens, `[1]`.
    pub text: Tensor<1>,
    /// Mean over the image tokens, `[1]`.
    pub image: Tensor<1>,
}

impl PriorLoss {
    /// The losses of logits. Targets are the caption, its end token if there is room for it, and the image. Padding after the end is
    /// ignored, and so is the text of a pair trained without its caption (`None`).
    ///
    /// # Panics
    /// If the numbers of logits and targets differ.
    pub fn new(logits: Logits, captions: &[Option<&[TextToken]>], images: &[&[ImageToken]]) -> Self {
        let [b, slots, classes] = logits.text.dims();
        let end = (classes - 1) as i64;
        let mut targets = Vec::with_capacity(b * slots);
        for caption in captions {
            let ids = caption.iter().flat_map(|ids| ids.iter().map(|id| i64::from(id.0)).chain([end]));
            targets.extend(ids.map(Some).chain(std::iter::repeat(None)).take(slots));
        }
        let image_targets: Vec<Option<i64>> =
            images.iter().flat_map(|image| image.iter().map(|token| Some(i64::from(token.0)))).collect();
        Self {
            text: cross_entropy(logits.text, &targets),
            image: cross_entropy(logits.image, &image_targets),
        }
    }

    /// The weighted sum, `[1]`.
    pub fn total(&self) -> Tensor<1> {
        self.text.clone().mul_scalar(TEXT_WEIGHT) + self.image.clone().mul_scalar(1.0 - TEXT_WEIGHT)
    }
}

/// Mean of −ln softmax(logits)[target] over the slots that have a target, or 0 if none has. Logits are `[B, T, classes]`.
fn cross_entropy(logits: Tensor<3>, targets: &[Option<i64>]) -> Tensor<1> {
    let [b, t, classes] = logits.dims();
    let device = logits.device();
    let count = targets.iter().flatten().count();
    assert_eq!(targets.len(), b * t, "expected an entry for each slot");
    let index: Vec<i64> = targets.iter().map(|target| target.unwrap_or(0)).collect();
    let index: Tensor<2, Int> = Tensor::from_data(TensorData::new(index, [b * t, 1]), &device);
    let unscored: Vec<bool> = targets.iter().map(Option::is_none).collect();
    let unscored: Tensor<2, Bool> = Tensor::from_data(TensorData::new(unscored, [b * t, 1]), &device);
    let ln_p = log_softmax(logits.reshape([b * t, classes]), 1).gather(1, index);
    ln_p.mask_fill(unscored, 0.0).sum().div_scalar(-(count.max(1) as f64))
}
