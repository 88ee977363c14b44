//! The evidence lower bound that stage 1 maximises: ln p(x|z) − β·KL(q(z|x) ‖ uniform) (section 2.1, appendices A.2 and A.3).

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Distribution, Tensor};

/// The loss that training minimises: the negated bound, in nats per pixel value.
pub struct DvaeLoss {
    /// −ln p(x|z), `[1]`.
    pub reconstruction: Tensor<1>,
    /// KL(q(z|x) ‖ uniform), not multiplied by β, `[1]`.
    pub kl: Tensor<1>,
}

impl DvaeLoss {
    /// The loss of the decoder's maps `[B, 6, H, W]` for the target `[B, 3, H, W]`, and of the encoder's raw logits
    /// `[B, vocab, H/8, W/8]`.
    ///
    /// Both terms are summed over the image and divided by its H·W·3 values. At the paper's size a nat of KL in each of the 32·32
    /// cells is therefore weighted by β·32²/(256²·3) = β/192.
    ///
    /// # Panics
    /// If the sizes of maps and target differ.
    pub fn new(maps: Tensor<4>, x: Tensor<4>, logits: Tensor<4>) -> Self {
        let values = x.shape().num_elements() as f64;
        Self {
            reconstruction: logit_laplace_nll(maps, x).sum().div_scalar(values),
            kl: kl_to_uniform(logits).sum().div_scalar(values),
        }
    }

    /// The reconstruction term plus β times the KL term, `[1]`.
    pub fn total(&self, beta: f64) -> Tensor<1> {
        self.reconstruction.clone() + self.kl.clone().mul_scalar(beta)
    }
}

/// −ln f(x | μ, b) of the logit-Laplace distribution, value by value.
///
/// `maps` is `[B, 6, H, W]` (μ, then ln b), `x` the target after [`map_pixels`](super::pixels::map_pixels),
/// `[B, 3, H, W]`; so is the result.
///
/// # Panics
/// If the sizes of maps and target differ.
pub fn logit_laplace_nll(maps: Tensor<4>, x: Tensor<4>) -> Tensor<4> {
    let [b, _, height, width] = maps.dims();
    assert_eq!(x.dims(), [b, 3, height, width], "maps and target of different sizes");
    let mu = maps.clone().narrow(1, 0, 3);
    let ln_b = maps.narrow(1, 3, 3);
    let one_minus_x = x.clone().neg().add_scalar(1.0);
    let logit = x.clone().log() - one_minus_x.clone().log();
    let ln_normaliser = (x * one_minus_x).log().add_scalar(2f64.ln());
    (logit - mu).abs() * ln_b.clone().neg().exp() + ln_b + ln_normaliser
}

/// KL(q ‖ uniform) of the codebook distribution of each cell, summed over cells: logits `[B, vocab, H, W] → [B]`.
///
/// Computed from the raw logits, without the relaxation's temperature or noise.
pub fn kl_to_uniform(logits: Tensor<4>) -> Tensor<1> {
    let vocab = logits.dims()[1] as f64;
    let ln_q = log_softmax(logits, 1);
    let kl = ln_q.clone().exp() * ln_q.add_scalar(vocab.ln());
    kl.sum_dims_squeeze(&[1, 2, 3])
}

/// Gumbel noise in the shape of `logits`: −ln(−ln u) with u uniform on (0, 1), from the device's generator.
pub fn gumbel_noise(logits: &Tensor<4>) -> Tensor<4> {
    // 2⁻²⁴ is half of f32's spacing just below 1, so both logarithms stay finite.
    let tiny = 2f64.powi(-24);
    let uniform = Tensor::random(logits.shape(), Distribution::Uniform(tiny, 1.0 - tiny), &logits.device());
    uniform.clamp(tiny, 1.0 - tiny).log().neg().log().neg()
}

/// The Gumbel-softmax relaxation: softmax((logits + noise)/τ) over the codebook, `[B, vocab, H, W]`.
pub fn gumbel_softmax(logits: Tensor<4>, noise: Tensor<4>, tau: f64) -> Tensor<4> {
    softmax((logits + noise).div_scalar(tau), 1)
}
