//! The decoder worker: decodes tokens to pixels in a Web Worker, so that the page stays responsive, and encodes a person's images to
//! tokens, so that they stay on their machine.
//!
//! `static/worker.js` downloads this program, probes the WebGPU adapter and calls [`browser::run`] with the result and the page's
//! first message. The page then sends [`dalle_shared::DecoderCommand`]s and receives [`dalle_shared::DecoderReport`]s. Only
//! [`probe`] builds natively, for its tests.

#[cfg(target_arch = "wasm32")]
pub mod browser;
#[cfg(target_arch = "wasm32")]
mod cache;
#[cfg(target_arch = "wasm32")]
mod download;
#[cfg(target_arch = "wasm32")]
mod encoding;
#[cfg(target_arch = "wasm32")]
mod failure;
#[cfg(target_arch = "wasm32")]
mod image;
#[cfg(target_arch = "wasm32")]
mod loading;
#[cfg(target_arch = "wasm32")]
mod port;
pub mod probe;
