//! The networks of "Zero-Shot Text-to-Image Generation" (arXiv 2102.12092): bytes in, tensors out.
//!
//! Architecture invariant: this crate does no I/O and starts no thread. It builds natively (CPU, CUDA, wgpu) and for
//! wasm32 (WebGPU, wasm SIMD), and is the same network in training, on the server and in the browser.

pub mod config;
