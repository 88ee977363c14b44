//! CLIP (arXiv 2103.00020), the contrastive model that reranks samples (section 2.6).
//!
//! Two towers embed captions and images in a joint space, in which a caption should be nearer to its own image than to any other.
//! [`Clip::loss`] is for training; [`Clip::cosines`] scores images for captions, and [`best_first`] ranks them.
//!
//! ```text
//! let scores = clip.cosines(&[&caption], &images)?.swap_remove(0);
//! let best = best_first(&scores)[0];
//! ```

mod config;
#[cfg(not(target_arch = "wasm32"))]
mod kernels;
mod loss;
mod score;
mod tower;

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use dalle_shared::{RequestError, TextToken};

pub use config::{ClipConfig, TowerConfig};
#[cfg(not(target_arch = "wasm32"))]
pub use kernels::kernel_sizes;
pub use loss::ClipLoss;
pub use score::{ScoreError, best_first};
use tower::{ImageTower, TextTower};

use crate::config::ModelConfig;

/// Initial factor of the cosines, a temperature of 0.07.
pub const INITIAL_SCALE: f64 = 1.0 / 0.07;
/// Largest factor of the cosines; it keeps training stable.
pub const MAX_SCALE: f64 = 100.0;

/// CLIP.
#[derive(Module, Debug)]
pub struct Clip {
    text: TextTower,
    image: ImageTower,
    /// Natural logarithm of the factor of the cosines (the inverse temperature), `[1]`.
    ln_scale: Param<Tensor<1>>,
}

impl Clip {
    /// A CLIP with random weights for the captions and images of `model`.
    pub fn new(config: &ClipConfig, model: &ModelConfig, device: &Device) -> Self {
        Self {
            text: TextTower::new(config, model, device),
            image: ImageTower::new(config, model, device),
            ln_scale: Initializer::Constant { value: INITIAL_SCALE.ln() }.init([1], device),
        }
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.image.device()
    }

    /// Embeds B captions (ids without padding) as unit vectors, `[B, E]`.
    ///
    /// # Errors
    /// A caption is too long, or an id is not in the vocabulary.
    pub fn texts(&self, captions: &[&[TextToken]]) -> Result<Tensor<2>, RequestError> {
        Ok(unit(self.text.forward(captions)?))
    }

    /// Embeds images, `[B, 3, side, side]` in 0..1, as unit vectors, `[B, E]`.
    ///
    /// # Panics
    /// If the images do not have the model's size.
    pub fn images(&self, images: Tensor<4>) -> Tensor<2> {
        unit(self.image.forward(images))
    }

    /// The loss of B pairs: caption i (ids without padding) belongs to image i of `[B, 3, side, side]` in 0..1.
    ///
    /// # Errors
    /// As [`texts`](Self::texts).
    ///
    /// # Panics
    /// As [`images`](Self::images).
    pub fn loss(&self, captions: &[&[TextToken]], images: Tensor<4>) -> Result<ClipLoss, RequestError> {
        let cosines = self.texts(captions)?.matmul(self.images(images).transpose());
        Ok(ClipLoss::new(cosines * self.scale().unsqueeze()))
    }

    /// The factor of the cosines in the loss, `[1]`.
    pub fn scale(&self) -> Tensor<1> {
        self.ln_scale.val().exp()
    }

    /// The model with its [`scale`](Self::scale) clamped to at most [`MAX_SCALE`]. Called after each update, as in CLIP's released
    /// code: clamping in the loss instead would give larger scales no gradient.
    #[must_use]
    pub fn clamp_scale(mut self) -> Self {
        self.ln_scale = self.ln_scale.map(|ln_scale| {
            // In training it is tracked like the other weights. (Burn for the browser cannot train.)
            #[cfg(not(target_arch = "wasm32"))]
            let strategy = ln_scale.gradient_checkpointing_strategy();
            let clamped = ln_scale.inner().clamp_max(MAX_SCALE.ln());
            #[cfg(not(target_arch = "wasm32"))]
            if let Some(strategy) = strategy {
                let clamped = Tensor::from_inner(clamped);
                return clamped.with_gradient_checkpointing_strategy(strategy).require_grad();
            }
            clamped
        });
        self
    }
}

/// Normalises rows to length 1.
pub fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt();
    x / length
}
