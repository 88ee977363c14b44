//! Stage 1: the discrete variational autoencoder (section 2.1, appendix A), one file per box of its figure.
//!
//! [`Encoder`] computes logits over the codebook from an image, [`Decoder`] the parameters of the pixels' distribution from tokens.
//! [`loss`] has the relaxation and the loss, and [`pixels`] maps bytes to the distribution's domain and back. Native programs use
//! `ImageEncoder` and `ImageDecoder`, which choose the fastest implementation for the device.

mod decoder;
mod encoder;
#[cfg(not(target_arch = "wasm32"))]
mod images;
mod layers;
pub mod loss;
pub mod pixels;

pub use decoder::{DecodeError, Decoder};
pub use encoder::Encoder;
#[cfg(not(target_arch = "wasm32"))]
pub use images::{ImageDecoder, ImageEncoder, kernel_sizes};

use burn::module::Module;
use burn::tensor::Device;

use crate::config::DvaeConfig;

/// Encoder and decoder, trained together.
#[derive(Module, Debug)]
pub struct Dvae {
    /// q(z|x).
    pub encoder: Encoder,
    /// p(x|z).
    pub decoder: Decoder,
}

impl Dvae {
    /// A dVAE with random weights.
    pub fn new(config: &DvaeConfig, device: &Device) -> Self {
        Self { encoder: Encoder::new(config, device), decoder: Decoder::new(config, device) }
    }
}
