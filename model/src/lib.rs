//! The networks of "Zero-Shot Text-to-Image Generation" (arXiv 2102.12092): bytes in, tensors out.
//!
//! Architecture invariant: this crate does no I/O, but for asking a device how much memory it has, and starts no thread. It builds natively (CPU, CUDA, wgpu) and for
//! wasm32 (WebGPU, wasm SIMD), and is the same network in training, on the server and in the browser.
//!
//! - [`config`]: one typed configuration for a model of any size
//! - [`device`]: `cpu`, `cuda:N`, `wgpu` as a person writes them
//! - [`dvae`]: stage 1, pictures to tokens and back
//! - [`memory`]: what a device has free, and the refusal of what cannot fit
//! - [`plan`]: what a model costs in memory and arithmetic
//! - [`precision`]: `f32`, `bf16`, `f16` as a person writes them
//! - [`prior`]: stage 2, the transformer over `[text | image]`
//! - [`clip`]: the contrastive model that chooses among samples
//! - [`sample`]: the sampling loop
//! - [`weights`]: safetensors bytes to modules and back

pub mod clip;
pub mod config;
pub mod device;
pub mod dvae;
#[cfg(not(target_arch = "wasm32"))]
pub mod memory;
pub mod plan;
pub mod precision;
pub mod prior;
pub mod sample;
pub mod weights;

pub use burn;
pub use burn::tensor::Device;
