//! The decoder worker: decodes tokens to pixels in a Web Worker, so that the page stays responsive, and encodes the user's images
//! to tokens, so that they never leave the browser.
//!
//! There are two programs. `dalle-decoder-cpu` is small and starts first; `dalle-decoder-webgpu` is loaded where the browser has a
//! GPU. Each implements [`Program`] and calls [`run`], which serves the page. `static/worker.js` downloads the program that
//! the page asks for, probes the WebGPU adapter and calls `run` with the result and the page's first message. The page then sends
//! [`dalle_shared::DecoderCommand`]s and receives [`dalle_shared::DecoderReport`]s. Only [`probe`] builds natively, for its tests.

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
#[cfg(target_arch = "wasm32")]
mod program;
#[cfg(target_arch = "wasm32")]
mod serving;

#[cfg(target_arch = "wasm32")]
pub use failure::{Failure, set_on_gpu};
#[cfg(target_arch = "wasm32")]
pub use program::Program;
#[cfg(target_arch = "wasm32")]
pub use serving::run;
