//! The networks of "Zero-Shot Text-to-Image Generation" (arXiv 2102.12092), without I/O.
//!
//! Architecture invariant: this crate does no I/O and starts no thread. It builds natively (CPU, CUDA, wgpu) and for wasm32
//! (WebGPU): training, the server and the browser use the same code. Files, devices and memory are the job of the
//! crate `dalle-native`.
//!
//! - [`config`]: one typed configuration for a model of any size
//! - [`dvae`]: stage 1, images to tokens and back
//! - [`prior`]: stage 2, the transformer over `[text | image]`
//! - [`clip`]: CLIP, which scores samples for reranking
//! - [`transformer`]: the layers of the prior and CLIP
//! - [`precision`]: the types `f32`, `bf16` and `f16` by name
//! - [`footprint`]: parameters, memory and FLOPs of a model
//! - `sample`, natively: priors for the sampling loop of `dalle-sampler`
//! - [`weights`]: safetensors bytes to modules and back

pub mod clip;
pub mod dvae;
#[cfg(not(target_arch = "wasm32"))]
pub mod footprint;
pub mod precision;
pub mod prior;
#[cfg(not(target_arch = "wasm32"))]
pub mod sample;
pub mod transformer;
pub mod weights;

/// Whether `dalle-kernels` computes on this device instead of Burn: on the CPU without LibTorch.
#[cfg(not(target_arch = "wasm32"))]
pub fn has_kernels(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

pub use burn;
pub use burn::tensor::Device;
pub use dalle_files::config;
