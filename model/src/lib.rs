//! The networks of "Zero-Shot Text-to-Image Generation" (arXiv 2102.12092): bytes in, tensors out.
//!
//! Architecture invariant: this crate does no I/O and starts no thread. It builds natively (CPU, CUDA, wgpu) and for wasm32
//! (WebGPU, wasm SIMD), and is the same network in training, on the server and in the browser. Files, devices and memory belong
//! to the crate `dalle-native`.
//!
//! - [`config`]: one typed configuration for a model of any size
//! - [`dvae`]: stage 1, images to tokens and back
//! - [`prior`]: stage 2, the transformer over `[text | image]`
//! - [`clip`]: CLIP, which ranks samples
//! - [`transformer`]: the layers that the prior and CLIP are made of
//! - [`precision`]: the types `f32`, `bf16` and `f16` by name
//! - [`footprint`]: what a model costs in memory and arithmetic
//! - [`sample`]: the sampling loop
//! - [`weights`]: safetensors bytes to modules and back

pub mod clip;
pub mod config;
pub mod dvae;
pub mod footprint;
pub mod precision;
pub mod prior;
pub mod sample;
pub mod transformer;
pub mod weights;

pub use burn;
pub use burn::tensor::Device;
