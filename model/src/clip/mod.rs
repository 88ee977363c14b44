//! The contrastive model that chooses among samples (section 2.6): CLIP as in its own paper, arXiv 2103.00020.
//!
//! Two towers lead captions and pictures into one space, where a caption is to be nearer to its own picture than to any other.
//! [`Clip::loss`] is for training; [`Clip::cosines`] scores pictures for captions, [`best_first`] orders them.
//!
//! ```text
//! let scores = clip.cosines(&[&caption], &pictures)?.swap_remove(0);
//! let best = best_first(&scores)[0];
//! ```

mod config;
mod loss;
mod score;
mod tower;

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use dalle_shared::TextToken;

pub use config::{ClipConfig, TowerConfig};
pub use loss::ClipLoss;
pub use score::{ScoreError, best_first};
use tower::{ImageTower, TextTower};

use crate::config::ModelConfig;

/// What cosines are multiplied with before training: a temperature of 0.07.
pub const FIRST_SCALE: f64 = 1.0 / 0.07;
/// The greatest factor, which keeps training stable.
pub const GREATEST_SCALE: f64 = 100.0;

/// The contrastive model.
#[derive(Module, Debug)]
pub struct Clip {
    text: TextTower,
    image: ImageTower,
    /// ln of what cosines are multiplied with, the inverse temperature; `[1]`.
    ln_scale: Param<Tensor<1>>,
}

impl Clip {
    /// A model with random weights for captions and pictures of `model`.
    pub fn new(config: &ClipConfig, model: &ModelConfig, device: &Device) -> Self {
        Self {
            text: TextTower::new(config, model, device),
            image: ImageTower::new(config, model, device),
            ln_scale: Initializer::Constant { value: FIRST_SCALE.ln() }.init([1], device),
        }
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.image.device()
    }

    /// Captions (ids without padding) to vectors of length 1, `[B, E]`.
    ///
    /// # Panics
    /// If a caption is too long, or an id out of range.
    pub fn texts(&self, captions: &[&[TextToken]]) -> Tensor<2> {
        unit(self.text.forward(captions))
    }

    /// Pictures, `[B, 3, side, side]` in 0..1, to vectors of length 1, `[B, E]`.
    ///
    /// # Panics
    /// If they have another size than the model's pictures.
    pub fn images(&self, pictures: Tensor<4>) -> Tensor<2> {
        unit(self.image.forward(pictures))
    }

    /// How well a batch of pairs is told apart; caption i belongs to picture i.
    ///
    /// # Panics
    /// As [`texts`](Self::texts) and [`images`](Self::images).
    pub fn loss(&self, captions: &[&[TextToken]], pictures: Tensor<4>) -> ClipLoss {
        let cosines = self.texts(captions).matmul(self.images(pictures).transpose());
        ClipLoss::new(cosines * self.scale().unsqueeze())
    }

    /// What cosines are multiplied with in the loss, `[1]`.
    pub fn scale(&self) -> Tensor<1> {
        self.ln_scale.val().exp()
    }

    /// The model with its [`scale`](Self::scale) at most [`GREATEST_SCALE`]: to be called after each update, as CLIP does. (Bounded
    /// in the loss instead, a scale beyond the bound would have no gradient to lead it back.)
    #[must_use]
    pub fn within_bounds(mut self) -> Self {
        self.ln_scale = self.ln_scale.map(|ln_scale| {
            let tracked = ln_scale.is_autodiff();
            let bounded = ln_scale.inner().clamp_max(GREATEST_SCALE.ln());
            if tracked { Tensor::from_inner(bounded).require_grad() } else { bounded }
        });
        self
    }
}

/// Rows divided by their lengths.
fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt();
    x / length
}
