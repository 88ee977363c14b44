//! The dVAE on the CPU.
//!
//! [`DvaeNetwork`] lists the parameters, by the paths that they have in `dalle-model`. [`Decoder`] turns tokens into pixels and
//! [`Encoder`] pixels into tokens; [`DvaeUpdate`] computes losses and gradients of a batch, forward and backward written out by hand.

#[cfg(not(target_arch = "wasm32"))]
mod backward;
mod bands;
mod decoder;
mod encoder;
#[cfg(not(target_arch = "wasm32"))]
mod forward;
mod layers;
#[cfg(not(target_arch = "wasm32"))]
mod memory;
mod network;
mod run;
mod team;
#[cfg(not(target_arch = "wasm32"))]
mod update;
#[cfg(not(target_arch = "wasm32"))]
mod weights;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use network::{DvaeNetwork, DvaeSizes, InferenceValues};
#[cfg(not(target_arch = "wasm32"))]
pub use update::{DvaeLosses, DvaeUpdate, Evaluation, ImageNoise};

/// ε of φ(x) = (1 − 2ε)·x/255 + ε, which maps pixels into the support of their distribution (appendix A.3).
const EPSILON: f32 = 0.1;

/// φ of a byte.
pub fn pixel(byte: u8) -> f32 {
    f32::from(byte) / 255.0 * (1.0 - 2.0 * EPSILON) + EPSILON
}
