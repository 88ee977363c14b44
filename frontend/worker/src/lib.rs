//! The decoder worker: tokens in, pixels out, in a Web Worker, so that the page stays fluid; and a person's picture in, its
//! tokens out, so that the picture itself stays on the machine.
//!
//! `static/worker.js` downloads this program, looks for a WebGPU adapter and calls [`browser::run`] with what it found
//! and with the page's first message. From then on the messages of [`dalle_shared::DecoderCommand`] and
//! [`dalle_shared::DecoderReport`] go to and fro. Only [`probe`] builds natively, for its tests.

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
mod loading;
#[cfg(target_arch = "wasm32")]
mod picture;
#[cfg(target_arch = "wasm32")]
mod port;
pub mod probe;
