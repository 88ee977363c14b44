//! The networks of "Zero-Shot Text-to-Image Generation" (arXiv 2102.12092): bytes in, tensors out.
//!
//! Architecture invariant: this crate does no I/O and starts no thread. It builds natively (CPU, CUDA, wgpu) and for
//! wasm32 (WebGPU, wasm SIMD), and is the same network in training, on the server and in the browser.
//!
//! - [`config`]: one typed configuration for a model of any size
//! - [`device`]: `cpu`, `cuda:N`, `wgpu` as a person writes them
//! - [`dvae`]: stage 1, pictures to tokens and back
//! - [`prior`]: stage 2, the transformer over `[text | image]`
//! - [`clip`]: the contrastive model that chooses among samples
//! - [`sample`]: the sampling loop
//! - [`weights`]: safetensors bytes to modules and back

pub mod clip;
pub mod config;
pub mod device;
pub mod dvae;
pub mod prior;
pub mod sample;
pub mod weights;

pub use burn;
pub use burn::tensor::Device;
