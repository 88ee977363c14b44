//! What the contrastive model minimises: how badly each caption picks its picture out of the batch, and each picture its caption.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// How a batch of B pairs is told apart.
pub struct ClipLoss {
    /// Symmetric cross-entropy in nats, `[1]`: the mean of choosing pictures by captions and captions by pictures. By chance ln B.
    pub loss: Tensor<1>,
    /// Share of right choices of both kinds, `[1]`. By chance 1 in B.
    pub retrieval: Tensor<1>,
}

impl ClipLoss {
    /// From the scaled cosines `[caption, picture]`, `[B, B]`.
    pub fn new(logits: Tensor<2>) -> Self {
        let (loss_by_caption, right_by_caption) = choose_own(logits.clone());
        let (loss_by_picture, right_by_picture) = choose_own(logits.transpose());
        Self {
            loss: (loss_by_caption + loss_by_picture).mul_scalar(0.5),
            retrieval: (right_by_caption + right_by_picture).mul_scalar(0.5),
        }
    }
}

/// Cross-entropy and share of right choices when row i is to choose column i.
fn choose_own(logits: Tensor<2>) -> (Tensor<1>, Tensor<1>) {
    let [b, _] = logits.dims();
    let own: Tensor<2, Int> = Tensor::<1, Int>::arange(0..b as i64, &logits.device()).reshape([b, 1]);
    let right = logits.clone().detach().argmax(1).equal(own.clone());
    let ln_p = log_softmax(logits, 1).gather(1, own);
    (ln_p.mean().neg(), right.float().mean())
}
