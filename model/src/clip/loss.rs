//! CLIP's loss: to select each caption's image from the batch, and each image's caption.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// The loss of a batch of B pairs.
pub struct ClipLoss {
    /// Symmetric cross-entropy in nats, `[1]`: the mean over selecting images by captions and captions by images. ln B at chance.
    pub loss: Tensor<1>,
    /// Mean accuracy of both selections, `[1]`. 1/B at chance.
    pub retrieval: Tensor<1>,
}

impl ClipLoss {
    /// The loss of scaled cosine similarities, captions (rows) by images (columns), `[B, B]`.
    pub fn new(logits: Tensor<2>) -> Self {
        let by_caption = Choice::of_diagonal(logits.clone());
        let by_image = Choice::of_diagonal(logits.transpose());
        Self {
            loss: (by_caption.loss + by_image.loss).mul_scalar(0.5),
            retrieval: (by_caption.accuracy + by_image.accuracy).mul_scalar(0.5),
        }
    }
}

/// Cross-entropy and accuracy, `[1]` each.
struct Choice {
    loss: Tensor<1>,
    accuracy: Tensor<1>,
}

impl Choice {
    /// Row i should select column i; logits `[B, B]`.
    fn of_diagonal(logits: Tensor<2>) -> Self {
        let [b, _] = logits.dims();
        let own: Tensor<2, Int> = Tensor::<1, Int>::arange(0..b as i64, &logits.device()).reshape([b, 1]);
        let right = logits.clone().detach().argmax(1).equal(own.clone());
        let ln_p = log_softmax(logits, 1).gather(1, own);
        Self { loss: ln_p.mean().neg(), accuracy: right.float().mean() }
    }
}
